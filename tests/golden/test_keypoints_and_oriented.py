"""Keypoints and oriented boxes of the reference checkpoints against what the official library computes.

Raw outputs on the fixed input, and results on photos, compared as sets: scores that differ by less than float32's own
noise change places. All versions at hand give oriented boxes as the head decodes them, and so does this package.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from helpers.shared import CHECKPOINTS, PHOTOS, require
from yoloship.checkpoint import read_checkpoint
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.checkpoint import Checkpoint
    from yoloship.model import HeadChoice
    from yoloship.results.detections import Detections

    Array = npt.NDArray[np.floating[Any]]

FAMILIES = CHECKPOINTS / "families"
PHOTO_NAMES = ("bus.jpg", "zidane.jpg", "street.jpg")
OPTIONS = DetectOptions(score_threshold=0.25, iou_threshold=0.7)
MAX_PX, MAX_RADIANS = 0.5, np.radians(0.2)


class Noise(NamedTuple):
    """The distance of the float32 reference to the same network in float64: of the README beside the files."""

    box: float
    score: float
    extra: float


NOISE: dict[str, tuple[Noise, Noise | None]] = {
    "v8-pose-kpt5x2": (Noise(3e-3, 2e-5, 2e-3), None),
    "y26-pose": (Noise(2e-2, 4e-5, 1e-2), Noise(6e-3, 9e-5, 1e-2)),
    "v8-obb": (Noise(1e-2, 5e-5, 6e-5), None),
    "old-8.1.0-v8-obb": (Noise(6e-3, 2e-5, 3e-5), None),
    "y26-obb": (Noise(4e-3, 9e-5, 3e-4), Noise(7e-3, 7e-5, 2e-4)),
}
"""Of the one-to-many head, and of the one-to-one head if there is one."""
TWO_HEADED = [name for name, (_, second) in NOISE.items() if second is not None]


@cache
def checkpoint(name: str) -> Checkpoint:
    return read_checkpoint(require(FAMILIES / f"{name}.pt"))


@cache
def arrays(name: str) -> Any:
    return np.load(require(FAMILIES / f"{name}.npz"))


@cache
def results(name: str) -> Any:
    return json.loads(require(FAMILIES / f"{name}.json").read_text())


def many(name: str) -> HeadChoice | None:
    return "one2many" if name in TWO_HEADED else None


@cache
def detector(name: str, form: str, head: HeadChoice | None, *, rect: bool = False) -> Detector:
    config = GraphConfig(None if rect else (640, 640), input_form="image", output_form=form, head=head)
    session = OnnxRuntimeSession.open(graph_bytes(build_graph(checkpoint(name), config)))
    return Detector(session, shape_mode="rect" if rect else "square")


def run(name: str, hw: tuple[int, int], form: str, head: HeadChoice | None, *, dynamic: bool) -> Array:
    config = GraphConfig(None if dynamic else hw, batch=2, output_form=form, head=head)
    with OnnxRuntimeSession.open(graph_bytes(build_graph(checkpoint(name), config))) as session:
        feed = np.random.default_rng(7).random((2, 3, *hw), dtype=np.float32)
        (output,) = session.run({session.inputs[0].name: feed})
        return np.array(output, np.float64)


def classes_of(name: str) -> int:
    return {"v8-pose-kpt5x2": 2, "y26-pose": 1}.get(name, 3)


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("name", NOISE)
def test_every_number_of_the_standard_form_is_the_official_one(name: str, dynamic: bool) -> None:
    hw, key = ((160, 160), "pred_160x160") if dynamic else ((128, 192), "pred")
    expected, noise, end = arrays(name)[key], NOISE[name][0], 4 + classes_of(name)
    found = run(name, hw, "raw", many(name), dynamic=dynamic)
    assert found.shape == expected.shape
    apart = np.abs(found - expected)
    sizes = np.abs(expected[:, 2:4]).max(axis=1, keepdims=True)
    assert (apart[:, :4] <= np.maximum(1e-3 * sizes + 0.01, 5 * noise.box)).all()
    assert apart[:, 4:end].max() <= max(1e-4, 5 * noise.score)
    assert apart[:, end:].max() <= max(1e-3, 5 * noise.extra)


@pytest.mark.parametrize("name", TWO_HEADED)
def test_the_rows_of_the_one_to_one_head_are_the_official_ones(name: str) -> None:
    noise = NOISE[name][1]
    assert noise is not None
    for found, expected in zip(
        run(name, (128, 192), "end2end", "one2one", dynamic=False), arrays(name)["pred_end2end"], strict=True
    ):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found[:, 4], expected[:, 4], atol=max(1e-4, 5 * noise.score))
        tolerance = np.concatenate(
            [
                np.full(4, max(0.05, 5 * noise.box)),
                [max(1e-4, 5 * noise.score), 0],
                np.full(found.shape[1] - 6, max(1e-3, 5 * noise.extra)),
            ]
        )
        has_twin = (np.abs(found[:, None] - expected[None]) <= tolerance).all(axis=2).any(axis=0)
        assert has_twin.mean() >= 0.99  # the last rows may miss the limit of 300


def matched(costs: Array) -> int:
    """How many rows of a matrix of costs, at most 1 where two fit, have a partner of their own."""
    costs, count = costs.copy(), 0
    while costs.size and costs.min() <= 1:
        row, column = np.unravel_index(costs.argmin(), costs.shape)
        costs[row], costs[:, column] = np.inf, np.inf
        count += 1
    return count


def check_oriented(found: Detections, expected: list[list[float]]) -> None:
    """Every oriented box within the tolerances, as sets."""
    rows = np.array(expected, np.float64).reshape(-1, 7)
    assert found.boxes_xywhr is not None
    assert len(found) == len(rows)
    tolerance = np.array([MAX_PX] * 4 + [MAX_RADIANS])
    costs = (np.abs(rows[:, None, :5] - found.boxes_xywhr) / tolerance).max(axis=2, initial=0)
    costs[(rows[:, None, 6] != found.class_ids) | (np.abs(rows[:, None, 5] - found.scores) > 0.01)] = np.inf
    assert matched(costs) == len(rows)


@pytest.mark.parametrize("image", PHOTO_NAMES)
@pytest.mark.parametrize("name", ["v8-obb", "old-8.1.0-v8-obb", "y26-obb"])
def test_oriented_boxes_of_a_photo_are_the_official_ones(name: str, image: str) -> None:
    photo = require(PHOTOS / image)
    square = results(name)["square"][image]["xywhr_score_class"]
    check_oriented(detector(name, "heads", many(name))(photo, options=OPTIONS), square)
    if image == "bus.jpg":
        for form in ("raw", "compact", "nms"):
            check_oriented(detector(name, form, many(name))(photo, options=OPTIONS), square)
        rect = results(name)["rect"][image]["xywhr_score_class"]
        check_oriented(detector(name, "heads", many(name), rect=True)(photo, options=OPTIONS), rect)
    if name in TWO_HEADED:
        one = results(name)["end2end_square"][image]["xywhr_score_class"]
        check_oriented(detector(name, "heads", "one2one")(photo, options=OPTIONS), one)
        check_oriented(detector(name, "end2end", "one2one")(photo, options=OPTIONS), one)


def check_posed(found: Detections, expected: list[list[float]], keypoints: Array | None) -> None:
    """Every box, and every keypoint if there are references of them, within the tolerances, as sets."""
    rows = np.array(expected, np.float64).reshape(-1, 6)
    assert found.keypoints is not None
    assert len(found) == len(rows)
    costs = np.abs(rows[:, None, :4] - found.boxes_xyxy).max(axis=2, initial=0) / MAX_PX
    if keypoints is not None:
        apart = np.abs(keypoints[:, None] - found.keypoints)
        apart[..., :2] /= MAX_PX
        apart[..., 2:] /= 0.01
        costs = np.maximum(costs, apart.max(axis=(2, 3), initial=0))
    costs[(rows[:, None, 5] != found.class_ids) | (np.abs(rows[:, None, 4] - found.scores) > 0.01)] = np.inf
    assert matched(costs) == len(rows)


@pytest.mark.parametrize("image", PHOTO_NAMES)
@pytest.mark.parametrize("name", ["v8-pose-kpt5x2", "y26-pose"])
def test_keypoints_of_a_photo_are_the_official_ones(name: str, image: str) -> None:
    photo, stem = require(PHOTOS / image), image.removesuffix(".jpg")
    square = results(name)["square"][image]["xyxy_score_class"]
    points = arrays(name)[f"kpts_square_{stem}"]
    check_posed(detector(name, "heads", many(name))(photo, options=OPTIONS), square, points)
    if image == "bus.jpg":
        for form in ("raw", "compact", "nms"):
            check_posed(detector(name, form, many(name))(photo, options=OPTIONS), square, points)
        rect = results(name)["rect"][image]["xyxy_score_class"]
        points = arrays(name).get(f"kpts_rect_{stem}")
        check_posed(detector(name, "heads", many(name), rect=True)(photo, options=OPTIONS), rect, points)
    if name in TWO_HEADED:
        one = results(name)["end2end_square"][image]["xyxy_score_class"]
        check_posed(detector(name, "heads", "one2one")(photo, options=OPTIONS), one, None)
        check_posed(detector(name, "end2end", "one2one")(photo, options=OPTIONS), one, None)
