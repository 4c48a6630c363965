"""Slicing with a network of each task: what it finds in a tile is what it finds in that part of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.samples import sample
from yoloship.detect.detector import Detector
from yoloship.detect.slicing import SlicedDetector, Slicing
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.results.detections import Detections
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

SIDE = 64
SEPARATE = Slicing((SIDE, SIDE), overlap=0.0, whole=False, match_threshold=1.0)
"""Nothing is in two tiles, and nothing is taken for the same object."""


@pytest.fixture(params=["detect", "segment", "pose", "obb"])
def detector(request: pytest.FixtureRequest) -> Iterator[Detector[Detections]]:
    graph = graph_bytes(build_graph(sample("ultralytics", request.param), GraphConfig((SIDE, SIDE), 1)))
    with Detector[Detections](OnnxRuntimeSession.open(graph)) as made:
        yield made


def test_the_objects_of_all_tiles_are_there_with_all_that_they_have(detector: Detector[Detections]) -> None:
    image: npt.NDArray[np.uint8] = np.random.default_rng(5).integers(0, 256, (128, 192, 3), np.uint8)
    sliced = SlicedDetector(detector, SEPARATE)
    found = sliced(image, score_threshold=0.05)
    wanted = [
        (tile, detector(image[tile.top : tile.bottom, tile.left : tile.right], score_threshold=0.05))
        for tile in sliced.tiles((128, 192))
    ]
    assert len(found) == sum(len(part) for _, part in wanted) > 10
    order = np.argsort(-np.concatenate([part.scores for _, part in wanted]), kind="stable")
    rows = iter(np.argsort(order).tolist())
    masks = None if found.masks is None else found.masks.array
    for tile, part in wanted:
        shift = np.array([tile.left, tile.top], np.float32)
        part_masks = None if part.masks is None else part.masks.array
        for number in range(len(part)):
            row = next(rows)
            assert found.scores[row] == part.scores[number]
            assert found.class_ids[row] == part.class_ids[number]
            if part.boxes_xywhr is None:
                np.testing.assert_allclose(found.boxes_xyxy[row], part.boxes_xyxy[number] + np.tile(shift, 2))
            else:
                assert found.boxes_xywhr is not None
                np.testing.assert_allclose(found.boxes_xywhr[row, :2], part.boxes_xywhr[number, :2] + shift, rtol=1e-5)
                np.testing.assert_array_equal(found.boxes_xywhr[row, 2:], part.boxes_xywhr[number, 2:])
            if part.keypoints is not None:
                assert found.keypoints is not None
                np.testing.assert_allclose(found.keypoints[row, :, :2], part.keypoints[number, :, :2] + shift)
            if part_masks is not None:
                assert masks is not None
                inside = masks[row][tile.top : tile.bottom, tile.left : tile.right]
                np.testing.assert_array_equal(inside, part_masks[number])
                assert masks[row].sum() == inside.sum()
