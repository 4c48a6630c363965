"""From drafts to records: module tables that are none, and values that stand for nothing."""

from __future__ import annotations

import pytest

from helpers import forge
from yoloship.checkpoint import Opaque, Value, read_checkpoint
from yoloship.checkpoint.limits import Limits
from yoloship.checkpoint.reader import read_with_limits
from yoloship.errors import CheckpointError


def layer(state: dict[str, bytes]) -> bytes:
    """A file whose layer 1 has this state."""
    extra = {"1": forge.instance("models.common.C3", forge.table({"_modules": forge.EMPTY_DICT, **state}))}
    return forge.zip_bytes(forge.end(forge.table({"model": forge.model(extra=extra)})))


BAD_LAYERS = {
    "no table": ({"_parameters": forge.listed()}, "'1._parameters' is not a table"),
    "no tensor": (
        {"_parameters": forge.table({"w": forge.integer(1)})},
        "'1.w' is not a tensor, but stands in _parameters",
    ),
    "no buffer": ({"_buffers": forge.table({"w": forge.EMPTY_LIST})}, "'1.w' is not a tensor, but stands in _buffers"),
    "no module": ({"_modules": forge.table({"0": forge.text("x")})}, "'1.0' is not a module, but stands in _modules"),
    "an object": (
        {"_modules": forge.table({"0": forge.instance("models.x.Y")})},
        "'1.0' is not a module, but stands in _modules",
    ),
    "a long name": (
        {"_modules": forge.table({"x" * 500: forge.NONE})},
        "'1._modules' has a name that is not a short text",
    ),
    "a number as name": ({"_modules": b"}K\x01Ns"}, "'1._modules' has a name that is not a short text"),
}


@pytest.mark.parametrize("name", BAD_LAYERS)
def test_a_layer_that_is_none_is_named_by_its_place(name: str) -> None:
    state, message = BAD_LAYERS[name]
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(layer(state))
    assert str(caught.value) == f"checkpoint: 'model.model.{message[1:]}"


def test_an_attribute_without_a_text_name_is_refused() -> None:
    state = b"}(" + forge.text("_modules") + forge.EMPTY_DICT + b"K\x01Nu"
    extra = {"1": forge.instance("models.common.C3", state)}
    with pytest.raises(CheckpointError, match=r"has an attribute whose name is not text, in a 'models\.common\.C3'"):
        read_checkpoint(forge.zip_bytes(forge.end(forge.model(extra=extra))))


def test_missing_tables_are_empty_and_empty_hooks_are_dropped() -> None:
    data = layer({"_forward_hooks": forge.ordered(), "_parameters": forge.NONE, "add": forge.TRUE})
    block = dict(read_checkpoint(data).module.walk())["model.1"]
    assert (dict(block.parameters), dict(block.buffers), dict(block.children)) == ({}, {}, {})
    assert dict(block.attributes) == {"add": True}


VALUES: dict[str, tuple[bytes, Value]] = {
    "a class": (forge.named("torch.nn.modules.activation.SiLU"), Opaque("torch.nn.modules.activation.SiLU")),
    "an element type": (
        forge.call("numpy.dtype", forge.text("f4"), forge.FALSE, forge.TRUE),
        Opaque("numpy.dtype", ("<f4",)),
    ),
    "a storage": (forge.storage("1", 3), Opaque("torch.storage", ("float32", 3))),
    "an array never filled": (
        forge.call("numpy.core.multiarray._reconstruct", forge.named("numpy.ndarray"), forge.NONE, forge.NONE),
        Opaque("numpy.ndarray"),
    ),
    "an object with slots": (
        forge.instance("models.x.Y", forge.row(forge.table({"a": forge.TRUE}), forge.NONE)),
        Opaque("models.x.Y", ({"a": True},)),
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_what_has_no_use_here_stays_opaque(name: str) -> None:
    code, expected = VALUES[name]
    checkpoint = read_checkpoint(forge.zip_bytes(forge.checkpoint(x=code)))
    assert checkpoint.metadata["x"] == expected


def test_metadata_counts_as_a_whole() -> None:
    items = forge.listed(*[forge.NONE] * 100)
    shared = {"a": items + b"r\xff\x00\x00\x00", "b": b"j\xff\x00\x00\x00", "c": b"j\xff\x00\x00\x00"}
    checkpoint = read_with_limits(forge.zip_bytes(forge.checkpoint(**shared)), Limits(values=250))
    assert set(checkpoint.metadata) == {"epoch", "a", "b"}
    assert dict(checkpoint.ignored) == {"c": ()}


def test_the_place_of_a_deep_value_is_cut_in_the_middle() -> None:
    code = b"]" * 100 + b"a" * 99
    with pytest.raises(CheckpointError, match=r"'model\.x\.0\.0\.…\.0\.0\.0\.0' is nested deeper than 64 levels"):
        read_checkpoint(forge.zip_bytes(forge.end(forge.model({"x": code}))))
