"""Real models and photos by OpenVINO, held against ONNX Runtime; and that a plain run knows nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.shared import CHECKPOINTS, PHOTOS, TRAINED, require
from yoloship.errors import InputError
from yoloship.evaluate.matching import match
from yoloship.models.loading import load
from yoloship.runtime.openvino import OpenVino

MODELS = ("coco-yolov5n", "ppe-yolov5n", "damage-yolov5n")
IMAGES = ("bus.jpg", "street.jpg", "zidane.jpg")

needs_openvino = pytest.mark.skipif(not OpenVino.is_installed(), reason="openvino is not installed")


def has_bfloat16() -> bool:
    try:
        OpenVino.check("bfloat16")
    except InputError:
        return False
    return True


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOSHIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@needs_openvino
@pytest.mark.parametrize(("name", "shape_mode"), [*zip(MODELS, ("square", "rect", "square"), strict=True)])
def test_in_float32_the_boxes_are_those_of_onnxruntime(name: str, shape_mode: Any) -> None:
    model, images = require(TRAINED / f"{name}.pt"), [require(PHOTOS / image) for image in IMAGES]
    with (
        load(model, shape_mode=shape_mode) as right,
        load(model, shape_mode=shape_mode, runtime="openvino") as one,
        load(model, shape_mode=shape_mode, runtime="openvino", tuned_for="throughput") as many,
    ):
        assert one.session.name.endswith("(CPU, float32)")
        streamed = [outcome.unwrap() for outcome in many.stream(images * 3)]
        found = 0
        for index, image in enumerate(images):
            want = right(image)
            found += len(want)
            for have in (one(image), *streamed[index :: len(images)]):
                np.testing.assert_array_equal(have.class_ids, want.class_ids)
                np.testing.assert_allclose(have.scores, want.scores, atol=1e-5)
                np.testing.assert_allclose(have.boxes_xyxy, want.boxes_xyxy, atol=0.02)
    assert found


@needs_openvino
@pytest.mark.parametrize("name", MODELS)
def test_in_bfloat16_the_boxes_are_found_and_nearly_where_they_were(name: str) -> None:
    if not has_bfloat16():
        pytest.skip("this processor has no bfloat16 arithmetic")
    model = require(TRAINED / f"{name}.pt")
    paired, wanted, ious, moved = 0, 0, [], 0.0
    with (
        load(model) as right,
        load(model, runtime="openvino", runtime_precision="bfloat16", score_threshold=0.2) as rough,
    ):
        assert rough.session.name.endswith("(CPU, bfloat16)")
        for image in (require(PHOTOS / image) for image in IMAGES):
            want, have = right(image), rough(image)
            matched = match(want, have)
            paired += len(matched.pairs)
            wanted += len(want)
            ious += matched.ious.tolist()
            for row, column in matched.pairs:
                moved = max(moved, abs(float(want.scores[row]) - float(have.scores[column])))
    assert paired >= 0.95 * wanted > 0
    assert np.mean(ious) > 0.97
    assert 0 < moved < 0.05  # 0 would be another precision than bfloat16


@needs_openvino
def test_a_foreign_graph_is_recognised_and_gives_the_same_boxes(tmp_path: Path) -> None:
    from yoloship.checkpoint import read_checkpoint
    from yoloship.graph import GraphConfig, write_graph

    path = tmp_path / "best.onnx"
    with path.open("wb") as file:
        write_graph(read_checkpoint(require(TRAINED / "coco-yolov5n.pt")), GraphConfig(), file)
    image = require(PHOTOS / "bus.jpg")
    with load(path) as right, load(path, runtime="openvino") as other:
        want, have = right(image), other(image)
        assert other.info == right.info
    assert len(want)
    np.testing.assert_allclose(have.boxes_xyxy, want.boxes_xyxy, atol=0.02)


def test_a_plain_run_imports_nothing_of_openvino(tmp_path: Path) -> None:
    program = (
        "import sys, yoloship; from yoloship.models.loading import load; "
        "detector = load(sys.argv[1]); assert len(detector(sys.argv[2])); "
        "sys.exit(', '.join(name for name in sys.modules if 'openvino' in name) or None)"
    )
    environment = {**os.environ, "YOLOSHIP_CACHE": str(tmp_path)}
    model, image = require(TRAINED / "coco-yolov5n.pt"), require(PHOTOS / "bus.jpg")
    ran = subprocess.run(
        [sys.executable, "-c", program, str(model), str(image)], env=environment, check=False, capture_output=True
    )
    assert (ran.returncode, ran.stderr) == (0, b"")


@needs_openvino
@pytest.mark.parametrize(("name", "head"), [("y12-2heads", None), ("v10n", "one2one")])
def test_networks_without_anchors_give_the_boxes_of_onnxruntime_too(name: str, head: Any) -> None:
    """Attention in areas, and a head that chooses its boxes itself."""
    model = require(CHECKPOINTS / "families" / f"{name}.pt")
    with load(model, head=head, imgsz=320) as right, load(model, head=head, imgsz=320, runtime="openvino") as other:
        for image in IMAGES[::2]:
            both = right(require(PHOTOS / image)), other(require(PHOTOS / image))
            want, have = (found[((found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]) > 1).all(1)] for found in both)
            assert len(want)  # random networks also find boxes beside the image, of which clipping leaves no area
            pairs = match(want, have)
            assert len(pairs.pairs) >= 0.98 * max(len(want), len(have))
            assert pairs.ious.min() > 0.99
