"""Keypoints: boxes as in detection, and with each box a fixed number of points.

Its output forms are those of detection, with the numbers of the points behind the class scores. x and y are in pixels,
and a third number, if the model has it, is the visibility in [0, 1].
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from yoloship.errors import InputError
from yoloship.tasks.anchor_free import upright
from yoloship.tasks.decode import Candidates, sigmoid
from yoloship.tasks.detect import BoxForm, CompactForm, Detect, End2EndForm, HeadsForm, RawForm, SuppressedForm

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.cuda.extras import Keypoints
    from yoloship.letterbox import Letterbox
    from yoloship.model import KeypointShape, ModelInfo, TensorSpec
    from yoloship.results.detections import Detections
    from yoloship.runtime.session import DeviceTensor
    from yoloship.tasks.anchor_free import DecodeBoxes, DecodeExtras
    from yoloship.tasks.task import Form, Upload

    Arrays = Sequence[npt.NDArray[np.generic]]
    Floats = npt.NDArray[np.float32]


def decode_keypoints(raw: Floats, centres: Floats, strides: Floats, *, shape: KeypointShape) -> Floats:
    """Turn the numbers of a head, as `yoloship.graph.heads.pose` gives them, into points.

    Args:
        raw: (n, K·D) float32: for each point x and y as distances from the cell's centre in cells, and with D = 3 the
            visibility logit; read only.
        centres: (n, 2) float32: x and y of the cells' centres, in cells.
        strides: (n, 1) float32: model pixels per cell.
        shape: K and D.

    Returns:
        (n, K·D) float32: x and y in model pixels, and the visibility in [0, 1]; the caller owns it.
    """
    points: Floats = raw.reshape(-1, *shape).copy()
    points[..., :2] += centres[:, None]
    points[..., :2] *= strides[:, None]
    points[..., 2:] = sigmoid(points[..., 2:])
    return points.reshape(raw.shape)


def with_points(found: Candidates, shape: KeypointShape) -> Candidates:
    """The same candidates with their extras as (n, K, D)."""
    assert found.extras is not None  # the forms check it
    return replace(found, extras=found.extras.reshape(-1, *shape))


class _PoseForm(BoxForm):
    """What the forms of detection lack for keypoints. It stands before one of them among the bases of a class."""

    def check(self, outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
        """Refuse a record without a keypoint shape, or with one that contradicts the number of further columns."""
        points, numbers = _shape_of(info, subject)
        if points * numbers != info.extra_columns:
            raise InputError(
                "model record: 'keypoint_shape' contradicts 'extra_columns'", subject=subject,
                expected=f"{points} · {numbers} = {points * numbers} columns", got=str(info.extra_columns),
            )  # fmt: skip
        if info.keypoint_names and len(info.keypoint_names) != points:
            raise InputError(
                "model record: 'keypoint_names' contradict 'keypoint_shape'", subject=subject,
                expected=f"{points} names", got=str(len(info.keypoint_names)),
            )  # fmt: skip
        super().check(outputs, info, subject)

    def decode(
        self, outputs: Arrays, info: ModelInfo, input_hw: tuple[int, int], score_threshold: float
    ) -> list[Candidates]:
        """The candidates of every image; their extras are (n, K, D)."""
        found = super().decode(outputs, info, input_hw, score_threshold)  # type: ignore[safe-super]
        shape = _shape_of(info, "model")
        return [with_points(image, shape) for image in found]

    def device_extras(
        self, tensors: Sequence[DeviceTensor], info: ModelInfo, input_hw: tuple[int, int], upload: Upload
    ) -> Keypoints:
        """Where the numbers of the points lie, and what they are."""
        from yoloship.tasks.kernels import keypoints

        return keypoints(self.device_columns(tensors, info, input_hw, upload), info)


class RawPose(_PoseForm, RawForm):
    """Every cell decoded, in one output, (B, 4 + C + K·D, N)."""

    description = "(B,4+C+K*D,N), the usual form"


class HeadsPose(_PoseForm, HeadsForm):
    """The undecoded maps of each level, with those of the points."""

    def decoders(self, info: ModelInfo) -> tuple[DecodeExtras, DecodeBoxes]:
        """That of the points, and that of upright boxes."""
        return partial(decode_keypoints, shape=_shape_of(info, "model")), upright


class CompactPose(_PoseForm, CompactForm):
    """Of every cell the box, the score and id of its best class, and the points."""


class SuppressedPose(_PoseForm, SuppressedForm):
    """Final detections with their points, best first."""


class End2EndPose(_PoseForm, End2EndForm):
    """The rows of a one-to-one head, with the points behind the class id."""


class Pose(Detect):
    """Boxes around objects, each with a class, a score and keypoints."""

    name = "pose"
    title = "pose model"
    noun = ("posed object", "posed objects")
    measure = "OKS mAP50-95"
    forms: ClassVar[tuple[Form[Candidates], ...]] = (
        RawPose(),
        HeadsPose(),
        CompactPose(),
        SuppressedPose(),
        End2EndPose(),
    )

    def to_result(self, answer: Candidates, letterbox: Letterbox, class_names: tuple[str, ...]) -> Detections:
        """Boxes and points in source pixels, clipped to the image. The visibility stays as it is.

        An object with a number that is not one (NaN) is dropped.
        """
        assert answer.extras is not None  # the forms give (n, K, D)
        known = ~np.asarray(np.isnan(answer.extras).any(axis=(1, 2)))
        points = answer.extras[known]
        found = super().to_result(answer if known.all() else answer.take(known), letterbox, class_names)
        height, width = letterbox.image_hw
        places = letterbox.to_image(points[..., :2].astype(np.float64))  # float32 could overflow before it is clipped
        points[..., :2] = np.clip(places, 0, [width, height])
        return replace(found, keypoints=points)


def _shape_of(info: ModelInfo, subject: str) -> KeypointShape:
    """The keypoint shape of a model.

    Raises:
        InputError: its record has none, or an impossible one.
    """
    shape = info.keypoint_shape
    if shape is None or shape[1] not in {2, 3}:
        raise InputError(
            "model record: bad 'keypoint_shape'", subject=subject, expected="the number of points, and 2 or 3 numbers",
            got=str(shape),
        )  # fmt: skip
    return shape
