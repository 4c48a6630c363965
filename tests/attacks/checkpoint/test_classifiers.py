"""Hostile files with whole classification networks of each library: whole checkpoints, with one thing wrong in each.

Every file must end in one error of ours, and nothing that it names may run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from helpers import forge
from helpers.modules import NAMES, changed
from helpers.pickled import Pickled
from helpers.resnets import resnet
from helpers.samples import sample
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import YoloshipError
from yoloship.graph import GraphConfig, build_graph

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.checkpoint import Module

HW = (64, 64)


class Network(NamedTuple):
    """A network and where its parts are."""

    root: Module
    conv: str
    norm: str
    act: str
    pool: str
    classifier: str


def network(library: str) -> Network:
    """A small one of this library."""
    if library in {"torchvision", "timm"}:
        deep = library == "timm"
        root = resnet(deep=deep, squeezed=deep).module
        pool = "global_pool" if deep else "avgpool"
        return Network(root, "layer1.0.conv1", "bn1", "act1" if deep else "relu", pool, "fc")
    root = changed(sample(library, "classify").module, transforms=None)
    return Network(root, "model.0.conv", "model.0.bn", "model.0.act", "model.2.pool", "model.2.linear")


def file_of(library: str, place: str, code: forge.Code) -> bytes:
    """The network with this code at a place: ``part:attribute``, or ``part`` or ``part.child`` for a module."""
    made = network(library)
    part, colon, name = place.partition(":")
    first, dot, rest = part.partition(".")
    path = getattr(made, first) + dot + rest if first else ""
    changes, modules = ({f"{path}:{name}": code}, {}) if colon else ({}, {path: code})
    return Pickled(changes, modules).file(made.root)


def written(data: bytes) -> None:
    build_graph(read_checkpoint(data), GraphConfig(HW, transform="yolov5"))


each_library = pytest.mark.parametrize("library", ["torchvision", "timm", "yolov5", "ultralytics"])


@each_library
def test_the_same_file_with_nothing_wrong_is_written(library: str) -> None:
    written(Pickled({}).file(network(library).root))


CALLED = forge.call("os.system", forge.text("touch canary"))
WEIGHT = forge.parameter(forge.tensor(forge.storage("0", 4), (4,), (1,)))
HUGE = forge.integer(1 << 1100)
ITSELF = b"]q\x63h\x63a"
BOUND = forge.call("__builtin__.getattr", forge.named("torchvision.models.resnet.ResNet"), forge.text("forward"))
LINEAR, CONV = "torch.nn.modules.linear.Linear", "torch.nn.modules.conv.Conv2d"
NUMBERS: dict[str, forge.Code] = {
    "a call": CALLED,
    "a program": forge.call("subprocess.getoutput", forge.text("touch canary")),
    "huge": HUGE,
    "huge in a pair": forge.row(HUGE, HUGE),
    "negative": forge.integer(-1),
    "not a number": forge.number(float("nan")),
    "text": forge.text("1"),
    "itself": ITSELF,
    "deep": forge.EMPTY_LIST + b"]" * 3000 + b"a" * 3000,
    "long": forge.listed(*[forge.integer(1)] * 5000),
    "a class": forge.named(CONV),
    "a module": forge.module(CONV),
    "a storage": forge.storage("0", 4),
}
PARTS: dict[str, tuple[str, forge.Code]] = {
    "a convolution that is called": ("conv", CALLED),
    "a convolution of another library": ("conv", forge.module("mypkg.Conv2d")),
    "a convolution without weights": ("conv", forge.module(CONV)),
    "a norm that is a function": ("norm", forge.named("torch.nn.functional.batch_norm")),
    "a norm without weights": ("norm", forge.module("torch.nn.modules.batchnorm.BatchNorm2d")),
    "a norm of frozen numbers": ("norm", forge.module("torchvision.ops.misc.FrozenBatchNorm2d")),
    "an activation of its own": ("act", forge.module("__main__.Act")),
    "an activation that is a lambda": ("act", forge.named("__main__.<lambda>")),
    "an activation with weights": ("act.weight", forge.module("torch.nn.modules.activation.PReLU")),
    "a pooling that is called": ("pool", CALLED),
    "a pooling of maxima": ("pool", forge.module("torch.nn.modules.pooling.AdaptiveMaxPool2d")),
    "a classifier that is called": ("classifier", CALLED),
    "a classifier without weights": ("classifier", forge.module(LINEAR)),
    "a classifier of weights alone": ("classifier", forge.module(LINEAR, None, {"weight": WEIGHT})),
    "a classifier that holds nothing": ("classifier", forge.module("torch.nn.modules.container.Sequential")),
    "a classifier that is quantized": ("classifier", forge.module("torch.ao.nn.quantized.modules.linear.Linear")),
    "no classifier": ("classifier", forge.NONE),
    "a child of the classifier": ("classifier.more", forge.module(LINEAR, None, {"weight": WEIGHT})),
    "a child of a convolution": ("conv.more", forge.module(CONV, None, {"weight": WEIGHT})),
    "a hook": ("classifier:_forward_hooks", forge.table({"0": forge.instance("mypkg.Hook")})),
    "a hook that runs": ("conv:_forward_pre_hooks", forge.table({"0": CALLED})),
    "another forward": (":forward", BOUND),
    "a forward that runs": (":forward", forge.named("os.system")),
    "another call": ("conv:_conv_forward", BOUND),
    "a scale of the output": ("classifier:scale", forge.tensor(forge.storage("0", 4), (1,), (1,))),
    "names that run": (":names", CALLED),
}


@each_library
@pytest.mark.parametrize("attribute", ["conv:stride", "conv:groups", "norm:eps"])
@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_believed(
    library: str, attribute: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(YoloshipError) as caught:
        written(file_of(library, attribute, NUMBERS[name]))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@each_library
@pytest.mark.parametrize("name", PARTS)
def test_no_part_is_taken_for_another(library: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(YoloshipError) as caught:
        written(file_of(library, *PARTS[name]))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_names_are_those_of_the_sample() -> None:
    assert read_checkpoint(Pickled({}).file(network("timm").root)).class_names == NAMES
