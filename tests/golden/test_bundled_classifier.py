"""The classifier inside the package, on crops of scenes that no training saw, in each precision."""

from __future__ import annotations

import importlib.util
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from yoloship import load
from yoloship.checkpoint import read_checkpoint
from yoloship.demo.scene import HELD_OUT_SEED, make_scene
from yoloship.evaluate.artefact import open_artefact
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.precision.lowering import in_precision
from yoloship.precision.quantization import QuantizeConfig

if TYPE_CHECKING:
    from yoloship.detect.detector import Detector
    from yoloship.model import Precision

TOOL = Path(__file__).parents[2] / "tools" / "train_resnet" / "crops.py"
MODEL = files("yoloship.demo") / "kinds-resnet18.pt"
TRANSFORM = "torchvision-v1"
SCENES = 14
LEAST = 0.95
"""Its accuracy on 1431 crops is 0.987; these are some 90."""


@pytest.fixture(scope="module")
def crops() -> list[tuple[str, Any]]:
    """Name of the class and image."""
    spec = importlib.util.spec_from_file_location("crops", TOOL)
    assert spec is not None
    assert spec.loader is not None
    path = [*sys.path]
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    sys.path[:] = path
    return [crop for seed in range(SCENES) for crop in tool.crops(make_scene(HELD_OUT_SEED + seed))]


def right(model: Detector, crops: list[tuple[str, Any]]) -> float:
    found = [bool(model(image).class_name == name) for name, image in crops]
    return found.count(True) / len(found)


def test_it_says_what_kind_of_code_a_crop_shows(crops: list[tuple[str, Any]]) -> None:
    assert {name for name, _ in crops} == {"qr_code", "marker", "barcode", "none"}
    assert len(crops) > 60
    with load(MODEL.read_bytes(), transform=TRANSFORM) as model:
        assert (model.input_hw, model.class_names) == ((64, 64), ("barcode", "marker", "none", "qr_code"))
        assert right(model, crops) >= LEAST


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_it_loses_nothing_in_lower_precision(
    precision: Precision, crops: list[tuple[str, Any]], tmp_path: Path
) -> None:
    graph = build_graph(read_checkpoint(MODEL.read_bytes()), GraphConfig("usual", transform=TRANSFORM))
    config = QuantizeConfig(max_drop=0.05) if precision == "int8" else None
    lowered = in_precision(graph, precision, [image for _, image in crops[:24]], config=config)
    (tmp_path / "low.onnx").write_bytes(graph_bytes(lowered.model))
    with open_artefact(tmp_path / "low.onnx") as model:
        assert right(model, crops) >= LEAST - 0.02
