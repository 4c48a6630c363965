"""Hostile files with the heads for keypoints and for oriented boxes: whole checkpoints, with one thing wrong in each.

Every file must end in one error of ours, and nothing that it names may run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from helpers import forge
from helpers.pickled import hostile
from helpers.samples import sample
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import YoloshipError
from yoloship.graph import GraphConfig, build_graph, model_info

if TYPE_CHECKING:
    from pathlib import Path

HW = (64, 96)
HEAD = "model.2"


@pytest.mark.parametrize("task", ["pose", "obb"])
def test_the_same_file_with_nothing_wrong_is_written(task: str) -> None:
    read, made = read_checkpoint(hostile("ultralytics", task, {})), sample("ultralytics", task)
    build_graph(read, GraphConfig(HW))
    infos = [replace(model_info(one, GraphConfig(HW)), checkpoint_sha256=None) for one in (read, made)]
    assert infos[0] == infos[1]


CALLED = forge.call("os.system", forge.text("touch canary"))
HUGE = forge.integer(1 << 70)
DEEP = forge.EMPTY_LIST + b"".join(b"]" for _ in range(3000)) + b"a" * 3000
LONG = forge.listed(*(forge.text("x") for _ in range(5000)))
POSE: dict[str, forge.Code] = {
    f"{HEAD}:kpt_shape": CALLED,
    f"{HEAD}:nk": forge.call("builtins.eval", forge.text("touch canary")),
    f"{HEAD}:detect": forge.named("os.system"),
    ":kpt_names": forge.call("posix.system", forge.text("touch canary")),
    ":kpt_shape": forge.call("subprocess.getoutput", forge.text("touch canary")),
    f"{HEAD}:stride": forge.call("builtins.exec", forge.text("touch canary")),
}
SHAPES: dict[str, forge.Code] = {
    "huge": forge.listed(HUGE, forge.integer(3)),
    "huge numbers": forge.listed(forge.integer(17), HUGE),
    "product beyond 64 bits": forge.listed(forge.integer((1 << 31) - 1), forge.integer((1 << 31) - 1)),
    "negative": forge.listed(forge.integer(-17), forge.integer(-3)),
    "not a number": forge.listed(forge.number(float("nan")), forge.integer(3)),
    "endless": forge.listed(forge.number(float("inf")), forge.integer(3)),
    "a class": forge.listed(forge.named("torch.nn.modules.conv.Conv2d"), forge.integer(3)),
    "a module": forge.instance("ultralytics.nn.modules.head.Pose"),
    "deep": DEEP,
    "text": forge.text("3"),
    "bytes": forge.raw_bytes(b"\x03\x03"),
    "a set": forge.call("__builtin__.set", forge.listed(forge.integer(3))),
    "an overlong list": LONG,
    "itself": b"]q\x63h\x63ah\x63a",
    "a storage": forge.storage("0", 4),
    "one more than allowed": forge.listed(forge.integer(1001), forge.integer(2)),
    "another product than the weights have": forge.listed(forge.integer(2), forge.integer(3)),
}
PARTS: dict[str, tuple[str, dict[str, forge.Code], dict[str, forge.Code]]] = {
    "names that go round": ("pose", {":kpt_names": b"]q\x63h\x63a"}, {}),
    "too many names": ("pose", {":kpt_names": LONG}, {}),
    "another head's points": ("pose", {}, {f"{HEAD}.cv4": forge.module("torch.nn.modules.container.ModuleList")}),
    "a branch that is a layer": ("pose", {}, {f"{HEAD}.cv4": forge.module("torch.nn.modules.conv.Conv2d")}),
    "a branch of a class of its own": ("pose", {}, {f"{HEAD}.cv4": forge.module("acme.heads.Branch")}),
    "one more branch": ("pose", {}, {f"{HEAD}.cv5": forge.module("torch.nn.modules.conv.Conv2d")}),
    "several angles": ("obb", {f"{HEAD}:ne": forge.integer(2)}, {}),
    "endless angles": ("obb", {f"{HEAD}:ne": HUGE}, {}),
    "a false angle": ("obb", {f"{HEAD}:ne": forge.FALSE}, {}),
    "another method": (
        "obb",
        {
            f"{HEAD}:detect": forge.call(
                "__builtin__.getattr", forge.named("ultralytics.nn.modules.head.Detect"), forge.text("__init__")
            )
        },
        {},
    ),
    "a method of the system": (
        "obb",
        {f"{HEAD}:detect": forge.call("__builtin__.getattr", forge.named("os.path"), forge.text("forward"))},
        {},
    ),
    "a called angle": ("obb", {f"{HEAD}:angle": CALLED}, {}),
    "a branch of a system class": ("obb", {}, {f"{HEAD}.cv4": forge.module("os.system")}),
    "no branch of the angle": ("obb", {}, {f"{HEAD}.cv4": forge.NONE}),
}


@pytest.mark.parametrize("place", POSE)
def test_no_attribute_calls_anything(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(YoloshipError):
        build_graph(read_checkpoint(hostile("ultralytics", "pose", {place: POSE[place]})), GraphConfig(HW))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("place", ["", HEAD], ids=["model", "head"])
def test_no_keypoint_shape_is_believed(shape: str, place: str) -> None:
    with pytest.raises(YoloshipError):
        build_graph(
            read_checkpoint(hostile("ultralytics", "pose", {f"{place}:kpt_shape": SHAPES[shape]})), GraphConfig(HW)
        )


@pytest.mark.parametrize("part", PARTS)
def test_no_part_is_taken_for_another(part: str) -> None:
    task, changes, modules = PARTS[part]
    with pytest.raises(YoloshipError):
        build_graph(read_checkpoint(hostile("ultralytics", task, changes, modules)), GraphConfig(HW))
