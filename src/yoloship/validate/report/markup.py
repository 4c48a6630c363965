"""HTML that is escaped by construction: text becomes markup in one place, `tag`.

Class names and file names are what strangers wrote. Whatever is not `Markup` already is text, and is escaped.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Final

from yoloship.errors import visible

if TYPE_CHECKING:
    from collections.abc import Iterable


_VOID: Final = frozenset({"br", "input", "meta", "img"})
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9:-]*")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = object
"""`Markup` is written as it is, None is nothing, a list or a tuple is its items, and the rest is text."""


def text(value: object) -> Markup:
    """Escape a text; letters that control a terminal or the direction of text become visible.

    Args:
        value: Whatever `str` takes.
    """
    return value if isinstance(value, Markup) else Markup(escape(visible(str(value)), quote=True))


def tag(name: str, /, *content: Content, **attributes: object) -> Markup:
    """An element.

    Args:
        name: Its name.
        *content: What is in it.
        **attributes: Names and values; ``_`` in a name becomes ``-``, and one at its end is dropped (``class_``). None
            leaves the attribute out, and True gives it no value.
    """
    assert _NAME.fullmatch(name)
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        plain = key.rstrip("_").replace("_", "-")
        assert _NAME.fullmatch(plain)
        parts.append(f" {plain}" if value is True else f' {plain}="{text(value)}"')
    if name in _VOID:
        return Markup("".join([*parts, ">"]))
    return Markup("".join([*parts, ">", joined(content), f"</{name}>"]))


def joined(content: Iterable[Content]) -> Markup:
    """Several contents, one after another.

    Args:
        content: As `Content` says.
    """
    return Markup("".join(_piece(one) for one in content))


def _piece(content: Content) -> str:
    if content is None:
        return ""
    if isinstance(content, list | tuple):
        return joined(content)
    return text(content)
