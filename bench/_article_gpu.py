"""The usual code around a GPU network, as in articles and forum answers, written out for comparison.

It letterboxes in float64 on the host, uploads from ordinary memory, downloads the whole decoded output, filters in
NumPy, suppresses in Python loops, and gives integer boxes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.runtime import Session

    Image = npt.NDArray[np.uint8]


def article_detect(session: Session, image: Image, side: int = 640) -> list[tuple[list[int], float, int]]:
    """Boxes, scores and class ids of one image, by a float session with a decoded output."""
    canvas, ratio, (left, top) = _letterbox(image, side)
    blob = np.ascontiguousarray(np.transpose(canvas[:, :, ::-1] / 255.0, (2, 0, 1)), dtype=np.float32)[None]
    raw = np.asarray(session.run({session.inputs[0].name: blob})[0])[0]
    raw = raw[raw[:, 4] > 0.25]
    scores = raw[:, 5:] * raw[:, 4:5]
    classes = scores.argmax(axis=1)
    best = scores.max(axis=1)
    keep = best > 0.25
    corners = _corners(raw[keep, :4])
    kept = _suppress(corners, best[keep], classes[keep], 0.45)
    found = []
    for index in kept:
        x1, y1, x2, y2 = corners[index]
        box = [int((x1 - left) / ratio), int((y1 - top) / ratio), int((x2 - left) / ratio), int((y2 - top) / ratio)]
        found.append((box, float(best[keep][index]), int(classes[keep][index])))
    return found


def _letterbox(image: Image, side: int) -> tuple[npt.NDArray[Any], float, tuple[int, int]]:
    height, width = image.shape[:2]
    ratio = min(side / height, side / width)
    columns, rows = int(width * ratio), int(height * ratio)
    resized = cv2.resize(image, (columns, rows))
    left, top = (side - columns) // 2, (side - rows) // 2
    canvas = np.full((side, side, 3), 114, np.uint8)
    canvas[top : top + rows, left : left + columns] = resized
    return canvas, ratio, (left, top)


def _corners(boxes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    corners = np.copy(boxes)
    corners[:, 0] = boxes[:, 0] - boxes[:, 2] / 2
    corners[:, 1] = boxes[:, 1] - boxes[:, 3] / 2
    corners[:, 2] = boxes[:, 0] + boxes[:, 2] / 2
    corners[:, 3] = boxes[:, 1] + boxes[:, 3] / 2
    return corners


def _suppress(boxes: npt.NDArray[Any], scores: npt.NDArray[Any], classes: npt.NDArray[Any], limit: float) -> list[int]:
    kept: list[int] = []
    for class_id in np.unique(classes):
        order = [int(index) for index in np.argsort(-scores) if classes[index] == class_id]
        while order:
            best = order.pop(0)
            kept.append(best)
            order = [other for other in order if _iou(boxes[best], boxes[other]) <= limit]
    return kept


def _iou(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return float(overlap / union)
