"""Random answers of networks of every task and output form, for canned sessions, and what their results must equal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.models import ANCHORS, STRIDES, info
from yoloship.detect.detector import Detector
from yoloship.model import METADATA_KEY, TensorSpec
from yoloship.results.mask_rules import MASK_RULES
from yoloship.runtime.scripted import ScriptedSession

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from yoloship.model import ModelInfo
    from yoloship.results.detections import Detections

    Arrays = list[npt.NDArray[Any]]
    Answer = Callable[[tuple[int, int]], Arrays]

CLASSES = 3
COEFFICIENTS = 6


@dataclass(frozen=True)
class TaskCase:
    """A model's record, and what it answers to a canvas of some size: outputs of one image, without the batch axis."""

    name: str
    record: ModelInfo
    answer: Answer

    def on_cpu(self) -> Detector:
        """A detector whose steps around the network run on the CPU."""

        def script(feeds: Any) -> Arrays:
            shape = feeds["images"].shape
            return [np.repeat(array[None], shape[0], axis=0) for array in self.answer((shape[1], shape[2]))]

        (height, width), batch = self.record.input_hw, self.record.batch or "batch"
        feed = TensorSpec("images", "uint8", (batch, height or "height", width or "width", self.record.channels))
        outputs = [
            TensorSpec(f"out{place}", "float32", (batch, *(f"axis{axis}" for axis in range(array.ndim))))
            for place, array in enumerate(self.answer((64, 96)))
        ]
        return Detector(ScriptedSession([feed], outputs, script, metadata={METADATA_KEY: self.record.to_json()}))


def grids(canvas_hw: tuple[int, int]) -> list[tuple[int, int]]:
    """(h, w) in cells of each level."""
    return [(canvas_hw[0] // stride, canvas_hw[1] // stride) for stride in STRIDES]


def free_maps(canvas_hw: tuple[int, int], bins: int, extras: int, mean: float = -2.0) -> Arrays:
    """Undecoded maps of a head without anchors."""
    rng, maps = np.random.default_rng(canvas_hw[0] + bins), []
    for h, w in grids(canvas_hw):
        sides = rng.normal(1.5 if bins == 1 else 0, 1.0, (4 * bins, h, w))
        maps += [sides, rng.normal(mean, 1.5, (CLASSES, h, w)), rng.normal(0, 1, (extras, h, w))][: 3 if extras else 2]
    return [level.astype(np.float32) for level in maps]


def channel_rows(canvas_hw: tuple[int, int], extras: int, extra_scale: float = 1.0) -> Arrays:
    """Decoded columns of a head without anchors."""
    rng, cells = np.random.default_rng(canvas_hw[1]), sum(h * w for h, w in grids(canvas_hw))
    rows = np.empty((4 + CLASSES + extras, cells), np.float32)
    rows[:2] = rng.random((2, cells)) * np.array(canvas_hw[::-1])[:, None]
    rows[2:4] = 5 + rng.random((2, cells)) * 40
    rows[4 : 4 + CLASSES] = rng.random((CLASSES, cells)) ** 4
    rows[4 + CLASSES :] = rng.standard_normal((extras, cells)) * extra_scale
    return [rows]


def chosen_rows(canvas_hw: tuple[int, int], extras: int, extra_scale: float = 1.0, oriented: bool = False) -> Arrays:
    """Rows of a one-to-one head."""
    rng = np.random.default_rng(canvas_hw[1])
    rows = np.empty((30, 6 + extras), np.float32)
    rows[:, :2] = rng.random((30, 2)) * 50
    rows[:, 2:4] = rng.random((30, 2)) * 40 + 5 + (0 if oriented else rows[:, :2])
    rows[:, 4] = np.linspace(0.95, 0.05, 30)
    rows[:, 5] = rng.integers(0, CLASSES, 30)
    rows[:, 6:] = rng.standard_normal((30, extras)) * extra_scale
    return [rows]


def anchor_maps(canvas_hw: tuple[int, int], extras: int) -> Arrays:
    """Undecoded maps of an anchor head."""
    rng, channels = np.random.default_rng(canvas_hw[0]), 3 * (5 + CLASSES + extras)
    maps = [rng.normal(-1.0, 2.0, (channels, *grid)) for grid in grids(canvas_hw)]
    return [level.astype(np.float32) for level in maps]


def anchor_rows(canvas_hw: tuple[int, int], extras: int) -> Arrays:
    """Decoded rows of an anchor head."""
    rng, cells = np.random.default_rng(canvas_hw[0]), 3 * sum(h * w for h, w in grids(canvas_hw))
    rows = rng.random((cells, 5 + CLASSES + extras), np.float32)
    rows[:, :4] *= 60
    rows[:, 4] **= 6
    rows[:, 5 + CLASSES :] -= 0.5
    return [rows]


def with_prototypes(boxes: Answer, canvas_hw: tuple[int, int]) -> Arrays:
    """The outputs of boxes, and smooth prototypes behind them."""
    rng, (height, width) = np.random.default_rng(1), canvas_hw
    coarse = rng.standard_normal((COEFFICIENTS, height // 16, width // 16), np.float32)
    return [*boxes(canvas_hw), coarse.repeat(4, axis=1).repeat(4, axis=2)]


def _case(name: str, form: str, answer: Answer, **fields: Any) -> TaskCase:
    family, anchors = ("yolov5", ANCHORS) if name.startswith("v5") else ("ultralytics", ())
    return TaskCase(name, info(form, batch=None, family=family, anchors=anchors, **fields), answer)


def _segments(name: str, form: str, boxes: Answer, rule: str, **fields: Any) -> TaskCase:
    segment = {"task": "segment", "extra_columns": COEFFICIENTS, "mask_rule": rule, **fields}
    return _case(name, form, partial(with_prototypes, boxes), **segment)


def pose(points: int, numbers: int) -> dict[str, Any]:
    """The fields of a record of a pose model."""
    return {"task": "pose", "extra_columns": points * numbers, "keypoint_shape": (points, numbers)}


ONE: dict[str, Any] = {"head": "one2one"}
OBB: dict[str, Any] = {"task": "obb", "extra_columns": 1}
NEWEST = list(MASK_RULES)[-1]
DETECT_CASES = (
    _case("v8-detect-heads", "heads", partial(free_maps, bins=16, extras=0)),
    _case("26-detect-heads", "heads", partial(free_maps, bins=1, extras=0), **ONE),
    _case("v8-detect-raw", "raw", partial(channel_rows, extras=0)),
    _case("26-detect-end2end", "end2end", partial(chosen_rows, extras=0), **ONE),
)
SEGMENT_CASES = (
    _segments("v5-segment-heads", "heads", partial(anchor_maps, extras=COEFFICIENTS), "yolov5"),
    _segments("v5-segment-raw", "raw", partial(anchor_rows, extras=COEFFICIENTS), "yolov5"),
    _segments("v8-segment-heads", "heads", partial(free_maps, bins=16, extras=COEFFICIENTS), NEWEST),
    _segments("v8-segment-raw", "raw", partial(channel_rows, extras=COEFFICIENTS), "ultralytics-8.2.43"),
    _segments("26-segment-heads", "heads", partial(free_maps, bins=1, extras=COEFFICIENTS), NEWEST, **ONE),
    _segments("26-segment-end2end", "end2end", partial(chosen_rows, extras=COEFFICIENTS), NEWEST, **ONE),
)
POSE_CASES = (
    _case("v8-pose-heads", "heads", partial(free_maps, bins=16, extras=6), **pose(2, 3)),
    _case("v8-pose-raw", "raw", partial(channel_rows, extras=10, extra_scale=50.0), **pose(5, 2)),
    _case("26-pose-heads", "heads", partial(free_maps, bins=1, extras=51), **pose(17, 3), **ONE),
    _case("26-pose-end2end", "end2end", partial(chosen_rows, extras=192, extra_scale=50.0), **pose(64, 3), **ONE),
)
OBB_CASES = (
    _case("v8-obb-heads", "heads", partial(free_maps, bins=16, extras=1), **OBB),
    _case("v8-obb-raw", "raw", partial(channel_rows, extras=1), **OBB),
    _case("26-obb-heads", "heads", partial(free_maps, bins=1, extras=1), **OBB, **ONE),
    _case("26-obb-end2end", "end2end", partial(chosen_rows, extras=1, oriented=True), **OBB, **ONE),
)


def varied(case: TaskCase, array: npt.NDArray[Any], place: int) -> npt.NDArray[Any]:
    """An output of a case for the image at a place of its batch: other boxes for each score, other masks."""
    moved: npt.NDArray[Any] = array.copy()
    if array.ndim == 3:
        moved[...] = np.roll(array, place, axis=2)
        return moved
    by_channel = case.record.output_form == "raw" and case.record.family == "ultralytics"
    boxes = moved[:4] if by_channel else moved[:, :4]
    boxes[...] = np.roll(boxes, place, axis=1 if by_channel else 0)
    return moved


def assert_same_result(found: Detections, expected: Detections) -> None:
    """Equal but for the last bits of exp(), sin() and cos(), and for mask pixels at the limit."""
    assert found.task == expected.task
    assert found.image_hw == expected.image_hw
    assert found.class_names == expected.class_names
    assert found.complete == expected.complete
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, rtol=1e-5, atol=3e-3)
    for name in ("keypoints", "boxes_xywhr"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert not one.flags.writeable
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=3e-3)
    if found.masks is None or expected.masks is None:
        assert found.masks is expected.masks
        return
    assert found.masks.letterbox == expected.masks.letterbox
    one, other = found.masks.native_array, expected.masks.native_array
    assert one.shape == other.shape
    assert np.count_nonzero(one != other) <= max(2, one.size // 5000)
