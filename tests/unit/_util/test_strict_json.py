"""JSON by the letter of its standard."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helpers.source_code import FILES, SOURCE
from yoloship._util.strict_json import json_document, json_text, parse_strict_json


def test_a_document_is_read_as_text_or_as_bytes() -> None:
    assert parse_strict_json('{"a": [1, 2.5, null, true]}') == {"a": [1, 2.5, None, True]}
    assert parse_strict_json(b'{"a": {"a": "\\u00e9"}}') == {"a": {"a": "é"}}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"a": NaN}', "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ('{"a": 1, "a": 1}', "a key appears twice"),
        ('[{"b": {"a": 1, "a": 2}}]', "a key appears twice"),
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


def test_a_number_that_is_not_finite_is_written_as_null() -> None:
    data = {"ms": math.nan, "pairs": [(1.5, -math.inf), np.float64("inf")], "name": "NaN", "passed": True}
    text = '{"ms": null, "pairs": [[1.5, null], null], "name": "NaN", "passed": true}'
    assert json_text(data) == text
    assert json_document(data, indent=None) == f"{text}\n".encode()
    assert parse_strict_json(json_document(data)) == parse_strict_json(text)


def test_what_could_control_a_terminal_is_escaped() -> None:
    assert json_text("é\x9b") == '"é\\u009b"'


def test_all_that_other_programs_read_is_written_here() -> None:
    rooms = {"cli", "evaluate", "serve", "sinks", "validate"}
    read_by_us = {SOURCE / "cli" / "info.py", SOURCE / "cli" / "resuming.py"}  # written to be read back at once
    files = [path for path in FILES if path.relative_to(SOURCE).parts[0] in rooms]
    own = {path for path in files if "json.dumps(" in path.read_text(encoding="utf-8")}
    assert own == read_by_us
