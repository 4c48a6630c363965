"""Class names in every form that files have them: what is unambiguous is taken, of the rest the reason is kept."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from helpers import forge
from yoloship.checkpoint import Checkpoint, read_checkpoint
from yoloship.checkpoint.limits import Limits
from yoloship.checkpoint.reader import read_with_limits
from yoloship.checkpoint.traits import read_names
from yoloship.errors import CheckpointError, InputError


def read(own: bytes, **top: bytes) -> Checkpoint:
    table = {**top, "model": forge.model({"names": own})}
    return read_checkpoint(forge.zip_bytes(forge.end(forge.table(table))))


def by_key(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"}(" + b"".join(key + name for key, name in pairs) + b"u"


A, B = forge.text("a"), forge.text("b")
ZERO, ONE = forge.integer(0), forge.integer(1)

TAKEN = {
    "a list": forge.listed(A, B),
    "a tuple": forge.row(A, B),
    "a table by id, in any order": by_key((ONE, B), (ZERO, A)),
    "a table by ids as texts": by_key((forge.text("1"), B), (forge.text("0"), A)),
    "a table by ids of both kinds": by_key((forge.text("1"), B), (ZERO, A)),
    "a table from name to id": by_key((B, ONE), (A, ZERO)),
    "texts of NumPy": forge.listed(*[pickle.dumps(np.str_(name), 2)[2:-1] for name in "ab"]),
    "an array of texts": pickle.dumps(np.array(["a", "b"]), 2)[2:-1],
    "bytes": forge.listed(forge.raw_bytes(b"a"), forge.raw_bytes(b"b")),
    "a text with commas": forge.text("a, b"),
    "a text of lines": forge.text("a\nb\n"),
    "a text of quoted names": forge.text("'a', 'b'"),
    "a text of ids and names": forge.text("0: a, 1: b"),
    "a text of lines with ids": forge.text("1: b\n0: 'a'\n"),
    "a text of YAML's items": forge.text("- a\n- b"),
    "a list as text": forge.text("['a', \"b\"]"),
    "a tuple as text": forge.text("('a', 'b',)"),
    "a table as text": forge.text("{1: 'b', 0: 'a'}"),
    "a table of bare words as text": forge.text("{0: a, 1: b}"),
}


@pytest.mark.parametrize("form", TAKEN)
def test_what_is_unambiguous_is_taken(form: str) -> None:
    checkpoint = read(TAKEN[form])
    assert (checkpoint.class_names, checkpoint.class_names_problem) == (("a", "b"), None)
    assert checkpoint.names_for(2) == ("a", "b")


KEPT = {
    "a gap": (by_key((ZERO, A), (forge.integer(2), B)), "has class names of the ids 0, 2 rather than of 0 to 1"),
    "ids from 1": (by_key((ONE, A), (forge.integer(2), B)), "has class names of the ids 1, 2 rather than of 0 to 1"),
    "one id twice": (by_key((ZERO, A), (forge.text("0"), B)), "has two class names of the id 0"),
    "another key": (by_key((forge.TRUE, A), (ZERO, B)), "has a class name whose id is True rather than a number"),
    "names to texts": (by_key((A, A), (B, B)), "has a class name whose id is 'a' rather than a number"),
    "one too many": (forge.listed(A, B, A), "has 3 class names for 2 classes"),
    "one too few": (forge.listed(A), "has 1 class name for 2 classes"),
    "one text": (forge.text("a b"), "has class names that are one text, 'a b', and do not fit its number of classes"),
    "an empty name in a text": (forge.text("a,,b"), "has class names that are one text, 'a,,b', and do not fit"),
    "a list in a list": (forge.listed(A, forge.EMPTY_LIST), "has a class name that is not a text of at most 1000"),
    "a long name": (forge.listed(A, forge.text("x" * 1001)), "has a class name that is not a text of at most 1000"),
    "a number": (forge.integer(2), "has class names that are not a list of names"),
    "a text of ids with a gap": (forge.text("0: a, 2: b"), "has class names of the ids 0, 2 rather than of 0 to 1"),
    "a text of YAML's items, one too many": (
        forge.text("- a\n- b\n- c"),
        "has class names that are one text, 'a\\nb\\nc'",
    ),
    "nested text": (forge.text("[['a'], 'b']"), "has class names in a text that is not a list of names"),
    "half a table as text": (forge.text("{0: 'a', 'b'}"), "has class names of which only some have an id"),
    "an open quote": (forge.text("['a', 'b]"), "has class names in a text that is not a list of names"),
    "escapes in a text": (forge.text("['\\x41', 'b']"), "has a class name with escapes"),
    "a hole in a text": (forge.text("['a',,'b']"), "has class names in a text that is not a list of names"),
}


@pytest.mark.parametrize("form", KEPT)
def test_what_is_not_leaves_the_network_readable_and_says_why(form: str) -> None:
    names, problem = KEPT[form]
    checkpoint = read(names)
    assert checkpoint.strides == (8, 16, 32)
    assert checkpoint.class_names == ()
    assert checkpoint.class_names_problem is not None
    assert checkpoint.class_names_problem.startswith(problem)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.names_for(2)
    assert caught.value.problem == checkpoint.class_names_problem
    assert caught.value.hint == "give the names of its 2 classes with --names (class_names in Python)"


def test_given_names_take_the_place_of_the_files_own() -> None:
    checkpoint = read(KEPT["a gap"][0]).with_class_names(["helmet", "hard, hat"])
    assert checkpoint.class_names_problem is None
    assert checkpoint.names_for(2) == ("helmet", "hard, hat")
    with pytest.raises(CheckpointError, match="has 2 class names for 3 classes"):
        checkpoint.names_for(3)


@pytest.mark.parametrize("names", ["a,b", ["a", ""], ["a", 1], ["x" * 1001]])
def test_given_names_that_are_none_are_refused(names: list[str]) -> None:
    with pytest.raises(InputError, match="not usable as class names"):
        read(forge.NONE).with_class_names(names)


def test_names_that_yaml_read_as_numbers_are_written_out() -> None:
    assert read(forge.listed(forge.integer(7), forge.FALSE)).class_names == ("7", "False")


def test_without_names_classes_are_numbered() -> None:
    assert read(forge.NONE).class_names == ("class0", "class1")


def test_without_names_and_without_a_count_there_is_only_the_reason() -> None:
    found = read_names(None, None, Limits())
    assert found.problem == "does not state its class names or its number of classes"


def test_names_beside_the_model_count_if_it_has_none() -> None:
    assert read(forge.NONE, names=forge.listed(A, B)).class_names == ("a", "b")
    assert read(forge.listed(B, A), names=forge.listed(A, B)).class_names == ("b", "a")


def test_one_long_name_that_all_classes_share_counts_for_each() -> None:
    shared = b"](" + forge.text("x" * 900) + b"q\x01h\x01e"
    data = forge.zip_bytes(forge.end(forge.table({"model": forge.model({"names": shared})})))
    assert len(read_with_limits(data, Limits()).class_names) == 2
    refused = read_with_limits(data, Limits(class_name_chars=1000))
    assert refused.class_names_problem == "has class names of more than 1000 characters together"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text", ["['a'" + " " * 900_000 + "x]", "[" + "a " * 400_000 + "{]", "{" + "'" * 900_000 + "}"]
)
def test_a_long_text_that_is_not_a_list_costs_little(text: str) -> None:
    found = read_names(text, 2, Limits())
    assert found.problem is not None
    assert len(found.problem) < 200


def test_names_beside_the_network_that_cannot_be_read_are_not_taken_for_none() -> None:
    model = forge.model({"names": forge.NONE})
    odd = forge.instance("omegaconf.listconfig.ListConfig")
    checkpoint = read_checkpoint(forge.zip_bytes(forge.end(forge.table({"names": odd, "model": model}))))
    assert checkpoint.class_names_problem == "has class names that are not a list of names"
