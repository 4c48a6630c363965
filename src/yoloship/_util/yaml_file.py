"""Reads a small YAML file from a stranger as plain data: `read_yaml`.

PyYAML splits the text into events; what they mean is decided here. So there are no tags, no objects, no aliases (a few
lines of which can stand for gigabytes), and no key that silently replaces an earlier one. Numbers and words are those
of the core schema of YAML 1.2: ``yes``, ``no``, ``on`` and ``off`` are text, as is a date, a number in another base or
one with leading zeros.

Source: YAML 1.2.2, section 10.3.
"""

from __future__ import annotations

import re
from contextlib import closing
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from yoloship._util.reading import read_text
from yoloship._util.text import shortened
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator
    from pathlib import Path

Plain: TypeAlias = "dict[str | int, Plain] | list[Plain] | str | int | float | bool | None"
"""What a file may hold."""

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 20
MAX_NODES: Final = 200_000
_WHOLE: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.A)
_NUMBER: Final = re.compile(r"[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,3})?", re.A)
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]", re.A)
_WORDS: Final = MappingProxyType(
    {
        **dict.fromkeys(("", "~", "null", "Null", "NULL")),
        **dict.fromkeys(("true", "True", "TRUE"), True),
        **dict.fromkeys(("false", "False", "FALSE"), False),
    }
)


def read_yaml(
    path: Path, *, wanted: str = "a YAML file", as_text: Collection[str] = (), limit_bytes: int = MAX_BYTES
) -> dict[str | int, Any]:
    """Read a YAML file that holds one mapping.

    Args:
        path: The file; untrusted.
        wanted: What the file should be, for messages: ``a list of zones``.
        as_text: Keys of the outermost mapping below which every value and key stays text, so that a class may be called
            ``null`` or ``007``.
        limit_bytes: The longest file to accept.

    Returns:
        The mapping: values are mappings, lists, texts, numbers, true, false and None. Numbers are finite.

    Raises:
        InputError: the file cannot be read, is not valid YAML, is not one mapping, or holds an alias, a tag, a repeated
            key, or more than the limits. The line is named.
    """
    text = read_text(path, limit_bytes, error=InputError, wanted=wanted)
    return parse_yaml(text, subject=str(path), as_text=as_text)


def parse_yaml(text: str, *, subject: str, as_text: Collection[str] = ()) -> dict[str | int, Any]:
    """`read_yaml` of text that was read already.

    Args:
        text: The YAML; untrusted.
        subject: The file that it came from, for messages.
        as_text: As for `read_yaml`.

    Raises:
        InputError: as for `read_yaml`.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C library's parser, if PyYAML was built with it
    try:
        with closing(_events(text, loader)) as events:
            data = _Composer(events, subject, frozenset(as_text)).document()
    except yaml.YAMLError as failure:
        mark = getattr(failure, "problem_mark", None)
        place = subject if mark is None else f"{subject}, line {mark.line + 1}"
        problem = getattr(failure, "problem", None) or str(failure)
        raise InputError("is not valid YAML", subject=place, got=shortened(str(problem), 100)) from failure
    if not isinstance(data, dict):
        raise InputError("is not a mapping", subject=subject, expected="lines like 'key: value'")
    return data


def _events(text: str, loader: Any) -> Generator[Any]:
    import yaml

    yield from yaml.parse(text, Loader=loader)


class _Composer:
    """Makes plain data of the events of a document.

    Args:
        events: Of PyYAML.
        subject: The file, for messages.
        as_text: Keys of the outermost mapping below which all is text.
    """

    def __init__(self, events: Iterator[Any], subject: str, as_text: frozenset[str]) -> None:
        self._events = events
        self._subject = subject
        self._as_text = as_text
        self._nodes = 0

    def document(self) -> Any:
        """The only document of the stream; None if it has none."""
        names = [type(next(self._events)).__name__]
        event = next(self._events)
        if type(event).__name__ == "StreamEndEvent":
            return None
        names.append(type(event).__name__)
        assert names == ["StreamStartEvent", "DocumentStartEvent"], names
        data = self._node(next(self._events), 0, is_text=False)
        next(self._events)  # the end of the document
        event = next(self._events)
        if type(event).__name__ != "StreamEndEvent":
            raise self._wrong(event, "begins a second document", "one document")
        return data

    def _node(self, event: Any, depth: int, *, is_text: bool) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._wrong(event, "has too many values", f"at most {MAX_NODES:,}")
        if depth > MAX_DEPTH:
            raise self._wrong(event, "is nested too deeply", f"at most {MAX_DEPTH} levels")
        kind = type(event).__name__
        if kind == "AliasEvent":
            raise self._wrong(event, f"has the alias *{event.anchor}", "no aliases", "write the value out")
        if event.tag not in {None, "!"}:
            raise self._wrong(event, f"has the tag {event.tag}", "no tags")
        if kind == "ScalarEvent":
            plain = event.style is None or event.implicit[0]
            return _scalar(event.value) if plain and not is_text else event.value
        if kind == "SequenceStartEvent":
            return self._list(depth, is_text=is_text)
        return self._mapping(depth, is_text=is_text)

    def _list(self, depth: int, *, is_text: bool) -> list[Any]:
        items: list[Any] = []
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            items.append(self._node(event, depth + 1, is_text=is_text))
        return items

    def _mapping(self, depth: int, *, is_text: bool) -> dict[str | int, Any]:
        items: dict[str | int, Any] = {}
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            key = self._node(event, depth + 1, is_text=is_text)
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise self._wrong(event, "has a key that is neither text nor a whole number", "a plain key")
            if key in items:
                raise self._wrong(event, f"has the key {shortened(str(key))!r} twice", "each key once")
            below = is_text or (depth == 0 and key in self._as_text)
            items[key] = self._node(next(self._events), depth + 1, is_text=below)
        return items

    def _wrong(self, event: Any, problem: str, expected: str, hint: str | None = None) -> InputError:
        place = f"{self._subject}, line {event.start_mark.line + 1}"
        return InputError(problem, subject=place, expected=expected, hint=hint)


def _scalar(text: str) -> str | int | float | bool | None:
    """The value of a scalar without quotes."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and not _LEADING_ZERO.match(text):
        number = float(text)
        return number if abs(number) < float("inf") else text
    return text
