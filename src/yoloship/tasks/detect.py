"""From a model's output to candidate boxes, before suppression.

The reference is plain: `heads_to_raw` decodes every cell of every level, `raw_candidates` picks. `heads_candidates`
gives the same candidates in the same order and computes only those whose objectness can pass, which on a usual picture
is a few dozen of 25,200. Both do the same float32 operations in the same order, so they agree to the bit.

Source: shared design notes, "reference semantics": xy = (2σ(t) − 0.5 + grid)·stride, wh = (2σ(t))²·anchor,
score = σ(obj)·σ(class), best class of each box. A candidate counts where its objectness and its score are both above
the threshold, as in the reference detections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.model import Anchors, ModelInfo

    Floats = npt.NDArray[np.float32]


_LOGIT_SLACK: Final = 1e-2
"""How far below the threshold's logit the prefilter reaches. float32 σ is exact to about 1e-7, which near σ = 1 is
1e-7/(1 − σ) in the logit: less than the slack up to scores of 0.99998; beyond, nothing is filtered before σ."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Boxes that passed the score threshold, in the order of the raw output. The holder owns the arrays.

    Attributes:
        boxes_xyxy: (n, 4) float32, model pixels; may hold what a broken model gives (NaN, no area).
        scores: (n,) float32.
        class_ids: (n,) int32.
        complete: False where the graph says that it has not looked at all of them.
    """

    boxes_xyxy: Floats
    scores: Floats
    class_ids: npt.NDArray[np.int32]
    complete: bool = True

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, indices: npt.NDArray[np.generic]) -> Candidates:
        """Those at these indices, or where this mask is true."""
        return Candidates(self.boxes_xyxy[indices], self.scores[indices], self.class_ids[indices], self.complete)


def decode(
    outputs: Sequence[npt.NDArray[np.generic]],
    info: ModelInfo,
    input_hw: tuple[int, int],
    score_threshold: float,
) -> list[Candidates]:
    """Candidates of every picture of a run.

    Args:
        outputs: What the session gave, in the form that `info.output_form` names; read only.
        info: The model.
        input_hw: (height, width) of the canvas in model pixels.
        score_threshold: In [0, 1]; candidates at or below it are dropped.

    Returns:
        One `Candidates` for each picture of the batch.

    Raises:
        SessionError: the output is not what the form promises.
    """
    classes = len(info.class_names)
    if info.output_form == "heads":
        heads = check_heads(outputs, info, input_hw)
        return [
            heads_candidates([head[row] for head in heads], info.strides, info.anchors, score_threshold)
            for row in range(len(heads[0]))
        ]
    if info.output_form == "raw":
        (raw,) = _expect(outputs, 1)
        if raw.ndim != 3 or raw.shape[2] != 5 + classes:
            raise _wrong("output", f"(B, N, {5 + classes})", raw)
        return [raw_candidates(row, score_threshold) for row in _float32(raw, "output")]
    if info.output_form == "compact":
        boxes, scores, class_ids = _expect(outputs, 3)
        if scores.ndim != 2 or boxes.shape != (*scores.shape, 4) or class_ids.shape != scores.shape:
            raise _wrong("boxes_xyxy", f"(B, N, 4) with scores {scores.shape} and class_ids {class_ids.shape}", boxes)
        if class_ids.dtype.kind not in "iu":
            raise _wrong("class_ids", "integers", class_ids)
        rows = zip(_float32(boxes, "boxes_xyxy"), _float32(scores, "scores"), class_ids, strict=True)
        return [_above(Candidates(b, s, c.astype(np.int32)), classes, score_threshold) for b, s, c in rows]
    return _suppressed(outputs, classes, score_threshold)


def _suppressed(outputs: Sequence[npt.NDArray[np.generic]], classes: int, score_threshold: float) -> list[Candidates]:
    """What a graph with suppression inside has kept, best first: the first `count` rows.

    Candidates that it has not looked at score no more than those it kept, so they are missed only where all of these
    are above the threshold.
    """
    boxes, scores, class_ids, counts, exact = _expect(outputs, 5)
    if scores.ndim != 2 or boxes.shape != (*scores.shape, 4) or class_ids.shape != scores.shape:
        raise _wrong("boxes_xyxy", f"(B, M, 4) with scores {scores.shape} and class_ids {class_ids.shape}", boxes)
    for name, array in (("class_ids", class_ids), ("count", counts), ("exact", exact)):
        if array.dtype.kind not in "iu":
            raise _wrong(name, "integers", array)
    if counts.shape != scores.shape[:1] or not all(0 <= count <= scores.shape[1] for count in counts.tolist()):
        raise _wrong("count", f"({len(scores)},), each at most {scores.shape[1]}", counts)
    if exact.shape != counts.shape:
        raise _wrong("exact", f"({len(scores)},)", exact)
    limit = np.float32(score_threshold)
    rows = zip(
        _float32(boxes, "boxes_xyxy"), _float32(scores, "scores"), class_ids, counts.tolist(), exact.tolist(),
        strict=True,
    )  # fmt: skip
    return [
        _above(
            Candidates(b[:n], s[:n], c[:n].astype(np.int32), complete=state >= 0 or bool((s[:n] <= limit).any())),
            classes,
            score_threshold,
        )
        for b, s, c, n, state in rows
    ]


def check_heads(outputs: Sequence[npt.NDArray[np.generic]], info: ModelInfo, input_hw: tuple[int, int]) -> list[Floats]:
    """The undecoded maps, checked against the model and the canvas.

    Raises:
        SessionError: their number, type or shape differs.
    """
    heads = []
    for level, (head, stride, anchors) in enumerate(
        zip(_expect(outputs, len(info.strides)), info.strides, info.anchors, strict=True)
    ):
        shape = (len(anchors) * (5 + len(info.class_names)), input_hw[0] // stride, input_hw[1] // stride)
        if head.shape[1:] != shape or len(head) != len(outputs[0]):
            raise _wrong(f"head{level}", f"(B, {', '.join(map(str, shape))})", head)
        heads.append(_float32(head, f"head{level}"))
    return heads


def heads_to_raw(heads: Sequence[Floats], strides: Sequence[int], anchors: Anchors) -> Floats:
    """Decode every cell of every level: the reference of all faster decoders.

    Args:
        heads: For each level, finest first: (B, A·(5+C), h, w) float32 logits; read only.
        strides: Model pixels per cell.
        anchors: (width, height) in model pixels.

    Returns:
        (B, N, 5 + C) float32: cx, cy, w, h in model pixels, objectness and class scores in [0, 1], in the order
        level, anchor, row, column; the caller owns it.
    """
    levels = []
    for head, stride, sizes in zip(heads, strides, anchors, strict=True):
        batch, channels, height, width = head.shape
        cells = sigmoid(head).reshape(batch, len(sizes), channels // len(sizes), height, width).transpose(0, 1, 3, 4, 2)
        rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        grid = np.stack([columns, rows], axis=-1).astype(np.float32)
        raw = cells.copy()
        raw[..., 0:2] = (cells[..., 0:2] * np.float32(2) - np.float32(0.5) + grid) * np.float32(stride)
        raw[..., 2:4] = (cells[..., 2:4] * np.float32(2)) ** 2 * np.array(sizes, np.float32)[:, None, None]
        levels.append(raw.reshape(batch, -1, channels // len(sizes)))
    return np.concatenate(levels, axis=1)


def raw_candidates(raw: Floats, score_threshold: float) -> Candidates:
    """Pick the candidates of one picture from a decoded output.

    Args:
        raw: (N, 5 + C) float32: cx, cy, w, h in model pixels, objectness and class scores in [0, 1]; read only.
        score_threshold: In [0, 1]; candidates at or below it are dropped.

    Returns:
        Candidates in model pixels, xyxy.
    """
    return _pick(raw[raw[:, 4] > np.float32(score_threshold)], score_threshold)


def heads_candidates(
    heads: Sequence[Floats], strides: Sequence[int], anchors: Anchors, score_threshold: float
) -> Candidates:
    """Pick the candidates of one picture from the undecoded maps, looking at the objectness first.

    Args:
        heads: For each level, finest first: (A·(5+C), h, w) float32 logits; read only.
        strides: Model pixels per cell.
        anchors: (width, height) in model pixels.
        score_threshold: In [0, 1]; candidates at or below it are dropped.

    Returns:
        What `raw_candidates` gives for the same picture.
    """
    limit = np.float32(_logit_floor(score_threshold))
    logits, grids, scales = [], [], []
    for head, stride, sizes in zip(heads, strides, anchors, strict=True):
        _, height, width = head.shape
        planes = head.reshape(len(sizes), len(head) // len(sizes), height * width)
        passed = np.flatnonzero(planes[:, 4] > limit)  # of two axes at once NumPy's search is 20 times slower
        anchor, cell = np.divmod(passed, height * width)
        logits.append(planes[anchor, :, cell])
        row, column = np.divmod(cell, width)
        grids.append(np.stack([column, row], axis=1))
        scales.append(np.concatenate([np.full((len(cell), 1), stride), np.array(sizes)[anchor]], axis=1))
    raw = sigmoid(np.concatenate(logits))
    grid = np.concatenate(grids).astype(np.float32)
    scale = np.concatenate(scales).astype(np.float32)
    raw[:, 0:2] = (raw[:, 0:2] * np.float32(2) - np.float32(0.5) + grid) * scale[:, :1]
    raw[:, 2:4] = (raw[:, 2:4] * np.float32(2)) ** 2 * scale[:, 1:]
    return raw_candidates(raw, score_threshold)


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + e⁻ᵗ) in float32; the caller owns the result."""
    with np.errstate(over="ignore"):
        out: Floats = np.exp(-logits)
    out += np.float32(1)
    np.divide(np.float32(1), out, out=out)
    return out


def _pick(raw: Floats, score_threshold: float) -> Candidates:
    """Best class and corners of rows whose objectness passed."""
    with np.errstate(over="ignore", invalid="ignore"):
        class_scores = raw[:, 5:] * raw[:, 4:5]
        class_ids = class_scores.argmax(axis=1)
        scores = class_scores[np.arange(len(raw)), class_ids]
        half = raw[:, 2:4] * np.float32(0.5)
        boxes = np.concatenate([raw[:, :2] - half, raw[:, :2] + half], axis=1)
    found = Candidates(boxes, scores, class_ids.astype(np.int32))
    return found.take(scores > np.float32(score_threshold))


def _above(found: Candidates, classes: int, score_threshold: float) -> Candidates:
    found = found.take(found.scores > np.float32(score_threshold))
    if len(found) and not 0 <= found.class_ids.min() <= found.class_ids.max() < classes:
        raise SessionError("a class id outside the model's classes", subject="class_ids", expected=f"below {classes}")
    return found


def _logit_floor(score_threshold: float) -> float:
    """A logit that every cell above the threshold exceeds; cells that exceed it are looked at closely."""
    if not 0 < score_threshold < 0.9999:
        return -math.inf
    return math.log(score_threshold / (1 - score_threshold)) - _LOGIT_SLACK


def _expect(outputs: Sequence[npt.NDArray[np.generic]], count: int) -> Sequence[npt.NDArray[np.generic]]:
    if len(outputs) != count:
        raise SessionError("wrong number of outputs", expected=str(count), got=str(len(outputs)))
    return outputs


def _float32(array: npt.NDArray[np.generic], name: str) -> Floats:
    if array.dtype.kind != "f":
        raise _wrong(name, "floats", array)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def _wrong(name: str, expected: str, array: npt.NDArray[Any]) -> SessionError:
    return SessionError(
        "the model's output is not as promised", subject=name, expected=expected, got=f"{array.dtype}{array.shape}"
    )
