"""The usual ways to run a standard ONNX file, written out for comparison. Their boxes are not always correct.

Both take (1, 3, H, W) float32 RGB in [0, 1] and give (1, N, 5 + C). Neither needs torch, so they are cheaper than the
code that they imitate. `_real_peers.py` measures that code itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.runtime import Session

    Image = npt.NDArray[np.uint8]


def official_like(session: Session, image: Image, side: int = 640) -> npt.NDArray[np.float64]:
    """Resize, border, planes, float32; filter by objectness; best class; suppression by class offset. (n, 6)."""
    height, width = image.shape[:2]
    ratio = min(side / height, side / width)
    columns, rows = round(width * ratio), round(height * ratio)
    resized = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)
    pad_w, pad_h = (side - columns) / 2, (side - rows) / 2
    top, bottom = round(pad_h - 0.1), round(pad_h + 0.1)
    left, right = round(pad_w - 0.1), round(pad_w + 0.1)
    canvas = cv2.copyMakeBorder(resized, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    planes = np.ascontiguousarray(canvas.transpose(2, 0, 1)[::-1])
    feed = planes[None].astype(np.float32) / 255
    raw = np.asarray(session.run({session.inputs[0].name: feed})[0])[0]
    raw = raw[raw[:, 4] > 0.25]
    scores = raw[:, 5:] * raw[:, 4:5]
    classes = scores.argmax(1)
    best = scores.max(1)
    keep = best > 0.25
    boxes, best, classes = raw[keep, :4].astype(np.float64), best[keep], classes[keep]
    boxes[:, :2] -= boxes[:, 2:] / 2
    offset = boxes.copy()
    offset[:, :2] += classes[:, None] * 7680
    kept = np.array(cv2.dnn.NMSBoxes(offset.tolist(), best.tolist(), 0.25, 0.45), np.int64).reshape(-1)[:300]
    boxes = boxes[kept]
    boxes[:, 2:] += boxes[:, :2]
    boxes = (boxes - [left, top, left, top]) / ratio
    boxes = np.clip(boxes, 0, [width, height, width, height])
    return np.concatenate([boxes, best[kept, None], classes[kept, None]], axis=1)


def article_like(session: Session, image: Image, side: int = 640) -> list[tuple[list[int], float, int]]:
    """An image in a grey square, divided in float64, still in BGR order; then a loop over rows, and integer boxes."""
    height, width = image.shape[:2]
    ratio = min(side / height, side / width)
    columns, rows = int(width * ratio), int(height * ratio)
    resized = cv2.resize(image, (columns, rows))
    left, top = (side - columns) // 2, (side - rows) // 2
    canvas = np.full((side, side, 3), 114, np.uint8)
    canvas[top : top + rows, left : left + columns] = resized
    blob = np.ascontiguousarray(np.transpose(canvas / 255.0, (2, 0, 1)), dtype=np.float32)[None]
    raw = np.asarray(session.run({session.inputs[0].name: blob})[0])[0]
    boxes: list[list[int]] = []
    scores: list[float] = []
    classes: list[int] = []
    for row in raw[raw[:, 4] > 0.25]:
        class_id = int(np.argmax(row[5:]))
        score = float(row[4] * row[5 + class_id])
        if score > 0.25:
            cx, cy, w, h = row[:4]
            boxes.append(
                [int((cx - w / 2 - left) / ratio), int((cy - h / 2 - top) / ratio), int(w / ratio), int(h / ratio)]
            )
            scores.append(score)
            classes.append(class_id)
    kept = np.array(cv2.dnn.NMSBoxes(boxes, scores, 0.25, 0.45), np.int64).reshape(-1)
    return [(boxes[i], scores[i], classes[i]) for i in kept.tolist()]
