from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from yoloship._util.yaml_file import MAX_BYTES, MAX_NODES, parse_yaml, read_yaml
from yoloship.errors import InputError, YoloshipError


def parse(text: str, **more: Any) -> dict[str | int, Any]:
    return parse_yaml(text, subject="a.yaml", **more)


def test_a_mapping_becomes_plain_data() -> None:
    text = "path: ../data  # here\nnc: 2\nratio: 0.5\nnames:\n  0: cat\n  1: 'a: b'\nlists: [1, x, null, true]\n"
    assert parse(text) == {
        "path": "../data", "nc": 2, "ratio": 0.5, "names": {0: "cat", 1: "a: b"}, "lists": [1, "x", None, True],
    }  # fmt: skip


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "off", "y", "2024-01-31", "007", "0x10", "1_000", "12:30:45", "nan"]
)
def test_words_that_older_yaml_takes_for_something_else_stay_text(word: str) -> None:
    assert parse(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-3", -3),
        ("+2.5e3", 2500.0),
        (".5", 0.5),
        ("1e999", "1e999"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("", None),
        ("| \n  5", "5"),
    ],
)
def test_scalars_are_those_of_the_core_schema(text: str, value: object) -> None:
    found = parse(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_below_some_keys_all_is_text() -> None:
    assert parse("names: [null, true, 007, 1.0]\nnc: 4", as_text=("names",)) == {
        "names": ["null", "true", "007", "1.0"], "nc": 4,
    }  # fmt: skip
    assert parse("names: {0: no, 1: 2}", as_text=("names",)) == {"names": {"0": "no", "1": "2"}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &x [1, 2]\nb: *x", r"a\.yaml, line 2: has the alias \*x: expected no aliases; write the value out"),
        ("a: 1\na: 2", r"a\.yaml, line 2: has the key 'a' twice"),
        ("a: !!python/object/apply:os.system [id]", "line 1: has the tag tag:yaml.org,2002:python/object"),
        ("a: !x 5", "has the tag !x"),
        ("a: 1\n---\nb: 2", "line 2: begins a second document"),
        ("[1, 2]: 3", "has a key that is neither text nor a whole number"),
        ("true: 3", "has a key that is neither text nor a whole number"),
        ("a: [1, 2\nb: 3", "line 2: is not valid YAML"),
        ("a: '", "is not valid YAML"),
        ("a: \x00", "is not valid YAML"),
        ("\tb: 3", "line 1: is not valid YAML"),
        ("- a\n- b", r"a\.yaml: is not a mapping"),
        ("", r"a\.yaml: is not a mapping"),
        ("just text", "is not a mapping"),
        ("a: " + "[" * 50 + "]" * 50, "is nested too deeply: expected at most 20 levels"),
        ("a: [" + "1," * (MAX_NODES + 1) + "]", "has too many values: expected at most 200,000"),
    ],
)  # fmt: skip
def test_what_is_not_plain_data_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse(text)


def test_aliases_cannot_multiply() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(InputError, match="has the alias"):
        parse(bomb)


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? ", "a: {"])
def test_deep_nesting_ends_early_and_without_a_crash(opening: str) -> None:
    with pytest.raises(InputError):
        parse("a: \n " + opening * 100_000)


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: 1\n" + b"#" * MAX_BYTES)
    with pytest.raises(InputError, match="expected at most"):
        read_yaml(path, wanted="a list of zones")


def test_a_file_is_read_with_its_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("a: é\n".encode("utf-8-sig"))
    assert read_yaml(path) == {"a": "é"}


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_yaml(path)


def test_random_text_gives_data_or_an_error_of_ours() -> None:
    source = random.Random(12)
    pieces = [
        "a",
        ": ",
        "\n",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "'",
        '"',
        "&x ",
        "*x",
        "!!str ",
        "# ",
        "|",
        ">",
        "  ",
        "1",
        "---",
        "\t",
        "%",
        "@",
        "é",
        "\x85",
        "?",
        ",",
    ]
    for _ in range(3000):
        text = "".join(source.choices(pieces, k=source.randrange(40)))
        with suppress(YoloshipError):
            assert isinstance(parse(text), dict)
