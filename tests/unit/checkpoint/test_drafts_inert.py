"""What nobody reads stays inert and refuses nothing; the model's own tree stays closed."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import pickle
import re
import uuid
from typing import Any, NamedTuple

import numpy as np
import pytest

from helpers import forge
from yoloship.checkpoint import Checkpoint, Opaque, read_checkpoint
from yoloship.errors import CheckpointError

RUNS = pathlib.PurePosixPath("runs")


class Colour(enum.Enum):
    RED = 1


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Settings(dict[str, Any]):
    """A dictionary with attributes, as half of all training code has one."""


class Rows(list[int]):
    pass


@dataclasses.dataclass
class Options:
    lr: float = 0.1
    where: pathlib.PurePath = RUNS


class Pair(NamedTuple):
    a: int
    b: int


class Slotted:
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 1


class Trainer:
    """Holds itself, as objects with callbacks do."""

    def __init__(self) -> None:
        self.callbacks = [self]


def filled_settings() -> Settings:
    made = Settings(a=1)
    made.extra = 2  # type: ignore[attr-defined]
    return made


METADATA: dict[str, object] = {
    "enum": Colour.RED,
    "flags": Flags.A | Flags.B,
    "dict subclass": filled_settings(),
    "list subclass": Rows([1, 2]),
    "dataclass": Options(),
    "slots": Slotted(),
    "holds itself": Trainer(),
    "namespace": argparse.Namespace(epochs=3, colour=Colour.RED),
    "counter": collections.Counter("abca"),
    "deque": collections.deque([1, 2], 5),
    "named tuple": Pair(1, 2),
    "default dict of a class": collections.defaultdict(Options, {"a": Options()}),
    "tuple keys": {(1, 2): "a", (3, 4): "b"},
    "enum keys": {Colour.RED: 1},
    "set of tuples": {(1, 2)},
    "date and time": dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc),
    "decimal": decimal.Decimal("1.5"),
    "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=7),
    "pattern": re.compile("a+"),
    "exception": ValueError("x"),
    "class": Options,
    "function": dataclasses.asdict,
    "generator": np.random.default_rng(1),
    "structured array": np.zeros(2, [("a", "i4")]),
    "dates of NumPy": np.array(["2024-01-01"], "M8[D]"),
    "complex": 1 + 2j,
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", METADATA)
def test_metadata_of_any_class_is_read_around(name: str, protocol: int) -> None:
    value = pickle.dumps(METADATA[name], max(protocol, 2) if name == "slots" else protocol)
    code = value[2:-1] if value.startswith(b"\x80") else value[:-1]
    table = forge.table({"model": forge.model(), "extra": code})
    checkpoint = read_checkpoint(forge.zip_bytes(forge.end(table)))
    assert checkpoint.class_names == ("helmet", "vest")
    assert {*checkpoint.metadata, *checkpoint.ignored} == {"extra"}


def extra(code: bytes) -> Checkpoint:
    return read_checkpoint(forge.zip_bytes(forge.checkpoint(extra=code)))


def test_unknown_classes_are_listed_by_the_key_that_has_them() -> None:
    inner = forge.instance("mypkg.Inner", forge.table({"a": forge.instance("mypkg.Deep")}))
    checkpoint = read_checkpoint(
        forge.zip_bytes(
            forge.checkpoint(
                optimizer=forge.instance("torch.optim.sgd.SGD", forge.table({"state": forge.EMPTY_DICT})),
                run=forge.call("uuid.UUID", forge.text("2.1.0")),
                plain=forge.integer(1),
                settings=forge.listed(inner, inner),
                again=forge.listed(forge.named("mypkg.f"), forge.named("mypkg.f")),
                once_more=forge.named("mypkg.f"),
            )
        )
    )
    assert dict(checkpoint.ignored) == {
        "optimizer": ("torch.optim.sgd.SGD",),
        "run": ("uuid.UUID",),
        "settings": ("mypkg.Inner", "mypkg.Deep"),
        "again": ("mypkg.f",),
        "once_more": ("mypkg.f",),
    }
    assert dict(checkpoint.metadata) == {"epoch": -1, "plain": 1}


def test_no_more_than_twenty_classes_are_listed_of_a_key() -> None:
    classes = forge.listed(*[forge.named(f"mypkg.Class{index}") for index in range(50)])
    assert len(extra(classes).ignored["extra"]) == 20


def test_an_optimizer_whose_state_is_keyed_by_tensors_is_read_around() -> None:
    weight = forge.parameter(forge.tensor(forge.storage("0", 24), (24,), (1,)))
    state = b"}" + weight + forge.table({"momentum_buffer": forge.NONE}) + b"s"
    optimizer = forge.instance("torch.optim.sgd.SGD", forge.table({"state": state}))
    checkpoint = read_checkpoint(forge.zip_bytes(forge.checkpoint(optimizer=optimizer)))
    assert dict(checkpoint.ignored) == {"optimizer": ("torch.optim.sgd.SGD",)}


def test_a_type_that_dill_names_is_that_type() -> None:
    load = b"cdill._dill\n_load_type\n" + forge.row(forge.text("set")) + b"R"
    model = forge.model({"_non_persistent_buffers_set": load + forge.row(forge.listed(forge.integer(1))) + b"R"})
    read = read_checkpoint(forge.zip_bytes(forge.end(forge.table({"model": model}))))
    assert read.module.attributes["_non_persistent_buffers_set"] == frozenset({1})


@pytest.mark.parametrize("name", ["set", "dict", "int", "float", "str", "bool", "object"])
def test_a_builtin_type_that_dill_or_pickle_mentions_is_an_inert_record(name: str) -> None:
    for code in (b"cdill._dill\n_load_type\n" + forge.row(forge.text(name)) + b"R", forge.named(f"builtins.{name}")):
        read = read_checkpoint(forge.zip_bytes(forge.end(forge.model({"x": code}))))
        assert read.module.attributes["x"] == Opaque(f"builtins.{name}")


@pytest.mark.parametrize("name", ["CodeType", "FunctionType", "eval", "OrderedDict"])
def test_another_type_that_dill_names_is_foreign(name: str) -> None:
    load = b"cdill._dill\n_load_type\n" + forge.row(forge.text(name)) + b"R"
    assert extra(load + b")R").ignored["extra"] == (f"dill._dill._load_type.{name}",)
    with pytest.raises(CheckpointError, match=rf"'model\.x' is a 'dill\._dill\._load_type\.{name}', which is not in"):
        read_checkpoint(forge.zip_bytes(forge.end(forge.model({"x": load}))))


def test_a_class_that_dill_spells_out_is_inert_and_so_are_its_objects() -> None:
    kind = b"cdill._dill\n_create_type\n(cdill._dill\n_load_type\n" + forge.row(forge.text("type")) + b"R"
    kind += forge.text("Options") + forge.row(forge.named("builtins.object")) + forge.EMPTY_DICT + b"tR"
    assert "dill._dill._create_type" in extra(kind + b")\x81}b").ignored["extra"]


def test_what_ignored_keys_share_with_the_model_is_the_models_own() -> None:
    """An object under a key that nobody reads, to which the model refers by the memo, is in the model's tree."""
    table = (
        b"}("
        + forge.text("extra")
        + forge.instance("mypkg.Thing")
        + b"r\xff\x00\x00\x00"
        + forge.text("model")
        + forge.model({"thing": b"j\xff\x00\x00\x00"})
        + b"u"
    )
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(forge.zip_bytes(forge.end(table)))
    assert str(caught.value) == (
        "checkpoint: 'model.thing' is a 'mypkg.Thing', which is not in the allow-table; nothing was executed; "
        "take it out of the model before you save it"
    )


def test_a_layer_that_ignored_keys_share_is_read_as_ever() -> None:
    layer = forge.module("models.common.C3", {"i": forge.integer(1)}) + b"r\xff\x00\x00\x00"
    model = forge.model(extra={"1": layer})
    table = forge.table({"model": model, "kept": forge.listed(b"j\xff\x00\x00\x00", forge.instance("mypkg.Thing"))})
    checkpoint = read_checkpoint(forge.zip_bytes(forge.end(table)))
    assert dict(checkpoint.module.walk())["model.1"].class_path == "models.common.C3"
    assert checkpoint.ignored["kept"] == ("mypkg.Thing",)


IN_THE_MODEL = {
    "an object": (forge.instance("mypkg.Thing"), "is a 'mypkg.Thing', which is not in the allow-table"),
    "a name": (forge.named("mypkg.thing"), "is a 'mypkg.thing', which is not in the allow-table"),
    "what a call gave": (forge.call("mypkg.make"), "is a 'mypkg.make', which was made by a call"),
    "what a call of an admitted class gave": (
        forge.call("models.common.Conv", forge.integer(3)),
        "is a 'models.common.Conv', which was made by a call",
    ),
    "a list of its own kind": (
        forge.instance("models.x.Rows") + b"(K\x01e",
        "is a 'models.x.Rows', which was given items",
    ),
    "a key": (b"}" + forge.row(forge.integer(1)) + b"Ns", "has a key that is not plain"),
    "a module given its state twice": (
        forge.module("models.common.C3") + forge.table({"_modules": forge.EMPTY_DICT}) + b"b",
        "is a 'models.common.C3', which was given its state twice",
    ),
}


@pytest.mark.parametrize("name", IN_THE_MODEL)
def test_the_models_own_tree_is_closed(name: str) -> None:
    code, message = IN_THE_MODEL[name]
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(forge.zip_bytes(forge.end(forge.table({"model": forge.model({"x": code})}))))
    assert str(caught.value).startswith(f"checkpoint: 'model.x' {message}")
    assert extra(code).task == "detect"


def test_a_layer_of_an_unknown_class_is_a_module_of_that_class() -> None:
    layer = forge.module("fork.nets.C3", {"i": forge.integer(1)})
    checkpoint = read_checkpoint(forge.zip_bytes(forge.end(forge.model(extra={"1": layer}))))
    assert dict(checkpoint.module.walk())["model.1"].class_path == "fork.nets.C3"


def test_an_alias_gives_a_layer_its_official_class() -> None:
    layer = forge.module("fork.nets.C3", {"i": forge.integer(1)})
    data = forge.zip_bytes(forge.end(forge.model(extra={"1": layer})))
    checkpoint = read_checkpoint(data, aliases={"fork.nets.C3": "models.common.C3"})
    assert dict(checkpoint.module.walk())["model.1"].class_path == "models.common.C3"
    assert dict(checkpoint.aliases) == {"fork.nets.C3": "models.common.C3"}


def test_an_alias_that_no_layer_needs_is_refused_with_the_classes_that_there_are() -> None:
    data = forge.zip_bytes(forge.end(forge.model(extra={"1": forge.module("fork.nets.C3")})))
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(data, aliases={"fork.C3": "models.common.C3"})
    assert str(caught.value) == (
        "checkpoint: has no module of the class 'fork.C3', for which there is an alias; its classes are fork.nets.C3"
    )


HIDDEN = {
    "an attribute over a child": (
        forge.module("models.common.C3", {"cv1": forge.TRUE}, modules={"cv1": forge.module("models.common.Conv")}),
        "that has two things named 'cv1'",
    ),
    "an attribute over a weight": (
        forge.module(
            "torch.nn.modules.conv.Conv2d",
            {"weight": forge.tensor(forge.storage("0", 24), (24,), (1,))},
            {"weight": forge.tensor(forge.storage("0", 24), (24,), (1,))},
        ),
        "that has two things named 'weight'",
    ),
    "a function as forward": (
        forge.module("models.common.C3", {"forward": forge.named("models.common.other")}),
        "whose method 'forward' was replaced",
    ),
    "another method as forward": (
        forge.module(
            "models.common.C3",
            {"forward": forge.call("builtins.getattr", forge.named("models.common.C3"), forge.text("forward_other"))},
        ),
        "whose method 'forward' was replaced",
    ),
    "another object's method as forward": (
        forge.module(
            "models.common.C3",
            {"forward": forge.call("builtins.getattr", forge.named("models.common.SE"), forge.text("forward_fuse"))},
        ),
        "whose method 'forward' was replaced",
    ),
    "a method behind forward": (
        forge.module(
            "models.common.C3",
            {"_call_impl": forge.call("builtins.getattr", forge.named("models.common.C3"), forge.text("forward"))},
        ),
        "whose method '_call_impl' was replaced",
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_hides_another_thing_is_refused(name: str) -> None:
    code, message = HIDDEN[name]
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(forge.zip_bytes(forge.end(forge.model(extra={"1": code}))))
    assert str(caught.value).startswith("checkpoint: 'model.model.1' is a '")
    assert message in str(caught.value)


def test_the_forward_of_a_fused_layer_is_its_own() -> None:
    method = forge.call("builtins.getattr", forge.named("models.common.Conv"), forge.text("forward_fuse"))
    layer = forge.module("models.common.Conv", {"forward": method})
    assert read_checkpoint(forge.zip_bytes(forge.end(forge.model(extra={"1": layer})))).task == "detect"


def test_a_forward_that_is_bound_to_another_layer_is_refused() -> None:
    other = forge.module("models.common.Conv")
    method = forge.call("builtins.getattr", other, forge.text("forward_fuse"))
    layer = forge.module("models.common.Conv", {"forward": method})
    with pytest.raises(CheckpointError, match="whose method 'forward' is that of another module"):
        read_checkpoint(forge.zip_bytes(forge.end(forge.model(extra={"1": layer}))))
