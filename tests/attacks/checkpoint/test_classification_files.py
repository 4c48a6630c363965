"""Hostile and damaged files on the new ways in: state_dicts, ResNets, saved transforms, class names beside weights."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers import forge
from helpers.resnets import resnet_arrays, state_dict_bytes, state_dict_code
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import YoloshipError
from yoloship.graph import GraphConfig, build_graph

if TYPE_CHECKING:
    from collections.abc import Mapping

HW = (64, 64)
SYSTEM = forge.call("posix.system", forge.text("touch canary"))


def weights(
    arrays: Mapping[str, Any] | None = None, changes: Mapping[str, bytes] | None = None
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The entries of a ResNet's state_dict as pickle code, and the storages; `changes` replace or add entries."""
    entries, storages = state_dict_code(arrays or resnet_arrays())
    return {**entries, **(changes or {})}, storages


def changed(changes: Mapping[str, bytes]) -> bytes:
    """A state_dict with other entries."""
    entries, storages = weights(changes=changes)
    return forge.zip_bytes(forge.end(forge.table(entries)), storages)


def beside(entries: Mapping[str, bytes]) -> bytes:
    """A file that holds something beside a state_dict."""
    table, storages = weights()
    return forge.zip_bytes(forge.end(forge.table({"state_dict": forge.table(table), **entries})), storages)


def whole(root: str = "torchvision.models.resnet.ResNet", **children: bytes) -> bytes:
    return forge.zip_bytes(forge.end(forge.module(root, modules=children)))


def yolov5(transforms: bytes) -> bytes:
    layers = forge.module(
        "torch.nn.modules.container.Sequential", modules={"0": forge.module("models.common.Classify")}
    )
    return forge.zip_bytes(
        forge.end(
            forge.module("models.yolo.ClassificationModel", {"transforms": transforms}, modules={"model": layers})
        )
    )


TINY = forge.tensor(forge.storage("0", 4), (1, 1), (1, 1))
REPEATED = forge.tensor(forge.storage("0", 4), (1 << 14, 1 << 14, 1, 1), (0, 0, 0, 0))
OUTSIDE = forge.tensor(forge.storage("0", 4), (4, 3, 7, 7), (147, 49, 7, 1))
NOTHING = forge.tensor(forge.storage("0", 4), (0, 3, 7, 7), (147, 49, 7, 1))
LOOP = b"}q\x63" + forge.text("a") + b"h\x63s"

COMPOSE = "torchvision.transforms.transforms.Compose"
HUGE = forge.instance("utils.augmentations.CenterCrop", forge.table({"h": forge.integer(1 << 60), "w": forge.NONE}))
INSIDE = b"}" + forge.text("a") + b"h\x63s"


def itself(module: str, name: str, state: bytes) -> bytes:
    """An object whose state refers to it as memo entry 99."""
    return f"c{module}\n{name}\n".encode() + b")\x81q\x63" + state + b"b"


FILES: dict[str, bytes] = {
    "a call among the weights": changed({"conv1.weight": SYSTEM}),
    "a call beside the weights": beside({"epoch": SYSTEM}),
    "a call for the class names": beside({"class_names": SYSTEM}),
    "a call inside class_to_idx": beside({"class_to_idx": forge.table({"a": SYSTEM})}),
    "an object among the weights": changed({"conv1.weight": forge.instance("mypkg.X")}),
    "a module among the weights": changed({"layer1.0.conv1.weight": forge.module("torch.nn.modules.conv.Conv2d")}),
    "a text among the weights": changed({"bn1.running_var": forge.text("x")}),
    "no weight": changed({"conv1.weight": forge.NONE}),
    "a weight outside its storage": changed({"conv1.weight": OUTSIDE}),
    "a weight that repeats one number": changed({"conv1.weight": REPEATED}),
    "a weight of no elements": changed({"conv1.weight": NOTHING}),
    "a weight of two axes": changed({"conv1.weight": TINY}),
    "a classifier of another size": changed({"fc.weight": TINY}),
    "a norm of another size": changed({"bn1.weight": TINY}),
    "groups that do not divide": changed({"layer1.0.conv1.weight": TINY}),
    "a table that holds itself": forge.zip_bytes(forge.end(forge.table({"state_dict": LOOP}))),
    "blocks without end": changed({f"layer1.{index}.conv1.weight": TINY for index in range(1, 900)}),
    "a block of a huge number": changed({"layer1.999999999999.conv1.weight": TINY}),
    "a name of a thousand parts": changed({"layer1." + "a." * 1000: TINY}),
    "a thousand wrappers": state_dict_bytes({"module." * 400 + name: array for name, array in resnet_arrays().items()}),
    "weights of NaN": state_dict_bytes({**resnet_arrays(), "bn1.weight": np.full(4, np.nan, np.float32)}),
    "a variance below zero": state_dict_bytes({**resnet_arrays(), "bn1.running_var": np.full(4, -1, np.float32)}),
    "storages that are missing": forge.zip_bytes(forge.end(forge.table(weights()[0])), {"0": struct.pack("<f", 0)}),
    "a network without layers": whole(),
    "a network whose layer is a call": whole(layer1=SYSTEM),
    "a network whose block is a function": whole(layer1=forge.call("torchvision.ops.misc.Permute", forge.NONE)),
    "a class of timm that loads": whole("timm.models._hub.load_state_dict_from_url"),
    "a class of torchvision that loads": whole(layer1=forge.call("torchvision.models._api.WeightsEnum.get_state_dict")),
    "a downloader of timm": whole(layer1=forge.call("timm.models.hub.download_cached_file", forge.text("x"))),
    "a shell of timm": whole(layer1=forge.named("timm.utils.os.system")),
    "a layer that holds itself": forge.zip_bytes(
        forge.end(itself("torchvision.models.resnet", "ResNet", forge.table({"_modules": INSIDE})))
    ),
    "transforms that call": yolov5(SYSTEM),
    "transforms of a class of the script": yolov5(
        forge.instance(COMPOSE, forge.table({"transforms": forge.listed(forge.instance("__main__.MyTransform"))}))
    ),
    "transforms of an impossible size": yolov5(
        forge.instance(COMPOSE, forge.table({"transforms": forge.listed(HUGE)}))
    ),
    "transforms that hold themselves": yolov5(
        itself("torchvision.transforms.transforms", "Compose", forge.table({"transforms": b"](h\x63e"}))
    ),
    "names of three million letters": beside({"class_names": forge.listed(*[forge.text("x" * 100_000)] * 30)}),
}
"""Each with what is wrong with it."""


def test_there_are_enough_of_them() -> None:
    assert len(FILES) >= 25


@pytest.mark.parametrize("name", FILES)
def test_it_ends_in_one_line_of_ours_and_nothing_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(YoloshipError) as caught:
        build_graph(read_checkpoint(FILES[name]), GraphConfig(HW, transform="torchvision-v1"))
    message = str(caught.value)
    assert message.count("\n") == 0
    assert len(message) < 1500
    assert not list(tmp_path.iterdir())


def test_the_honest_file_beside_them_is_written() -> None:
    model = build_graph(read_checkpoint(changed({})), GraphConfig(HW, transform="torchvision-v1"))
    assert model.graph.output[0].name == "output0"
