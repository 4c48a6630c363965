"""Engines of the detectors without anchors, one of each design, built for real by TensorRT-RTX.

No engine is run: that needs a GPU. Each output form is built, and so are open sizes, which need the grid at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.networks import require_rtx
from helpers.shared import CHECKPOINTS, require
from yoloship.engine import BuildConfig, Range
from yoloship.graph import GraphConfig
from yoloship.models.building import build

if TYPE_CHECKING:
    from yoloship.model import HeadChoice

FIXED = (96, 128)
CELLS = 12 * 16 + 6 * 8 + 3 * 4
OPEN = BuildConfig(batch=Range(1, 2, 4), height=Range(64, 96, 128), width=Range(64, 128, 128))


@pytest.fixture(scope="module", autouse=True)
def _needs_tensorrt() -> None:
    require_rtx()


@pytest.mark.parametrize(
    ("name", "form", "head", "outputs"),
    [
        ("v5u", "compact", None, {"boxes_xyxy": (1, CELLS, 4), "scores": (1, CELLS), "class_ids": (1, CELLS)}),
        ("v8-detect", "raw", None, {"output0": (1, 7, CELLS)}),
        ("v9t", "raw", None, {"output0": (1, 7, CELLS)}),
        ("v10n", "end2end", "one2one", {"output0": (1, CELLS, 6)}),
        ("y26-detect-2heads", "end2end", "one2one", {"output0": (1, CELLS, 6)}),
    ],
)
def test_a_design_becomes_an_engine(
    name: str, form: str, head: HeadChoice | None, outputs: dict[str, tuple[int, ...]]
) -> None:
    built, info = build(
        require(CHECKPOINTS / "families" / f"{name}.pt"), graph=GraphConfig(FIXED, 1, output_form=form, head=head)
    )
    assert {spec.name: spec.shape for spec in built.outputs} == outputs
    assert info is not None
    assert (info.family, info.head) == ("ultralytics", head or ("one2many" if name == "v10n" else None))


@pytest.mark.parametrize(
    ("name", "form", "head"),
    [
        ("y11-detect", "heads", None),
        ("y12-2heads", "raw", None),
        ("v10n", "end2end", "one2one"),
        ("v8-detect", "nms", None),
    ],
)
def test_open_sizes_and_half_precision_become_engines_too(name: str, form: str, head: HeadChoice | None) -> None:
    graph = GraphConfig(None, None, "image", form, "float16", head=head)
    built, info = build(require(CHECKPOINTS / "families" / f"{name}.pt"), OPEN, graph=graph)
    assert info is not None
    assert (info.precision, info.input_hw, info.batch) == ("float16", (None, None), None)
    names = [spec.name for spec in built.outputs]
    assert names == {
        "heads": ["box0", "class0", "box1", "class1", "box2", "class2"],
        "nms": ["boxes_xyxy", "scores", "class_ids", "count", "exact"],
    }.get(form, ["output0"])
