"""Suppression inside the graph gives what the reference gives, and says so when it cannot."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloship.graph.builder import Builder
from yoloship.graph.onnx_file import graph_bytes
from yoloship.graph.passes.suppression import emit_suppression
from yoloship.graph.serialize import to_onnx
from yoloship.model import NmsConfig, TensorSpec
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.tasks.nms import nms_reference

if TYPE_CHECKING:
    import numpy.typing as npt

    Candidates = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int32]]
    Outputs = tuple[npt.NDArray[Any], ...]

COUNT = 24
CONFIG = NmsConfig(max_detections=12, candidates=24, iterations=24)


@cache
def session(config: NmsConfig = CONFIG, count: int = COUNT, *, dynamic: bool = False) -> OnnxRuntimeSession:
    """The suppression alone, from candidates to detections."""
    builder = Builder(dynamic_hw=dynamic)
    batch = "batch" if dynamic else 1
    boxes = "boxes" if dynamic else count
    inputs = tuple(
        builder.input(TensorSpec(name, dtype, (batch, boxes, *tail)), (batch, count, *tail))  # type: ignore[arg-type]
        for name, dtype, tail in (("b", "float32", (4,)), ("s", "float32", ()), ("c", "int32", ()))
    )
    emit_suppression(builder, config, batch, (inputs[0], inputs[1], inputs[2]))
    return OnnxRuntimeSession.open(graph_bytes(to_onnx(builder.build("nms"), {})))


def suppress(found: Candidates, config: NmsConfig = CONFIG, *, dynamic: bool = False) -> Outputs:
    boxes, scores, class_ids = found
    feeds = {"b": boxes[None], "s": scores[None], "c": class_ids[None]}
    return tuple(out[0] for out in session(config, len(scores), dynamic=dynamic).run(feeds))


def reference(found: Candidates, config: NmsConfig = CONFIG) -> npt.NDArray[np.int64]:
    boxes, scores, class_ids = found
    above = np.flatnonzero(scores > np.float32(config.score_threshold))
    groups = np.zeros_like(class_ids) if config.class_agnostic else class_ids
    kept = nms_reference(
        boxes[above], scores[above], groups[above],
        iou_threshold=config.iou_threshold, max_detections=config.max_detections,
    )  # fmt: skip
    return above[kept]


def assert_equal(found: Candidates, outputs: Outputs, want: npt.NDArray[np.int64]) -> None:
    boxes, scores, class_ids, count, _ = outputs
    assert int(count) == len(want)
    for have, source in zip((boxes, scores, class_ids), found, strict=True):
        np.testing.assert_array_equal(np.asarray(have)[: len(want)], source[want])
    assert not np.asarray(scores)[len(want) :].any()
    assert (np.asarray(class_ids)[len(want) :] == -1).all()


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    """Few distinct corners and scores, so that boxes meet, scores tie, and some are broken."""
    corner = st.sampled_from([0.0, 4.0, 8.0, 9.0, 16.0, 20.0])
    side = st.sampled_from([-2.0, 0.0, 5.0, 8.0, 12.0])
    rows = [(draw(corner), draw(corner), draw(side), draw(side)) for _ in range(COUNT)]
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32)
    scores = np.array([draw(st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.5, 0.9, np.nan])) for _ in rows], np.float32)
    class_ids = np.array([draw(st.integers(0, 1)) for _ in rows], np.int32)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, COUNT - 1)), draw(st.integers(0, 3))
        boxes[place] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 3e38]))
    return boxes, scores, class_ids


@settings(max_examples=150, deadline=None)
@given(candidates(), st.booleans())
def test_it_keeps_what_the_reference_keeps_ties_and_broken_boxes_included(found: Candidates, dynamic: bool) -> None:
    outputs = suppress(found, dynamic=dynamic)
    assert_equal(found, outputs, reference(found))
    assert int(outputs[4]) == 1


@settings(max_examples=30, deadline=None)
@given(candidates())
def test_classes_can_be_ignored(found: Candidates) -> None:
    config = NmsConfig(max_detections=12, candidates=24, iterations=24, class_agnostic=True)
    assert_equal(found, suppress(found, config), reference(found, config))


@settings(max_examples=100, deadline=None)
@given(candidates(), st.sampled_from([2, 4, 6]))
def test_with_too_few_iterations_nothing_is_lost_and_a_second_suppression_gives_the_reference(
    found: Candidates, iterations: int
) -> None:
    config = NmsConfig(max_detections=24, candidates=24, iterations=iterations)
    boxes, scores, class_ids, count, exact = suppress(found, config)
    want = reference(found, config)
    given_boxes, given_scores, given_ids = (np.asarray(a)[: int(count)] for a in (boxes, scores, class_ids))
    assert int(count) >= len(want)
    assert int(exact) in {0, 1}
    assert not int(exact) or int(count) == len(want)
    again = nms_reference(given_boxes, given_scores, given_ids, iou_threshold=0.45, max_detections=24)
    np.testing.assert_array_equal(given_boxes[again], found[0][want])


def chain(length: int) -> Candidates:
    """Each box meets its neighbours only, so each takes part in deciding about the next."""
    x = np.arange(length, dtype=np.float32) * 3
    boxes = np.stack([x, np.zeros_like(x), x + 10, np.full_like(x, 10)], axis=1)
    return boxes, np.linspace(0.9, 0.3, length).astype(np.float32), np.zeros(length, np.int32)


def apart(length: int) -> Candidates:
    """The same, and none meets another."""
    boxes, scores, class_ids = chain(length)
    return boxes + np.arange(length, dtype=np.float32)[:, None] * np.array([9, 0, 9, 0], np.float32), scores, class_ids


def test_a_chain_longer_than_the_iterations_is_said_to_be_inexact() -> None:
    found = chain(20)
    for iterations, exact in ((6, 0), (22, 1)):
        outputs = suppress(found, NmsConfig(max_detections=20, candidates=20, iterations=iterations))
        assert int(outputs[4]) == exact
        assert (int(outputs[3]) == len(reference(found, NmsConfig()))) is bool(exact)


def test_more_candidates_than_it_looks_at_are_said_to_be_inexact_unless_enough_are_kept() -> None:
    found = apart(20)
    assert int(suppress(found, NmsConfig(max_detections=5, candidates=10, iterations=4))[4]) == 1
    few = suppress(found, NmsConfig(max_detections=10, candidates=10, iterations=4))
    assert (int(few[3]), int(few[4])) == (10, 1)
    boxes, scores, class_ids = found
    pairs = np.repeat(boxes, 2, axis=0), np.repeat(scores, 2), np.repeat(class_ids, 2)
    outputs = suppress(pairs, NmsConfig(max_detections=10, candidates=10, iterations=4))
    assert (int(outputs[3]), int(outputs[4])) == (5, -1)


@pytest.mark.parametrize("count", [0, 3])
def test_a_image_of_fewer_cells_than_the_limits_gives_padded_rows(count: int) -> None:
    boxes, scores, class_ids = apart(4)
    scores[count:] = 0
    outputs = suppress((boxes, scores, class_ids), NmsConfig(iterations=4), dynamic=True)
    assert outputs[0].shape == (300, 4)
    assert int(outputs[3]) == count
    assert not np.asarray(outputs[0])[count:].any()


def test_each_image_of_a_batch_is_suppressed_for_itself() -> None:
    first, second = chain(COUNT), chain(COUNT)
    batch = [np.stack([first[0], second[0][::-1]]), np.stack([first[1]] * 2), np.stack([first[2]] * 2)]
    outputs = session(CONFIG, COUNT, dynamic=True).run(dict(zip("bsc", batch, strict=True)))
    for row, found in enumerate((first, (np.ascontiguousarray(second[0][::-1]), first[1], first[2]))):
        assert_equal(found, tuple(out[row] for out in outputs), reference(found))
