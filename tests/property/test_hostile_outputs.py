"""Whatever a runtime answers, a detector gives detections or an error of ours."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helpers.models import HW, image_session, info, random_heads
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import YoloshipError
from yoloship.model import ModelInfo, NmsConfig, TensorSpec
from yoloship.results.mask_rules import MASK_RULES
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks import info_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

Result = TypeVar("Result")
IMAGE = np.zeros((50, 120, 3), np.uint8)
OPTIONS = DetectOptions(score_threshold=0.0, iou_threshold=0.0)
DTYPES = st.sampled_from(["float32", "float64", "float16", "int32", "int64", "uint8", "bool", "complex64", "U3"])
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9))
)
NUMBERS = st.floats(width=32, allow_nan=True, allow_infinity=True)


def ours(call: Callable[[], Result]) -> Result | None:
    """What a call returns, or None where it raises an error of ours; any other exception fails the test."""
    text = ""
    try:
        return call()
    except YoloshipError as error:
        text = str(error)
    assert text
    assert "\n" not in text
    return None


def check(detector: Detector) -> None:
    found = ours(lambda: detector(IMAGE))
    if found is None:
        return
    boxes = found.boxes_xyxy
    assert np.isfinite(boxes).all()
    assert np.isfinite(found.scores).all()
    assert (boxes >= 0).all()
    assert (boxes <= [120, 50, 120, 50]).all()
    assert ((found.class_ids >= 0) & (found.class_ids < 3)).all()
    assert len(found) <= 300


@settings(deadline=None, max_examples=150)
@given(outputs=st.lists(ARRAYS, max_size=4), form=st.sampled_from(["heads", "raw", "compact"]))
def test_arrays_of_any_kind(outputs: list[npt.NDArray[Any]], form: Any) -> None:
    check(Detector(image_session(info(form), lambda _: outputs), options=OPTIONS))


@settings(deadline=None, max_examples=150)
@given(raw=hnp.arrays("float32", (1, 12, 8), elements=NUMBERS))
def test_any_numbers_in_a_decoded_output(raw: npt.NDArray[np.float32]) -> None:
    check(Detector(image_session(info("raw"), lambda _: [raw]), options=OPTIONS))


@settings(deadline=None, max_examples=80)
@given(spots=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 24 * 6 - 1), NUMBERS), max_size=20))
def test_any_numbers_in_undecoded_maps(spots: list[tuple[int, int, float]]) -> None:
    heads = random_heads(0, HW)
    for level, place, value in spots:
        heads[level].reshape(-1)[place] = value
    check(Detector(image_session(info(), lambda _: heads), options=OPTIONS))


@settings(deadline=None, max_examples=80)
@given(
    boxes=hnp.arrays("float32", (1, 6, 4), elements=NUMBERS),
    scores=hnp.arrays("float32", (1, 6), elements=NUMBERS),
    class_ids=hnp.arrays("int64", (1, 6)),
)
def test_any_numbers_in_compact_outputs(boxes: Any, scores: Any, class_ids: Any) -> None:
    check(Detector(image_session(info("compact"), lambda _: [boxes, scores, class_ids]), options=OPTIONS))


@settings(deadline=None, max_examples=80)
@given(
    boxes=hnp.arrays("float32", (1, 6, 4), elements=NUMBERS),
    scores=hnp.arrays("float32", (1, 6), elements=NUMBERS),
    class_ids=hnp.arrays("int32", (1, 6)),
    count=st.integers(-2, 9),
    exact=st.integers(-2, 2),
)
def test_any_numbers_of_a_graph_that_suppresses(
    boxes: Any, scores: Any, class_ids: Any, count: int, exact: int
) -> None:
    outputs = [boxes, scores, class_ids, np.array([count], np.int32), np.array([exact], np.int32)]
    record = info("nms", nms=NmsConfig(score_threshold=0.0, iou_threshold=0.0, max_detections=6, candidates=6))
    check(Detector(image_session(record, lambda _: outputs, outputs=5), options=None))


SEGMENT = ModelInfo(
    "segment", "yolov5", ("a", "b", "c"), (8, 16, 32), (), "image", "raw", HW, 1, extra_columns=2, mask_rule="yolov5"
)


def segmenting(outputs: Any, rule: str, *, retina: bool) -> Detector:
    session = ScriptedSession(
        [TensorSpec("images", "uint8", (1, *HW, 3))],
        [TensorSpec("output0", "float32", (1, "boxes", 10)), TensorSpec("output1", "float32", (1, 2, 16, 24))],
        lambda _: outputs,
    )
    return Detector(session, SEGMENT, options=replace(OPTIONS, mask_rule=rule, retina_masks=retina))


def check_masks(detector: Detector) -> None:
    check(detector)
    found = ours(lambda: detector(IMAGE))
    if found is not None:
        assert found.masks is not None
        assert found.masks.array.shape == (len(found), *IMAGE.shape[:2])
        assert len(found.masks.polygons()) == len(found.masks.rle()) == len(found)


@settings(deadline=None, max_examples=60)
@given(
    rows=hnp.arrays("float32", (1, 5, 10), elements=NUMBERS),
    spots=st.lists(st.tuples(st.integers(0, 2 * 16 * 24 - 1), NUMBERS), max_size=20),
    rule=st.sampled_from(sorted(MASK_RULES)),
    retina=st.booleans(),
)
def test_any_numbers_in_mask_coefficients_and_prototypes(rows: Any, spots: Any, rule: str, retina: bool) -> None:
    prototypes = np.ones((1, 2, 16, 24), np.float32)
    for place, value in spots:
        prototypes.reshape(-1)[place] = value
    check_masks(segmenting([rows, prototypes], rule, retina=retina))


@settings(deadline=None, max_examples=60)
@given(prototypes=ARRAYS, retina=st.booleans())
def test_prototypes_of_any_kind(prototypes: npt.NDArray[Any], retina: bool) -> None:
    rows = np.full((1, 5, 10), 0.5, np.float32)
    rows[..., :4] = 20
    check_masks(segmenting([rows, prototypes], "yolov5", retina=retina))


AXES = st.lists(st.one_of(st.integers(0, 100), st.sampled_from(["n", "h"])), max_size=5).map(tuple)
TEXTS = st.dictionaries(st.sampled_from(["names", "stride", "task", "yoloship.model"]), st.text(max_size=30))


@settings(deadline=None, max_examples=150)
@given(shape=AXES, declared=AXES, output=ARRAYS, metadata=TEXTS)
def test_a_foreign_model_is_recognised_or_refused(shape: Any, declared: Any, output: Any, metadata: Any) -> None:
    session = ScriptedSession(
        [TensorSpec("images", "float32", shape)],
        [TensorSpec("output", "float32", declared)],
        lambda _: [output],
        metadata=metadata,
    )
    ours(lambda: info_of(session, "x.onnx"))
