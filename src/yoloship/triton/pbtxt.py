"""Writes protocol buffers in their text form, in which Triton reads the configuration of a model.

Source: the text format specification of Protocol Buffers (protobuf.dev, "Text Format Language Specification"): strings
are in double quotes, and an escape is a backslash and three octal digits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_INDENT: Final = "  "


class Word(str):
    """The name of a value of an enumeration, which is not in quotes: ``TYPE_FP32``."""

    __slots__ = ()


Message: TypeAlias = "Sequence[Field]"
"""The fields of a message, in the order in which they are written. A repeated field is there several times."""
Value: TypeAlias = "bool | int | float | str | Message"
Field: TypeAlias = tuple[str, Value]


def to_text(message: Message) -> str:
    """The text of a message, a field a line.

    Args:
        message: Its fields.

    Raises:
        InputError: a number is not finite, or a text has a lone surrogate, which is not valid text.
    """
    return "".join(f"{line}\n" for line in _lines(message, ""))


def quoted(text: str) -> str:
    """A text in quotes: printable ASCII as it is, every other byte of its UTF-8 as three octal digits.

    Raises:
        InputError: it has a lone surrogate.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise InputError("is not valid text", subject=ascii(text[:60]), got=ascii(text[error.start])) from error
    return f'"{"".join(map(_character, data))}"'


def _lines(message: Message, indent: str) -> Iterator[str]:
    for name, value in message:
        if isinstance(value, str):
            yield f"{indent}{name}: {value if isinstance(value, Word) else quoted(value)}"
        elif isinstance(value, bool):
            yield f"{indent}{name}: {'true' if value else 'false'}"
        elif isinstance(value, int | float):
            if not math.isfinite(value):
                raise InputError("is not a finite number", subject=name, got=str(value))
            yield f"{indent}{name}: {value!r}"
        else:
            yield f"{indent}{name} {{"
            yield from _lines(value, indent + _INDENT)
            yield f"{indent}}}"


def _character(byte: int) -> str:
    character = chr(byte)
    if character in {'"', "\\"}:
        return f"\\{character}"
    return character if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
