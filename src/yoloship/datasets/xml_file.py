"""Reads a small XML file from a stranger: `parse_xml`.

There are elements and their texts, nothing else. A document type declaration is refused as soon as it begins, and with
it go external entities and entities that multiply; the depth, the number and the texts of elements are limited.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from yoloship._util.text import shortened
from yoloship.errors import InputError

MAX_DEPTH: Final = 20
MAX_ELEMENTS: Final = 200_000
MAX_TEXT_CHARS: Final = 10_000


@dataclass(slots=True, eq=False)
class Element:
    """An element. It is filled while it is read, and not changed afterwards.

    Attributes:
        name: Its name.
        line: Where it begins, from 1.
        text: The text directly inside it, without spaces around.
        children: The elements inside it.
    """

    name: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def child(self, name: str) -> Element | None:
        """The first element inside it of that name."""
        return next((child for child in self.children if child.name == name), None)

    def text_of(self, name: str) -> str:
        """The text of the first element inside it of that name; empty if there is none."""
        found = self.child(name)
        return "" if found is None else found.text


def parse_xml(data: bytes, *, subject: str) -> Element:
    """Read an XML document.

    Args:
        data: Untrusted.
        subject: The file, for messages.

    Returns:
        Its outermost element.

    Raises:
        InputError: it is not well-formed, has a document type declaration, or exceeds a limit. The line is named.
    """
    from xml.parsers import expat

    parser = expat.ParserCreate()
    builder = _Builder(subject, parser)
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.StartDoctypeDeclHandler = builder.refuse_doctype
    try:
        parser.Parse(data, True)  # the last piece
    except expat.ExpatError as failure:
        problem = expat.ErrorString(failure.code)
        raise InputError("is not XML", subject=f"{subject}, line {failure.lineno}", got=problem) from failure
    except (ValueError, LookupError) as failure:  # an encoding that Python does not have
        raise InputError("is not XML", subject=subject, got=shortened(str(failure))) from failure
    assert builder.root is not None  # a document without an element is not well-formed
    return builder.root


class _Builder:
    """Takes expat's events."""

    def __init__(self, subject: str, parser: object) -> None:
        self.root: Element | None = None
        self._subject = subject
        self._parser = parser
        self._open: list[Element] = []
        self._count = 0

    @property
    def _line(self) -> int:
        return int(self._parser.CurrentLineNumber)  # type: ignore[attr-defined]  # of expat's parser

    def _wrong(self, problem: str, expected: str) -> InputError:
        return InputError(problem, subject=f"{self._subject}, line {self._line}", expected=expected)

    def refuse_doctype(self, *_: object) -> None:
        raise self._wrong("has a document type declaration", "none: entities are not read")

    def start(self, name: str, _attributes: object) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise self._wrong("has too many elements", f"at most {MAX_ELEMENTS:,}")
        if len(self._open) >= MAX_DEPTH:
            raise self._wrong("is nested too deeply", f"at most {MAX_DEPTH} levels")
        element = Element(name, self._line)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _name: str) -> None:
        element = self._open.pop()
        element.text = element.text.strip()

    def characters(self, text: str) -> None:
        element = self._open[-1]
        if len(element.text) + len(text) > MAX_TEXT_CHARS:
            raise self._wrong(f"has too much text in <{shortened(element.name, 40)}>", f"at most {MAX_TEXT_CHARS:,}")
        element.text += text
