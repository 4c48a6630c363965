"""Suppression of oriented boxes inside a graph gives what the NumPy reference gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from yoloship.graph import graph_bytes
from yoloship.graph.builder import Builder
from yoloship.graph.passes.rotated import choose_rotated
from yoloship.graph.passes.suppression import emit_suppression
from yoloship.graph.serialize import to_onnx
from yoloship.model import NmsConfig, TensorSpec
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.tasks.obb import as_xywhr
from yoloship.tasks.rotated import rotated_nms_reference

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

COUNT = 90


def session(nms: NmsConfig) -> OnnxRuntimeSession:
    """A graph that only suppresses."""
    builder = Builder(dynamic_hw=False)
    boxes = builder.input(TensorSpec("b", "float32", ("batch", COUNT, 4)), ("batch", COUNT, 4))
    scores = builder.input(TensorSpec("s", "float32", ("batch", COUNT)), ("batch", COUNT))
    classes = builder.input(TensorSpec("c", "int32", ("batch", COUNT)), ("batch", COUNT))
    angles = builder.input(TensorSpec("a", "float32", ("batch", COUNT, 1)), ("batch", COUNT, 1))
    emit_suppression(builder, nms, "batch", (boxes, scores, classes), angles, choose_rotated)
    return OnnxRuntimeSession.open(graph_bytes(to_onnx(builder.build("rotated"), {})))


def candidates(seed: int) -> dict[str, npt.NDArray[np.generic]]:
    """Of two images: many that overlap, one that is not finite, and one whose angle is not."""
    random = np.random.default_rng(seed)
    low = random.uniform(0, 80, (2, COUNT, 2))
    boxes = np.concatenate([low, low + random.uniform(5, 60, (2, COUNT, 2))], axis=2).astype(np.float32)
    angles = random.uniform(-1, 3, (2, COUNT, 1)).astype(np.float32)
    boxes[0, 3, 2], angles[1, 5] = np.nan, np.inf
    scores = random.random((2, COUNT), np.float32)
    scores[:, [3, 5]] = 0.99
    return {"b": boxes, "s": scores, "c": random.integers(0, 2, (2, COUNT)).astype(np.int32), "a": angles}


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_what_is_kept_is_what_the_reference_keeps(threshold: float, agnostic: bool) -> None:
    nms = NmsConfig(0.2, threshold, max_detections=60, candidates=COUNT, class_agnostic=agnostic)
    given = candidates(1)
    with session(nms) as opened:
        boxes, scores, classes, counts, exact, angles = opened.run(given)
    assert exact.tolist() == [1, 1]
    for row in range(2):
        above = given["s"][row] > np.float32(0.2)
        xywhr = as_xywhr(given["b"][row], given["a"][row])
        groups = given["c"][row] * np.int32(not agnostic)
        kept = rotated_nms_reference(
            xywhr, np.where(above, given["s"][row], np.float32(np.nan)), groups.astype(np.int32),
            iou_threshold=threshold, max_detections=60,
        )  # fmt: skip
        count = int(counts[row])
        assert 1 < count == len(kept)
        np.testing.assert_array_equal(boxes[row, :count], given["b"][row][kept])
        np.testing.assert_array_equal(scores[row, :count], given["s"][row][kept])
        np.testing.assert_array_equal(classes[row, :count], given["c"][row][kept])
        np.testing.assert_array_equal(angles[row, :count], given["a"][row][kept])
        assert (classes[row, count:] == -1).all()
        assert not angles[row, count:].any()


def test_a_graph_that_did_not_look_at_all_candidates_says_so() -> None:
    with session(NmsConfig(0.2, 0.1, max_detections=20, candidates=30)) as opened:
        _, _, _, counts, exact, _ = opened.run(candidates(2))
    assert max(counts.tolist()) < 20
    assert exact.tolist() == [-1, -1]
