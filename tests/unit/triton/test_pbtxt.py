"""The text form of protocol buffers, read back by Google's own parser."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.triton_schema import parsed
from yoloship.errors import InputError
from yoloship.triton.pbtxt import Word, quoted, to_text


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    document = to_text([("parameters", [("key", text), ("value", [("string_value", text)])])])
    assert document.isascii()
    assert parsed(document).parameters[text].string_value == text


def test_fields_are_written_one_a_line_and_messages_inside_braces() -> None:
    text = to_text(
        [("name", "a"), ("max_batch_size", 4), ("input", [("data_type", Word("TYPE_FP32")), ("optional", True)])]
    )
    assert text == 'name: "a"\nmax_batch_size: 4\ninput {\n  data_type: TYPE_FP32\n  optional: true\n}\n'


@pytest.mark.parametrize(
    ("text", "written"),
    [('say "hi"', r'"say \"hi\""'), ("a\\b", r'"a\\b"'), ("é\n", r'"\303\251\012"'), ("1\x007", r'"1\0007"')],
)
def test_quotes_backslashes_and_all_but_printable_ascii_are_escaped(text: str, written: str) -> None:
    assert quoted(text) == written


def test_a_lone_surrogate_is_refused_because_no_file_can_hold_it() -> None:
    with pytest.raises(InputError, match="is not valid text"):
        to_text([("name", "a\ud800")])


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_refused(number: float) -> None:
    with pytest.raises(InputError, match="x: is not a finite number"):
        to_text([("x", number)])
