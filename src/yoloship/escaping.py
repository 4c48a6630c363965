"""Text from files, made safe to show: what could steer a terminal or hide is written as an escape.

Class names, metadata and file names are untrusted. They may hold escape sequences, control characters (C0, C1, DEL),
marks that turn the direction of text, letters of no width, and lone surrogates, which are not text at all. There are
two places where this matters: where errors become text, and where output is written. Both use this module.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_SHOWN: Final = frozenset({"Zs"})
"""Spaces of other widths, which `str.isprintable` refuses and which Japanese file names have."""

_SUSPECT: Final = re.compile(r"[^ -~]")
_UNSAFE_IN_JSON: Final = re.compile(
    "[\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def visible(text: str, *, keep: str = "") -> str:
    r"""Text for a terminal or a log: ``\x1b`` stands for the character that begins an escape sequence.

    Args:
        text: Anything.
        keep: Control characters that are meant, such as a newline.
    """
    if text.isascii() and text.isprintable():
        return text

    def shown(match: re.Match[str]) -> str:
        letter = match[0]
        return letter if letter in keep or _is_visible(letter) else _escape(letter)

    return _SUSPECT.sub(shown, text)


def visible_json(document: str) -> str:
    r"""A JSON document with every control character, direction mark and lone surrogate as ``\uXXXX``.

    Args:
        document: As `json.dumps` writes it; what is escaped here can stand in its strings only.
    """
    return _UNSAFE_IN_JSON.sub(lambda match: "".join(f"\\u{unit:04x}" for unit in _utf16(match[0])), document)


def json_document(data: object, indent: int | None = 2) -> bytes:
    """A JSON document in UTF-8 that is safe to show, with a newline at its end."""
    import json  # not needed for errors, which import this module

    return f"{visible_json(json.dumps(data, indent=indent, ensure_ascii=False))}\n".encode()


def _is_visible(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) in _SHOWN


def _escape(letter: str) -> str:
    number = ord(letter)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _utf16(letter: str) -> tuple[int, ...]:
    units = letter.encode("utf-16-be", "surrogatepass")
    return tuple(int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
