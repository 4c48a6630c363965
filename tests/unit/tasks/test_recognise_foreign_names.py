from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloship.tasks.recognise import MAX_CHARS, parse_names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{0: 'person', 1: 'bicycle'}", ("person", "bicycle")),
        ("['person', 'bicycle']", ("person", "bicycle")),
        ('{"0": "person", "1": "bicycle"}', ("person", "bicycle")),
        ('["person"]', ("person",)),
        ("{1: 'b', 0: 'a'}", ("a", "b")),
        ("""{0: "driver's seat", 1: 'a, b: {c}'}""", ("driver's seat", "a, b: {c}")),
        (r"{0: 'na\u00efve \'q\'', 1: '雨☂'}", ("naïve 'q'", "雨☂")),
        (" {0:'a',1:'b',} ", ("a", "b")),
        ("('a', 'b')", ("a", "b")),
        ("[1, 2]", ("1", "2")),
        ("{0: traffic light, 1: dog}", ("traffic light", "dog")),
        (json.dumps(["😀", "a/b"]).replace("/", r"\/"), ("😀", "a/b")),
    ],
)
def test_the_forms_that_tools_write_are_read(text: str, names: tuple[str, ...]) -> None:
    assert parse_names(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "person",
        "{0: 'a', 2: 'c'}",
        "{0: 'a', 0: 'b'}",
        "{0: __import__('os')}",
        "{0: 'a' 'b'}",
        "[['a']]",
        "{0: 'a'",
        "{0: '\\N{no such name}'}",
        "[" * 5000 + "]" * 5000,
        "{" + "0: 'a', " * (MAX_CHARS // 4) + "}",
    ],
)
def test_everything_else_is_none(text: str) -> None:
    assert parse_names(text) is None


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=6))
def test_whatever_python_writes_is_read_back(names: list[str]) -> None:
    assert parse_names(repr(dict(enumerate(names)))) == tuple(names)
    assert parse_names(repr(names)) == tuple(names)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40))
def test_no_text_does_harm(text: str) -> None:
    parse_names(text)
    parse_names("{" + text + "}")
