"""Oriented boxes: boxes that are turned about their centre, and suppressed by their probabilistic IoU.

Its output forms are those of detection, with the angle behind the class scores, in radians. `Candidates.boxes_xyxy`
holds the corners of each box before it is turned, and `Candidates.extras` the angle; so the centre, the sides and the
angle are there, and every form of detection serves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from yoloship.errors import InputError
from yoloship.results.detections import Detections
from yoloship.results.oriented import hulls_of
from yoloship.tasks.anchor_free import unchanged
from yoloship.tasks.decode import Candidates, corners
from yoloship.tasks.detect import BoxForm, CompactForm, Detect, End2EndForm, HeadsForm, RawForm, SuppressedForm
from yoloship.tasks.rotated import rotated_nms

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.letterbox import Letterbox
    from yoloship.model import ModelInfo, TensorSpec
    from yoloship.tasks.anchor_free import DecodeBoxes, DecodeExtras
    from yoloship.tasks.task import Form, Limits

    Arrays = Sequence[npt.NDArray[np.generic]]
    Floats = npt.NDArray[np.float32]


def unturned(sides: Floats, centres: Floats, strides: Floats, extras: Floats | None = None) -> Floats:
    """Corners of boxes before they are turned about their centre.

    Args:
        sides: (n, 4) float32: l, t, r, b in cells, along the box's own axes; read only.
        centres: (n, 2) float32: x and y of the cells' centres, in cells.
        strides: (n, 1) float32: model pixels per cell.
        extras: (n, 1) float32: the angle in radians.

    Returns:
        (n, 4) float32, xyxy in model pixels; the caller owns it.
    """
    assert extras is not None  # the forms check it
    half = np.float32(0.5)
    offset, reach = (sides[:, 2:] - sides[:, :2]) * half, (sides[:, :2] + sides[:, 2:]) * half
    cosine, sine = np.cos(extras), np.sin(extras)
    x, y = offset[:, :1], offset[:, 1:]
    middle = centres + np.concatenate([x * cosine - y * sine, x * sine + y * cosine], axis=1)
    boxes = np.concatenate([middle - reach, middle + reach], axis=1)
    boxes *= strides
    return boxes


def as_xywhr(boxes_xyxy: npt.NDArray[np.floating], angles: npt.NDArray[np.floating]) -> Floats:
    """Oriented boxes from the corners of the boxes before they are turned.

    Args:
        boxes_xyxy: (n, 4) float32 or float64, in any unit; read only.
        angles: (n, 1), radians; read only.

    Returns:
        (n, 5) float32: centre, sides and angle; the caller owns it.
    """
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([(low + high) / 2, high - low, angles], axis=1).astype(np.float32)


class _ObbForm(BoxForm):
    """What the forms of detection lack for angles. It stands before one of them among the bases of a class."""

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse a record with another number of further columns than the one of the angle."""
        if info.extra_columns != 1:
            raise InputError(
                "model record: bad 'extra_columns'", subject=subject, expected="1, the angle",
                got=str(info.extra_columns),
            )  # fmt: skip
        super().check(outputs, info, subject)


class RawObb(_ObbForm, RawForm):
    """Every cell decoded, in one output, (B, 4 + C + 1, N)."""

    description = "(B,4+C+1,N), the usual form"


class HeadsObb(_ObbForm, HeadsForm):
    """The undecoded maps of each level, with that of the angle."""

    def decoders(self, info: ModelInfo) -> tuple[DecodeExtras, DecodeBoxes]:  # noqa: ARG002 - one signature
        """The angle is there as it is; boxes depend on it."""
        return unchanged, unturned


class CompactObb(_ObbForm, CompactForm):
    """Of every cell the box before it is turned, the score and id of its best class, and the angle."""


class SuppressedObb(_ObbForm, SuppressedForm):
    """Final detections with their angles, best first."""


class End2EndObb(_ObbForm, End2EndForm):
    """The rows of a one-to-one head, (B, k, 7): cx, cy, w, h, score, class id, angle; final, best first."""

    def decode(
        self, outputs: Arrays, info: ModelInfo, input_hw: tuple[int, int], score_threshold: float
    ) -> list[Candidates]:
        """The rows above the threshold."""
        found = super().decode(outputs, info, input_hw, score_threshold)
        return [replace(image, boxes_xyxy=corners(image.boxes_xyxy)) for image in found]


class Obb(Detect):
    """Oriented boxes around objects, each with a class and a score."""

    name = "obb"
    title = "model of oriented boxes"
    noun = ("oriented box", "oriented boxes")
    measure = "mAP50-95 of oriented boxes"
    forms: ClassVar[tuple[Form[Candidates], ...]] = (
        RawObb(),
        HeadsObb(),
        CompactObb(),
        SuppressedObb(),
        End2EndObb(),
    )

    def usable(self, answer: Candidates) -> npt.NDArray[np.bool_]:
        """Those whose angle is finite too."""
        assert answer.extras is not None  # the forms check it
        usable: npt.NDArray[np.bool_] = super().usable(answer) & np.isfinite(answer.extras[:, 0])
        return usable

    def choose(self, answer: Candidates, groups: npt.NDArray[np.int32], limits: Limits) -> npt.NDArray[np.int64]:
        """Those that no better one of their group overlaps, by their probabilistic IoU."""
        assert answer.extras is not None  # the forms check it
        return rotated_nms(
            as_xywhr(answer.boxes_xyxy, answer.extras),
            answer.scores,
            groups,
            iou_threshold=limits.iou_threshold,
            max_detections=limits.max_detections,
        )

    def to_result(self, answer: Candidates, letterbox: Letterbox, class_names: tuple[str, ...]) -> Detections:
        """Oriented boxes in source pixels, as they are, and the upright box around each, clipped to the image.

        The centre goes the way of every point. The width is divided by the scale of the x axis and the height by that
        of the y axis, as the field's tools do it; the two scales differ only by the rounding of the scaled image.
        """
        assert answer.extras is not None  # the forms check it
        height, width = letterbox.image_hw
        unturned_px = letterbox.to_image(answer.boxes_xyxy.astype(np.float64))
        boxes = as_xywhr(unturned_px, answer.extras)
        hulls = np.clip(hulls_of(boxes), 0, np.array([width, height, width, height], np.float32))
        return Detections(
            hulls, answer.scores, answer.class_ids, class_names, letterbox.image_hw, answer.complete, boxes_xywhr=boxes
        )
