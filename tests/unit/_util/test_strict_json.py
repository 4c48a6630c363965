"""JSON by the letter of its standard."""

from __future__ import annotations

import pytest

from yoloship._util.strict_json import parse_strict_json


def test_a_document_is_read_as_text_or_as_bytes() -> None:
    assert parse_strict_json('{"a": [1, 2.5, null, true]}') == {"a": [1, 2.5, None, True]}
    assert parse_strict_json(b'{"a": {"a": "\\u00e9"}}') == {"a": {"a": "é"}}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"a": NaN}', "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ('{"a": 1, "a": 1}', "a key is there twice"),
        ('[{"b": {"a": 1, "a": 2}}]', "a key is there twice"),
        ("{", "Expecting property name"),
        (b"\xff\xfe\xfd", "codec can't decode"),
    ],
)
def test_what_could_be_taken_in_two_ways_is_refused(text: str | bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_strict_json(text)


def test_a_document_that_is_too_deep_is_refused() -> None:
    with pytest.raises(RecursionError):
        parse_strict_json("[" * 100_000)
