from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from yoloship._util.fields import (
    ANY_TEXT,
    FieldReader,
    Items,
    JsonForm,
    Number,
    OrNull,
    Whole,
    fits,
    is_int,
    is_number,
    shown,
)
from yoloship.errors import EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

FORM = JsonForm("note", EngineError, 1, frozenset({"long", "a"}), 5000, "write it again")
HEX = "0123456789abcdef" * 4


def reader(**data: Any) -> FieldReader:
    return FieldReader(data, "note", "a.json", EngineError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a.json: note is not JSON: got Expecting property name"),
        ("[" * 4000, "a.json: note "),
        ("[1]", "a.json: note is not a JSON object"),
        (json.dumps({"long": "x" * 5000}), "a.json: note too long: expected at most 5000 characters"),
    ],
)
def test_text_that_is_not_an_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(EngineError) as caught:
        FieldReader.parse(text, FORM, subject="a.json")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("schema", [2, "1", None, True])
def test_another_schema_is_refused_with_what_to_do(schema: object) -> None:
    assert FieldReader.parse(json.dumps({"schema": 1, "a": 2}), FORM, subject="a.json").data == {"a": 2}
    with pytest.raises(EngineError, match=r"note of another schema: expected 1, got .*; write it again"):
        FieldReader.parse(json.dumps({"schema": schema, "a": 2}), FORM, subject="a.json")


def test_fields_of_the_right_kind_are_returned() -> None:
    read = reader(
        name="a\nb", plain="a b", digest=HEX, count=3, share=1, flag=False, kind="b", entries=[1, 2], none=None
    )
    assert read.values({"name": (ANY_TEXT, "a text"), "missing": (OrNull(ANY_TEXT), "a text")}) == {
        "name": "a\nb",
        "missing": None,
    }
    assert read.plain_text("plain") == "a b"
    assert read.sha256("digest") == HEX
    assert read.integer("count", 3, 3) == 3
    assert read.number("share", 0, 1) == 1.0
    assert read.boolean("flag") is False
    assert read.choice("kind", ("a", "b")) == "b"
    assert read.items("entries", 2) == (1, 2)
    assert read.optional("none", read.plain_text) is None
    assert read.optional("missing", read.plain_text) is None
    assert read.optional("plain", read.plain_text) == "a b"


@pytest.mark.parametrize(
    ("value", "take", "expected"),
    [
        (1, lambda read: read.values({"x": (ANY_TEXT, "a string")}), "a string"),
        ("a" * 1001, lambda read: read.values({"x": (ANY_TEXT, "a string")}), "a string"),
        ("a\x1b[2J", lambda read: read.plain_text("x"), "plain text of at most 1000 characters"),
        ("a", lambda read: read.matching("x", re.compile("b"), "a b"), "a b"),
        (HEX.upper(), lambda read: read.sha256("x"), "64 lower-case hex digits"),
        (True, lambda read: read.integer("x", 0, 9), "an integer from 0 to 9"),
        (10, lambda read: read.integer("x", 0, 9), "an integer from 0 to 9"),
        (float("nan"), lambda read: read.number("x", 0, 1), "a number from 0 to 1"),
        (1, lambda read: read.boolean("x"), "true or false"),
        (["a"], lambda read: read.choice("x", ("a", "b")), "one of a, b"),
        ([1, 2], lambda read: read.items("x", 1), "a list of at most 1"),
        (
            [1, "a"],
            lambda read: read.items("x", 2, lambda entry: is_int(entry, 0, 9), "small numbers"),
            "small numbers",
        ),
        ({"a": 1}, lambda read: read.nested("x", ("a", "b")), "an object with a, b"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_should_be(
    value: object, take: Callable[[FieldReader], object], expected: str
) -> None:
    with pytest.raises(EngineError) as caught:
        take(reader(x=value))
    assert str(caught.value).startswith(f"a.json: note: bad 'x': expected {expected}, got ")


@pytest.mark.parametrize(
    ("rule", "fitting", "wrong"),
    [
        (Whole(1, 9), (1, 9), (0, 10, 1.0, True, "1", None)),
        (Number(0, 1), (0, 0.5, 1), (-0.1, 2, False, float("nan"), "0")),
        (("a", "b"), ("a",), ("c", None, ["a"], 1)),
        (re.compile("a+"), ("aa",), ("ab", "", 1)),
        (OrNull(Whole(1, 9)), (None, 1), (0, "a")),
        (
            Items(Items(Whole(1, 9), 2, least=1), 1),
            ([], [[1]], [[1, 2]]),
            ([[]], [[1, 2, 3]], [[1], [1]], [1], "a", {}),
        ),
    ],
)
def test_a_rule_says_what_fits(rule: Any, fitting: tuple[object, ...], wrong: tuple[object, ...]) -> None:
    assert all(fits(value, rule) for value in fitting)
    assert not any(fits(value, rule) for value in wrong)


def test_fields_that_are_not_known_are_named() -> None:
    with pytest.raises(EngineError, match=r"a\.json: note has unknown fields: got 'b', 'c'"):
        FieldReader.parse('{"schema": 1, "c": 1, "a": 1, "b": 1}', FORM, subject="a.json")


def test_an_error_of_a_constructor_becomes_one_about_the_field() -> None:
    def refuse() -> None:
        raise InputError("is odd", subject="batch", expected="2", got="3")

    with pytest.raises(EngineError, match=r"a\.json: note: bad 'x': is odd: expected 2, got 3") as caught:
        reader(x=3).checked("x", refuse)
    assert isinstance(caught.value.__cause__, InputError)

    def refuse_the_file() -> None:
        raise InputError("is odd", subject="a.json: inner")

    with pytest.raises(InputError, match=r"a\.json: inner: is odd"):
        reader(x=3).checked("x", refuse_the_file)


def test_a_nested_object_is_named_by_its_place() -> None:
    inner = reader(x={"a": 1}).nested("x", ("a",))
    assert inner.integer("a", 1, 1) == 1
    with pytest.raises(EngineError, match=r"a\.json: x: note: bad 'a': expected true or false, got 1"):
        inner.boolean("a")


def test_true_is_not_a_number_and_a_long_value_is_cut() -> None:
    assert not is_int(True, 0, 1)
    assert not is_number(True, 0, 1)
    assert shown("ä" * 99) == "'" + "\\xe4" * 14 + "..."
    assert shown("a" * 58) == "'" + "a" * 58 + "'"
