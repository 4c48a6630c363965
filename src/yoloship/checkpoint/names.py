"""Class names: every form in which they are unambiguous is taken, and of every other the reason is kept.

A checkpoint whose names cannot be used is still a good network. So nothing here raises for what a file says; the
reason travels with the checkpoint, and becomes an error if somebody needs the names and gives no others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from yoloship._util.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from yoloship.checkpoint.limits import Limits
    from yoloship.checkpoint.records import Value

MAX_NAME_CHARS = 1000
_BRACKETS = {"{": "}", "[": "]", "(": ")"}
_BARE = r"[^\s,'\":{}\[\]()][^,'\":{}\[\]()]*"
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_SPACE = re.compile(r"\s*")
_KEY = re.compile(rf"({_QUOTED}|\d{{1,9}})\s*:", re.DOTALL)
_NAME = re.compile(rf"({_QUOTED}|{_BARE})", re.DOTALL)
"""Parts of a text, each matched where the last one ended, so that no text makes them try again and again."""


class ClassNames(NamedTuple):
    """Names by class id, or why there are none."""

    names: tuple[str, ...] = ()
    problem: str | None = None


class _UnusableError(Exception):
    """Why a value is not a list of class names."""


def read_names(value: Value, classes: int | None, limits: Limits) -> ClassNames:
    """Take class names out of whatever a file has for them.

    Args:
        value: A list, a tuple or an array of names; a table by id, the ids being numbers or texts of digits; a table
            from name to id; one of these written out as text; names separated by commas or lines. None if the file
            has no names: classes are then numbered.
        classes: How many classes the network has; None if it does not say.
        limits: Bounds on their number and length.

    Returns:
        The names, or why they cannot be used.
    """
    try:
        if value is None:
            return ClassNames(_numbered(classes, limits))
        return ClassNames(_checked(_listed(value, classes), classes, limits))
    except _UnusableError as reason:
        return ClassNames((), str(reason))


def _numbered(classes: int | None, limits: Limits) -> tuple[str, ...]:
    if classes is None or not 0 <= classes <= limits.class_names:
        raise _UnusableError("says neither its class names nor how many classes it has")
    return tuple(f"class{index}" for index in range(classes))


def _checked(names: Sequence[str], classes: int | None, limits: Limits) -> tuple[str, ...]:
    if classes is not None and len(names) != classes:
        raise _UnusableError(f"has {counted(len(names), 'class name')} for {counted(classes, 'class', 'classes')}")
    if len(names) > limits.class_names:
        raise _UnusableError(f"has more than {limits.class_names} class names")
    if sum(map(len, names)) > limits.class_name_chars:
        raise _UnusableError(f"has class names of more than {limits.class_name_chars} characters together")
    return tuple(names)


def _listed(value: Value, classes: int | None) -> list[str]:
    if isinstance(value, str):
        return _from_text(value, classes)
    if isinstance(value, dict):
        return _by_id([(key, name) for key, name in value.items()])
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise _UnusableError("has class names that are not a list of names")
    return [_name(name) for name in value]


def _by_id(pairs: Iterable[tuple[Value, Value]]) -> list[str]:
    """A table by id, or one from name to id."""
    pairs = list(pairs)
    if pairs and all(isinstance(name, str) and _id(name) is None and type(id_) is int for name, id_ in pairs):
        pairs = [(id_, name) for name, id_ in pairs]
    names: dict[int, Value] = {}
    for key, name in pairs:
        class_id = _id(key)
        if class_id is None:
            raise _UnusableError(f"has a class name whose id is {_short(key)} rather than a number")
        if class_id in names:
            raise _UnusableError(f"has two class names of the id {class_id}")
        names[class_id] = name
    if sorted(names) != list(range(len(names))):
        ids = ", ".join(map(str, sorted(names)[:8])) + (", …" if len(names) > 8 else "")
        raise _UnusableError(f"has class names of the ids {ids} rather than of 0 to {len(names) - 1}")
    return [_name(names[class_id]) for class_id in range(len(names))]


def _id(key: Value) -> int | None:
    if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 10:
        return int(key)
    return key if type(key) is int else None


def _name(name: Value) -> str:
    if isinstance(name, bool | int | float):  # YAML reads `no` and `1` so
        return str(name)
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARS:
        raise _UnusableError(f"has a class name that is not a text of at most {MAX_NAME_CHARS} characters")
    return name


def _from_text(text: str, classes: int | None) -> list[str]:
    """Names in one text: what ``str`` or YAML wrote, or names between commas or in lines."""
    text = text.strip()
    if text[:1] in _BRACKETS and text.endswith(_BRACKETS[text[:1]]):
        return _from_literal(text[1:-1])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and all(line.startswith("- ") for line in lines):
        lines = [line[2:].strip() for line in lines]
        text = "\n".join(lines)
    if text[:1] in ("'", '"') or _KEY.match(text):
        return _from_literal(", ".join(line.rstrip(",") for line in lines))
    for names in (lines, [name.strip() for name in text.strip(",").split(",")]):
        if all(names) and len(names) == classes:
            return [_name(name) for name in names]
    raise _UnusableError(f"has class names that are one text, {_short(text)}, and do not fit its number of classes")


def _from_literal(text: str) -> list[str]:
    """What ``str`` of a list or a table wrote."""
    text = text.rstrip(", \r\n\t")
    pairs: list[tuple[str | None, str]] = []
    at = _after_space(text, 0)
    while at < len(text):
        key = _KEY.match(text, at)
        at = at if key is None else _after_space(text, key.end())
        name = _NAME.match(text, at)
        end = at if name is None else _after_space(text, name.end())
        if name is None or (end < len(text) and text[end] != ","):
            raise _UnusableError(f"has class names in a text that is not a list of names, {_short(text)}")
        pairs.append((None if key is None else _unquoted(key[1]), _unquoted(name[1].rstrip())))
        at = _after_space(text, end + 1)
    keyed = [(key, name) for key, name in pairs if key is not None]
    if keyed and len(keyed) != len(pairs):
        raise _UnusableError("has class names of which only some have an id")
    return _by_id(keyed) if keyed else [_name(name) for _, name in pairs]


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _unquoted(text: str) -> str:
    if text[:1] not in ("'", '"'):
        return text
    inner = re.sub(r"\\(['\"\\])", r"\1", text[1:-1])
    if inner.count("\\") != text[1:-1].count("\\\\"):
        raise _UnusableError(f"has a class name with escapes, {_short(text)}")
    return inner


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
