"""Engines of classifiers, one of each family and each design of ResNet, built for real by TensorRT-RTX.

No engine is run: that needs a GPU. Fixed and open sizes are built, both inputs and both precisions.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import pytest

from helpers.networks import require_rtx
from helpers.shared import CHECKPOINTS, require
from yoloship.engine import BuildConfig, Range
from yoloship.graph import GraphConfig
from yoloship.models.building import build

if TYPE_CHECKING:
    from yoloship.graph.config import FloatPrecision
    from yoloship.model import InputForm

FAMILIES = CHECKPOINTS / "families"
OPEN = BuildConfig(batch=Range(1, 2, 4), height=Range(64, 96, 128), width=Range(64, 128, 128))


@pytest.fixture(scope="module", autouse=True)
def _needs_tensorrt() -> None:
    require_rtx()


@pytest.mark.parametrize(
    ("name", "transform", "scores"),
    [
        ("tv-basic-1111", "torchvision-v1", "logits"),
        ("timm-resnet-d", "timm:crop_pct=0.95", "logits"),
        ("sd-resnet50-thin-module", "torchvision-v2", "logits"),
        ("y5-cls", None, "logits"),
        ("y11-cls", None, "probabilities"),
    ],
)
def test_a_classifier_becomes_an_engine(name: str, transform: str | None, scores: str) -> None:
    config = GraphConfig((96, 96), 1, "float", transform=transform)
    built, info = build(require(FAMILIES / f"{name}.pt"), graph=config)
    assert info is not None
    assert [spec.shape for spec in built.outputs] == [(1, len(info.class_names))]
    assert info.class_scores == scores
    assert info.transform is not None


@pytest.mark.parametrize(
    ("name", "form", "precision"),
    [("timm-resnet-d", "image", "float16"), ("y11-cls", "image", "float16"), ("y5-cls", "float", "float32")],
)
def test_open_sizes_and_pictures_become_engines_too(name: str, form: InputForm, precision: FloatPrecision) -> None:
    transform = "timm:resize=96" if name.startswith("timm") else None
    config = GraphConfig(None, None, form, precision=precision, transform=transform)
    built, info = build(require(FAMILIES / f"{name}.pt"), OPEN, graph=config)
    assert info is not None
    assert (info.precision, info.input_hw, info.batch) == (precision, (None, None), None)
    assert built.inputs[0].dtype == ("uint8" if form == "image" else "float32")


def test_the_trained_classifier_becomes_an_engine() -> None:
    with as_file(files("yoloship.demo") / "kinds-resnet18.pt") as path:
        built, info = build(path, graph=GraphConfig("usual", 1, "image", transform="torchvision-v1"))
    assert info is not None
    assert (info.input_hw, info.class_names) == ((64, 64), ("barcode", "marker", "none", "qr_code"))
    assert built.outputs[0].shape == (1, 4)
