"""How much the objects of two results of one image overlap, by what their task is about.

Boxes overlap by their IoU, masks by theirs, oriented boxes by their probabilistic IoU, and keypoints by the object
keypoint similarity (OKS). Each is in [0, 1], and 1 means that two objects are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.results.boxes import box_ious
from yoloship.results.oriented import moments_of, pair_probious
from yoloship.results.skeleton import COCO_POINTS, VISIBLE

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.results.detections import Detections
    from yoloship.results.masks import Masks

    Overlaps = npt.NDArray[np.float64]
    Window = tuple[npt.NDArray[np.bool_], int, int]


LEAST_IOU: Final = 0.5
"""Masks whose windows show that they overlap less count as apart: their IoU is given as 0, and is never computed."""
PERSON_AREA_SHARE: Final = 0.53
"""The area of an object with keypoints, as a share of its box: OKS is scaled by the area of the mask, which labels with
boxes do not have. Source: xtcocotools (https://github.com/jin-s13/xtcocoapi), which evaluates such data sets."""
_PERSON_SIGMAS: Final = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
)  # fmt: skip
"""How exactly people place each of COCO's 17 points, as a share of the object's size. Source: pycocotools."""


def overlaps(first: Detections, second: Detections) -> Overlaps:
    """How much each object of one result overlaps each of another, by what the task of the first is about.

    Args:
        first: Of one model.
        second: Of another model of the same task, for the same image.

    Returns:
        (n, m) float64 in [0, 1]; 1 for equal objects. Classes play no part. The caller owns it.
    """
    if first.masks is not None and second.masks is not None:
        return mask_ious(first.masks, second.masks)
    if first.keypoints is not None and second.keypoints is not None:
        return keypoint_similarities(first, second)
    if first.boxes_xywhr is not None and second.boxes_xywhr is not None:
        return oriented_ious(first.boxes_xywhr, second.boxes_xywhr)
    return object_ious(first.boxes_xyxy, second.boxes_xyxy)


def object_ious(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> Overlaps:
    """(n, m) float64 IoU of (n, 4) with (m, 4) boxes, xyxy; 1 for equal boxes, even those of no area."""
    ious = box_ious(first.astype(np.float64), second.astype(np.float64))
    ious[(first[:, None] == second[None]).all(axis=2)] = 1.0
    return ious


def oriented_ious(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> Overlaps:
    """(n, m) float64 probabilistic IoU of (n, 5) with (m, 5) oriented boxes; 1 for equal ones, and 0 for what is NaN.

    See `yoloship.results.oriented.pair_probious`, which gives 0.9995 for equal boxes.
    """
    one, other = moments_of(first.astype(np.float64)), moments_of(second.astype(np.float64))
    ious = np.nan_to_num(pair_probious(one[:, :, None], other[:, None]), nan=0.0)
    ious[(first[:, None] == second[None]).all(axis=2)] = 1.0
    clipped: Overlaps = np.clip(ious, 0.0, 1.0)
    return clipped


def mask_ious(first: Masks, second: Masks) -> Overlaps:
    """(n, m) float64 IoU of masks; those below `LEAST_IOU` may be given as 0.

    Masks of one canvas are compared at its resolution, others in source pixels. Two masks without a pixel have 1.
    """
    on_canvas = first.letterbox == second.letterbox
    parts = [
        [(window.pixels, window.left, window.top) for window in masks.windows]
        if on_canvas
        else list(masks.in_windows())
        for masks in (first, second)
    ]
    counts = [np.array([np.count_nonzero(pixels) for pixels, _, _ in side], np.float64) for side in parts]
    boxes = [
        np.array([(x, y, x + pixels.shape[1], y + pixels.shape[0]) for pixels, x, y in side], np.float64).reshape(-1, 4)
        for side in parts
    ]
    ious: Overlaps = (np.maximum(counts[0][:, None], counts[1][None]) == 0).astype(np.float64)
    low = np.maximum(boxes[0][:, None, :2], boxes[1][None, :, :2])
    size = np.clip(np.minimum(boxes[0][:, None, 2:], boxes[1][None, :, 2:]) - low, 0, None)
    most = np.maximum(counts[0][:, None], counts[1][None])
    least = np.minimum(counts[0][:, None], counts[1][None])
    near = (np.minimum(size[..., 0] * size[..., 1], least) >= LEAST_IOU * most) & (least > 0)
    for row, column in np.argwhere(near).tolist():
        shared = _shared_pixels(parts[0][row], parts[1][column])
        ious[row, column] = shared / (counts[0][row] + counts[1][column] - shared)
    return ious


def _shared_pixels(one: Window, other: Window) -> int:
    (first, left, top), (second, x, y) = one, other
    west, north = max(left, x), max(top, y)
    east = min(left + first.shape[1], x + second.shape[1])
    south = min(top + first.shape[0], y + second.shape[0])
    return int(
        np.count_nonzero(
            first[north - top : south - top, west - left : east - left]
            & second[north - y : south - y, west - x : east - x]
        )
    )


def point_sigmas(count: int) -> npt.NDArray[np.float64]:
    """(K,) float64: how exactly each point can be placed, as a share of the object's size.

    COCO's numbers for its 17 points of a person; for any other number of points 1/K each, as the field has it.
    """
    return np.array(_PERSON_SIGMAS) if count == COCO_POINTS else np.full(count, 1 / count)


def seen_points(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which points of two objects are compared: those that either shows; all if neither shows any.

    Args:
        first: (…, K, 2 or 3) float32: x, y and, with 3, the visibility.
        second: (…, K, 2 or 3) float32 of a shape that broadcasts with the first.

    Returns:
        (…, K) bool; the caller owns it.
    """
    shown = [
        points[..., 2] >= VISIBLE if points.shape[-1] > 2 else np.ones(points.shape[:-1], bool)
        for points in (first, second)
    ]
    either = shown[0] | shown[1]
    return either | ~either.any(axis=-1, keepdims=True)


def keypoint_similarities(first: Detections, second: Detections) -> Overlaps:
    """(n, m) float64 OKS of the keypoints of two results, over the points of `seen_points`.

    OKS is the mean over points of exp(−d² / (2·s²·(2σ)²)), with d the distance and σ from `point_sigmas`. s² is the
    mean area of the two boxes, times `PERSON_AREA_SHARE`.

    Objects with a point that is not a number are similar to none.

    Source: COCO's evaluator (pycocotools, `computeOks`), with two models in place of a model and the truth.
    """
    assert first.keypoints is not None  # of a pose model
    assert second.keypoints is not None
    twice = 2 * np.square(2 * point_sigmas(first.keypoints.shape[1]))
    areas = second.area_px.astype(np.float64)
    found: Overlaps = np.zeros((len(first), len(second)))
    for row, (points, area) in enumerate(zip(first.keypoints, first.area_px.tolist(), strict=True)):
        seen = seen_points(points[None], second.keypoints)
        squares = np.square(points[None, :, :2].astype(np.float64) - second.keypoints[..., :2]).sum(axis=-1)
        scale = (areas + area) / 2 * PERSON_AREA_SHARE + np.spacing(1)
        near = np.exp(-squares / (twice * scale[:, None]))
        found[row] = np.where(seen, near, 0.0).sum(axis=-1) / seen.sum(axis=-1)
    return np.nan_to_num(found, nan=0.0)
