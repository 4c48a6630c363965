"""Class ids from what users give: ids, names, or both."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable


def class_ids_of(classes: Iterable[int | str], names: tuple[str, ...]) -> list[int]:
    """Class ids from a mixture of ids and names.

    Args:
        classes: Ids as integers, or names; a string of digits that is not a name counts as an id.
        names: The model's class names.

    Raises:
        InputError: a name or an id is not a class of the model.
    """
    if isinstance(classes, str):
        raise InputError("wrong type", subject="classes", expected="several ids or names", got=repr(classes)[:60])
    ids: list[int] = []
    for wanted in classes:
        if isinstance(wanted, str) and wanted in names:
            ids.extend(i for i, name in enumerate(names) if name == wanted)
            continue
        text = str(wanted)
        if not _is_id(text) or (names and int(text) >= len(names)):
            raise _no_such_class(text, names)
        ids.append(int(text))
    return ids


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9


def _no_such_class(text: str, names: tuple[str, ...]) -> InputError:
    if not names:
        return InputError("no such class", subject=text, expected="a class id")
    ids = f"an id from 0 to {len(names) - 1}"
    if text.lstrip("-").isdecimal():
        return InputError("no such class", subject=text, expected=ids)
    sample = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    close = get_close_matches(text, names[:1000], n=1)
    hint = f"did you mean {close[0]!r}?" if close else None
    return InputError("no such class", subject=text, expected=f"one of {sample}, or {ids}", hint=hint)
