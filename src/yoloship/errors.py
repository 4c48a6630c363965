"""The errors, grouped by what the caller can do next, and `visible`, which makes text from files safe to show.

YoloshipError            everything below; ``except YoloshipError`` catches whatever yoloship raises on purpose
├── InputError           a wrong request: a missing file, a bad argument, options that contradict one another
│   └── ImageError       an image that cannot be decoded, or exceeds a limit
├── CheckpointError      the content of a file: it is not a checkpoint, or cannot be read safely
├── GraphError           the content of a file: a network or an ONNX file that cannot become the requested graph
├── EngineError          a TensorRT engine that cannot be built, or does not match what is installed here
├── SessionError         a runtime that refuses a model, or fails while it runs
├── OutputError          a result that cannot be written
├── DownloadError        weights that cannot be downloaded, or do not match their checksum
├── DependencyError      an optional package that is needed but not installed
└── CudaError            a CUDA call that failed, with its code and name

In every function, a file that does not exist and an argument that is out of range raise `InputError`. The other classes
say what is wrong with something that exists.

Each message is one line: the object, the problem, what was expected, what was found, and the next step. The same facts
are attributes, so that a program does not have to parse the message.

Class names, metadata and file names are untrusted. They may contain escape sequences, control characters (C0, C1, DEL),
marks that change the direction of text, characters without width, and lone surrogates, which are not valid text. Two
places have to make such text safe: error messages, and everything that is printed. Both use `visible`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_SHOWN: Final = frozenset({"Zs"})
"""Spaces of other widths. Japanese file names contain them, but `str.isprintable` is False for them."""

_SUSPECT: Final = re.compile(r"[^ -~]")
_UNSAFE_IN_JSON: Final = re.compile(
    "[\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def visible(text: str, *, keep: str = "") -> str:
    r"""Text for a terminal or a log: ``\x1b`` stands for the character that begins an escape sequence.

    Args:
        text: Anything.
        keep: Control characters to leave as they are, such as a newline.
    """
    if text.isascii() and text.isprintable():
        return text
    unsafe = (
        letter
        for letter in set(_SUSPECT.findall(text)).difference(keep)
        if not letter.isprintable() and unicodedata.category(letter) not in _SHOWN
    )
    return text.translate({ord(letter): _escape(letter) for letter in unsafe})


def visible_json(document: str) -> str:
    r"""A JSON document with every control character, direction mark and lone surrogate as ``\uXXXX``.

    Args:
        document: As `json.dumps` writes it. The characters that are escaped here can only be inside its strings.
    """
    return _UNSAFE_IN_JSON.sub(lambda match: "".join(f"\\u{unit:04x}" for unit in _utf16(match[0])), document)


def _escape(letter: str) -> str:
    number = ord(letter)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _utf16(letter: str) -> tuple[int, ...]:
    units = letter.encode("utf-16-be", "surrogatepass")
    return tuple(int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))


class YoloshipError(Exception):
    """Base class of all errors that yoloship raises on purpose.

    Args:
        problem: What went wrong, without the object's name in front.
        subject: The object that the error is about: a path, a node, a tensor, an option.
        expected: What would have been right.
        got: What was there instead.
        hint: The next step for the user.
    """

    def __init__(
        self,
        problem: str,
        *,
        subject: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.subject = subject
        self.expected = expected
        self.got = got
        self.hint = hint

    def __str__(self) -> str:
        facts = [
            f"{word} {value}" for word, value in (("expected", self.expected), ("got", self.got)) if value is not None
        ]
        text = self.problem
        if facts:
            text += f": {', '.join(facts)}"
        if self.hint:
            text += f"; {self.hint}"
        text = visible(" ".join(text.split()))
        return f"{_name(self.subject)}: {text}" if self.subject else text


def _name(subject: str) -> str:
    """A subject unchanged, because it may be a file's name; in quotes if it would not be visible without them."""
    return visible(subject) if subject.strip() == subject else f"'{visible(subject)}'"


class CheckpointError(YoloshipError):
    """A file that is not a checkpoint, or cannot be read safely."""


class GraphError(YoloshipError):
    """A network, or an ONNX file, that cannot become the requested graph."""


class EngineError(YoloshipError):
    """A TensorRT engine that cannot be built, or does not match what is installed here."""


class SessionError(YoloshipError):
    """A runtime that refuses a model, or fails while it runs."""


class InputError(YoloshipError):
    """A wrong request: a missing file, a bad argument, or options that contradict one another."""


class ImageError(InputError):
    """An image that cannot be decoded, or exceeds a limit."""


class OutputError(YoloshipError):
    """A result that cannot be written."""


class DownloadError(YoloshipError):
    """Weights that cannot be downloaded, or do not match their checksum."""


class DependencyError(YoloshipError):
    """An optional package that is needed but not installed."""


class CudaError(YoloshipError):
    """A CUDA call that failed.

    Args:
        code: The numeric error code that the driver or the runtime returned.
        name: The error's symbolic name, such as ``CUDA_ERROR_OUT_OF_MEMORY``.
        problem: What went wrong, without the object's name in front.
        subject: The call or the object that the error is about.
        expected: What would have been right.
        got: What was there instead.
        hint: The next step for the user.
    """

    def __init__(  # noqa: PLR0913 - the base's five facts and CUDA's two
        self,
        problem: str,
        *,
        code: int | None = None,
        name: str | None = None,
        subject: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(problem, subject=subject, expected=expected, got=got, hint=hint)
        self.code = code
        self.name = name
