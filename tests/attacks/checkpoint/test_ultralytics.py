"""Hostile files in the class paths of Ultralytics' package: names that reach something, and networks made to hurt."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers import forge
from helpers.modules import (
    Anchorless,
    activation,
    anchorless_around,
    anchorless_checkpoint,
    changed,
    module,
    sequential,
    tensor,
    with_children,
)
from yoloship.checkpoint import Opaque, read_checkpoint
from yoloship.errors import CheckpointError, GraphError, YoloshipError
from yoloship.graph import GraphConfig, build_graph, model_info

if TYPE_CHECKING:
    from yoloship.checkpoint import Module

HEAD, CONV = "ultralytics.nn.modules.head.Detect", "ultralytics.nn.modules.conv.Conv"
BLOCK = "ultralytics.nn.modules.block"
SETTINGS = "ultralytics.utils.IterableSimpleNamespace"
MODE = "torchvision.transforms.functional.InterpolationMode"
COMPOSE = "torchvision.transforms.transforms.Compose"
RUN = forge.call("posix.system", forge.text("id"))


def method(owner: str, name: str) -> bytes:
    return forge.call("__builtin__.getattr", forge.named(owner), forge.text(name))


ANYWHERE: dict[str, tuple[bytes, str]] = {
    "a download of the package": (forge.named("ultralytics.utils.downloads.safe_download"), "safe_download'"),
    "a module through the package": (forge.named("ultralytics.utils.os.system"), "'ultralytics.utils.os.system'"),
    "a check that runs programs": (
        forge.call("ultralytics.utils.checks.subprocess.check_output", forge.text("id")),
        "global 'ultralytics.utils.checks.subprocess.check_output'",
    ),
    "globals of a method": (method(HEAD, "__globals__"), "something other than a module and a name"),
    "globals of a method of a method": (
        forge.call("__builtin__.getattr", method(HEAD, "forward"), forge.text("__globals__")),
        "something other than a module and a name",
    ),
    "a method that is called": (method(HEAD, "forward") + b")R", "call of something that is not a global"),
    "subclasses of a head": (method(HEAD, "__subclasses__") + b")R", "something other than a module and a name"),
    "a name that is not text": (
        forge.call("__builtin__.getattr", forge.named(HEAD), forge.integer(1)),
        "something other than a module and a name",
    ),
    "settings that run": (forge.instance(SETTINGS, forge.table({"imgsz": RUN})), "global 'posix.system'"),
    "a mode that runs": (forge.call(MODE, RUN), "global 'posix.system'"),
    "transforms that run": (
        forge.instance(COMPOSE, forge.table({"transforms": forge.listed(RUN)})),
        "global 'posix.system'",
    ),
    "a loss that loads": (
        forge.instance("ultralytics.utils.loss.v8DetectionLoss", forge.table({"f": forge.named("torch.load")})),
        "global 'torch.load'",
    ),
}


@pytest.mark.parametrize("name", ANYWHERE)
def test_a_name_that_reaches_something_is_refused(name: str, container: forge.Container) -> None:
    code, message = ANYWHERE[name]
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(container(forge.checkpoint(x=code)))
    assert message in str(caught.value)
    assert str(caught.value).endswith("; nothing was executed")


def self_made(class_path: str, attributes: bytes) -> bytes:
    """An instance that its own state mentions as the memo's entry 0."""
    return forge.named(class_path) + b")\x81q\x00" + attributes + b"b"


TABLES = {"_parameters": forge.table({}), "_buffers": forge.table({}), "_modules": forge.table({})}
IN_THE_MODEL: dict[str, tuple[bytes, str]] = {
    "a forward of another class": (
        forge.module(CONV, {"forward": method(f"{BLOCK}.C2f", "forward_fuse")}),
        "whose method 'forward' was replaced in a way that is not understood",
    ),
    "a forward of another name": (forge.module(CONV, {"forward": method(CONV, "train")}), "whose method 'forward'"),
    "a forward that is a layer": (forge.module(CONV, {"forward": forge.module(CONV)}), "whose method 'forward'"),
    "another method": (forge.module(CONV, {"_call_impl": method(CONV, "forward")}), "whose method '_call_impl'"),
    "a layer that holds itself": (
        self_made(CONV, forge.table({**TABLES, "mate": forge.row(b"h\x00")})),
        "holds itself",
    ),
    "settings that hold themselves": (self_made(SETTINGS, forge.table({"mate": b"h\x00"})), "holds itself"),
    "an object of another package": (forge.instance("mypkg.Trick", forge.table({"x": forge.NONE})), "'mypkg.Trick'"),
    "transforms of another package": (
        forge.instance(COMPOSE, forge.table({"transforms": forge.listed(forge.instance("mypkg.Crop"))})),
        "'mypkg.Crop', which is not in the allow-table",
    ),
    "a hook": (
        forge.module(CONV, {"_forward_hooks": forge.table({"0": forge.instance("ultralytics.utils.Hook")})}),
        "has a hook of the class 'ultralytics.utils.Hook', which is not understood",
    ),
    "a child that is text": (forge.module(CONV, modules={"conv": forge.text("x")}), "is not a module"),
}


@pytest.mark.parametrize("name", IN_THE_MODEL)
def test_what_the_model_holds_is_understood_or_refused(name: str, container: forge.Container) -> None:
    code, message = IN_THE_MODEL[name]
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(container(forge.end(forge.table({"model": forge.model({"probe": code})}))))
    assert message in str(caught.value)


def around(block: Module, channels: int = 8) -> Any:
    return anchorless_around(block, 8, channels)


MAKE = Anchorless(4)
C2F = module(
    f"{BLOCK}.C2f", cv1=MAKE.conv(8, 8), cv2=MAKE.conv(12, 8),
    m=module("torch.nn.modules.container.ModuleList", **{"0": MAKE.conv(4, 4)}),
)  # fmt: skip
ATTENTION = module(
    f"{BLOCK}.Attention", {"num_heads": 2, "key_dim": 2, "head_dim": 4, "scale": 0.5},
    qkv=MAKE.conv(8, 16), proj=MAKE.conv(8, 8), pe=MAKE.conv(8, 8, 3, groups=8),
)  # fmt: skip
AREA = module(
    f"{BLOCK}.AAttn", {"num_heads": 2, "head_dim": 4, "area": 1},
    qkv=MAKE.conv(8, 24), proj=MAKE.conv(8, 8), pe=MAKE.conv(8, 8, 3, groups=8),
)  # fmt: skip
REP = module("ultralytics.nn.modules.conv.RepConv", conv1=MAKE.conv(8, 8, 3), conv2=MAKE.conv(8, 8))
POOL = module(
    "torch.nn.modules.pooling.MaxPool2d",
    {"kernel_size": 5, "stride": 1, "padding": 2, "dilation": 1, "ceil_mode": False, "return_indices": False},
)


def bomb(levels: int) -> Module:
    """A C2f whose steps are all one C2f, and so on: few modules that unfold to a great many."""
    inner = MAKE.conv(4, 4)
    for _ in range(levels):
        steps = module("torch.nn.modules.container.ModuleList", **{str(i): inner for i in range(8)})
        inner = module(f"{BLOCK}.C2f", cv1=MAKE.conv(4, 8), cv2=MAKE.conv(40, 4), m=steps)
    return sequential(MAKE.conv(8, 4), inner, MAKE.conv(4, 8))


BLOCKS: dict[str, Module] = {
    "a C2f of odd width": with_children(C2F, cv1=MAKE.conv(8, 7)),
    "a C2f without steps": with_children(C2F, m=None),
    "a C2f whose steps are one layer": with_children(C2F, m=MAKE.conv(4, 4)),
    "a C2f with a step more than it joins": with_children(
        C2F, m=module("torch.nn.modules.container.ModuleList", a=MAKE.conv(4, 4), b=MAKE.conv(4, 4))
    ),
    "pools without number": module(
        f"{BLOCK}.SPPF", {"n": 10**6}, cv1=MAKE.conv(8, 8), cv2=MAKE.conv(32, 8), m=POOL
    ),
    "a number of pools that is not one": module(
        f"{BLOCK}.SPPF", {"n": 2.5}, cv1=MAKE.conv(8, 8), cv2=MAKE.conv(32, 8), m=POOL
    ),
    "a huge attention": changed(ATTENTION, num_heads=1 << 40),
    "no attention": changed(ATTENTION, num_heads=0),
    "attention of infinite scale": changed(ATTENTION, scale=float("inf")),
    "attention without its position": with_children(ATTENTION, pe=None),
    "areas without end": changed(AREA, area=1 << 30),
    "negative areas": changed(AREA, area=-4),
    "areas and a third form": with_children(AREA, qk=MAKE.conv(8, 16)),
    "a gamma that is not finite": module(
        f"{BLOCK}.A2C2f", {}, {"gamma": np.full(8, np.nan)}, cv1=MAKE.conv(8, 8), cv2=MAKE.conv(8, 8),
        m=module("torch.nn.modules.container.ModuleList"),
    ),
    "branches with activations": with_children(REP, act=activation("ReLU")),
    "a norm as a branch of another size": with_children(
        module(
            "ultralytics.nn.modules.conv.RepConv",
            conv1=MAKE.conv(8, 8, 3, act=module("torch.nn.modules.linear.Identity")),
            conv2=MAKE.conv(8, 8, act=module("torch.nn.modules.linear.Identity")),
        ),
        act=activation("ReLU"), bn=MAKE.batch_norm(9),
    ),
    "a block that nobody knows": module(f"{BLOCK}.Mystery", cv1=MAKE.conv(8, 8)),
    "a convolution with a hidden part": with_children(MAKE.conv(8, 8), secret=MAKE.conv(8, 8)),
    "a part that an attribute hides": changed(MAKE.conv(8, 8), conv=7),
    "a method of another object": changed(
        MAKE.conv(8, 8), helper=Opaque("__builtin__.getattr", ("ultralytics.nn.modules.conv.Conv", "forward"))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_a_network_made_to_hurt_is_refused(name: str) -> None:
    with pytest.raises(YoloshipError):
        build_graph(around(BLOCKS[name]), GraphConfig((64, 96)))


def test_the_blocks_above_are_written_if_they_are_whole() -> None:
    for block in (C2F, ATTENTION, AREA):
        build_graph(around(block), GraphConfig((64, 96)))


HEADS: dict[str, dict[str, Any]] = {
    "classes without number": {"nc": 1 << 40},
    "negative classes": {"nc": -1},
    "true classes": {"nc": True},
    "distributions without end": {"reg_max": 1 << 20, "no": 3 + 4 * (1 << 20)},
    "levels without end": {"nl": 1 << 20},
    "a stride that is not finite": {"stride": tensor(np.array([np.nan]))},
    "a stride of 0": {"stride": tensor(np.zeros(1))},
    "a huge stride": {"stride": tensor(np.array([1e9]))},
    "a stride that no map has": {"stride": tensor(np.array([16.0]))},
    "strides as text": {"stride": "8"},
    "a replaced forward": {"forward": Opaque("__builtin__.getattr", ("mypkg.Other", "forward"))},
    "a tensor that nobody reads": {"bias_map": tensor(np.ones(4))},
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_made_to_hurt_is_refused(name: str) -> None:
    make = Anchorless(2)
    head = changed(make.detect_head([8], [8]), **HEADS[name])
    network = anchorless_checkpoint([(make.conv(3, 8, 8, 8, padding=(0, 0)), -1), (head, [-1])])
    with pytest.raises(YoloshipError):
        build_graph(network, GraphConfig((64, 96)))


@pytest.mark.parametrize("version", ["8" * 10_000, "8.4", "1.2.3" * 5000, 7, None, ["8.4.190"], "８.４.１９０"])
def test_a_strange_version_decides_nothing_but_the_default(version: Any) -> None:
    make = Anchorless(2)
    head = make.detect_head([8], [8], two=True)
    network = anchorless_checkpoint([(make.conv(3, 8, 8, 8, padding=(0, 0)), -1), (head, [-1])])
    strange = replace(network, metadata=MappingProxyType({"version": version}))
    assert model_info(strange, GraphConfig((64, 96))).head in {"one2many", "one2one"}


def test_a_bomb_of_shared_steps_ends_at_a_bound() -> None:
    build_graph(around(bomb(1)), GraphConfig((64, 96)))
    with pytest.raises(GraphError, match=r"too many (modules|operators): expected at most 50000"):
        build_graph(around(bomb(8)), GraphConfig((64, 96)))
