"""Hostile files with the heads for masks: whole checkpoints, with one thing wrong in each.

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
HEADS = {"yolov5": "model.3", "ultralytics": "model.2"}
each_family = pytest.mark.parametrize("family", HEADS)
LIST = "torch.nn.modules.container.ModuleList"
CONV = "torch.nn.modules.conv.Conv2d"


@each_family
def test_the_same_file_with_nothing_wrong_is_written(family: str) -> None:
    read, made = read_checkpoint(hostile(family, "segment", {})), sample(family, "segment")
    build_graph(read, GraphConfig(HW))
    infos = [replace(model_info(one, GraphConfig(HW)), checkpoint_sha256=None) for one in (read, made)]
    assert infos[0] == infos[1]


CALLS: dict[str, forge.Code] = {
    "nm": forge.call("os.system", forge.text("touch canary")),
    "npr": forge.call("builtins.eval", forge.text("touch canary")),
    "detect": forge.named("os.system"),
    "stride": forge.call("subprocess.getoutput", forge.text("touch canary")),
}
COUNTS: dict[str, forge.Code] = {
    "huge": forge.integer(1 << 70),
    "of a tensor of petabytes": forge.integer((1 << 31) - 1),
    "negative": forge.integer(-4),
    "nothing": forge.integer(0),
    "missing": forge.NONE,
    "true": forge.TRUE,
    "a fraction": forge.number(4.0),
    "not a number": forge.number(float("nan")),
    "text": forge.text("4"),
    "bytes": forge.raw_bytes(b"\x04"),
    "a list": forge.listed(forge.integer(4)),
    "itself": b"]q\x63h\x63a",
    "a class": forge.named(CONV),
    "a module": forge.instance("ultralytics.nn.modules.block.Proto"),
    "a storage": forge.storage("0", 4),
    "a set": forge.call("__builtin__.set", forge.listed(forge.integer(4))),
    "one more than the weights have": forge.integer(5),
    "one more than allowed": forge.integer(1025),
}
PARTS: dict[str, dict[str, forge.Code]] = {
    "no prototypes": {"proto": forge.NONE},
    "prototypes that are a list": {"proto": forge.module(LIST)},
    "prototypes that are a layer": {"proto": forge.module(CONV)},
    "prototypes of a class of its own": {"proto": forge.module("acme.heads.Proto")},
    "prototypes of a system class": {"proto": forge.module("os.system")},
    "prototypes without layers": {"proto": forge.module("models.common.Proto")},
    "a layer of the prototypes that is a list": {"proto.cv2": forge.module(LIST)},
    "no upsampling": {"proto.upsample": forge.NONE},
    "upsampling that is a list": {"proto.upsample": forge.module(LIST)},
    "endless upsampling": {
        "proto.upsample": forge.module(
            "torch.nn.modules.upsampling.Upsample",
            {"size": forge.NONE, "scale_factor": forge.integer(1 << 40), "mode": forge.text("nearest")},
        )
    },
    "upsampling to a size": {
        "proto.upsample": forge.module(
            "torch.nn.modules.upsampling.Upsample",
            {"size": forge.integer(1 << 30), "scale_factor": forge.NONE, "mode": forge.text("nearest")},
        )
    },
    "one more branch": {"cv9": forge.module(CONV)},
    "one more layer in the prototypes": {"proto.cv4": forge.module(CONV)},
}
NEWER: dict[str, dict[str, forge.Code]] = {
    "no branch of coefficients": {"cv4": forge.NONE},
    "a branch of coefficients without levels": {"cv4": forge.module(LIST)},
    "a branch of coefficients that is a layer": {"cv4": forge.module(CONV)},
    "nothing to refine the levels": {"proto.feat_refine": forge.NONE},
    "a list without levels": {"proto.feat_refine": forge.module(LIST)},
    "levels that are a layer": {"proto.feat_refine": forge.module(CONV)},
    "nothing that joins the levels": {"proto.feat_fuse": forge.NONE},
}


@each_family
@pytest.mark.parametrize("name", CALLS)
def test_no_attribute_calls_anything(family: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = hostile(family, "segment", {f"{HEADS[family]}:{name}": CALLS[name]})
    with pytest.raises(YoloshipError):
        build_graph(read_checkpoint(data), GraphConfig(HW))
    assert list(tmp_path.iterdir()) == []


@each_family
@pytest.mark.parametrize("count", COUNTS)
def test_no_number_of_coefficients_is_believed(family: str, count: str) -> None:
    data = hostile(family, "segment", {f"{HEADS[family]}:nm": COUNTS[count]})
    with pytest.raises(YoloshipError):
        build_graph(read_checkpoint(data), GraphConfig(HW))


@pytest.mark.parametrize(
    ("family", "part"),
    [(family, part) for family in HEADS for part in PARTS] + [("ultralytics", part) for part in NEWER],
)
def test_no_part_is_taken_for_another(family: str, part: str) -> None:
    modules = {f"{HEADS[family]}.{name}": code for name, code in (PARTS | NEWER)[part].items()}
    with pytest.raises(YoloshipError):
        build_graph(read_checkpoint(hostile(family, "segment", {}, modules)), GraphConfig(HW))
