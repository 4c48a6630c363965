"""Text from files, as it is shown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloship.errors import InputError, visible, visible_json

HARMFUL = {
    "escape": ("\x1b[2J", "\\x1b[2J"),
    "title": ("\x1b]0;x\x07", "\\x1b]0;x\\x07"),
    "C1": ("\x9b31m", "\\x9b31m"),
    "delete": ("\x7f", "\\x7f"),
    "direction": ("a\u202egpj.b", "a\\u202egpj.b"),
    "isolate": ("\u2066", "\\u2066"),
    "zero width": ("pers\u200bon", "pers\\u200bon"),
    "byte order mark": ("\ufeffa", "\\ufeffa"),
    "tag": ("\U000e0041", "\\U000e0041"),
    "surrogate": ("a\udcff", "a\\udcff"),
    "line separator": ("\u2028", "\\u2028"),
}


@pytest.mark.parametrize(("text", "shown"), HARMFUL.values(), ids=HARMFUL)
def test_what_could_steer_or_hide_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown
    document = visible_json(json.dumps(text, ensure_ascii=False))
    assert document.isprintable()
    assert json.loads(document) == text


@pytest.mark.parametrize("text", ["", "a b-ü", "汽车.jpg", "写真\u3000１.png", "e\u0301", "👍", "\u00a0"])
def test_letters_of_every_script_stay(text: str) -> None:
    assert visible(text) == text
    assert json.loads(visible_json(json.dumps(text, ensure_ascii=False))) == text


def test_newlines_stay_only_if_they_are_meant() -> None:
    assert visible("a\nb\x1b") == "a\\x0ab\\x1b"
    assert visible("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_an_error_is_one_safe_line_and_keeps_its_facts() -> None:
    error = InputError("bad\nname", subject="\x1b]0;x\x07.pt", got="\u202e\udcff")
    assert str(error) == "\\x1b]0;x\\x07.pt: bad name: got \\u202e\\udcff"
    assert error.subject == "\x1b]0;x\x07.pt"


@given(st.text(st.characters()))
def test_any_text_becomes_printable_and_its_json_stays_its_own(text: str) -> None:
    assert all(letter.isprintable() or letter.isspace() for letter in visible(text))
    document = visible_json(json.dumps(text, ensure_ascii=False))
    document.encode()
    assert json.loads(document) == text
