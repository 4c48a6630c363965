"""HTML that is escaped by construction."""

from __future__ import annotations

import pytest

from yoloship.validate.report.markup import Markup, joined, tag, text


def test_text_is_escaped_wherever_it_stands() -> None:
    hostile = "</script><img src=x onerror='alert(1)'>\"&"
    made = tag("p", hostile, title=hostile)
    assert made.count("<") == made.count(">") == 2
    assert "&lt;/script&gt;&lt;img" in made
    assert 'title="&lt;/script&gt;' in made
    assert "&quot;&amp;" in made


def test_letters_that_turn_or_hide_text_become_visible() -> None:
    assert text("a\u202eb\x00\x1b[31m") == "a\\u202eb\\x00\\x1b[31m"


def test_markup_is_written_as_it_is_and_nothing_is_nothing() -> None:
    assert tag("b", tag("i", "x"), None, ["y", None], 3) == "<b><i>x</i>y3</b>"
    assert joined([Markup("<br>"), "<br>"]) == "<br>&lt;br&gt;"


def test_attributes_may_be_left_out_or_have_no_value() -> None:
    assert tag("input", checked=True, id=None, disabled=False, for_="a", aria_label="b") == (
        '<input checked for="a" aria-label="b">'
    )


def test_a_name_is_never_text_of_others() -> None:
    with pytest.raises(AssertionError):
        tag("p onclick=x")
