"""From the numbers of a head to candidate boxes, before suppression.

The reference is plain: `heads_to_raw` decodes every cell of every level, `raw_candidates` picks. `heads_candidates`
gives the same candidates in the same order and computes only those whose objectness can pass, which on a usual image
is a few dozen of 25,200. Both do the same float32 operations in the same order, so they agree to the bit.

xy = (2σ(t) − 0.5 + grid)·stride, wh = (2σ(t))²·anchor, score = σ(obj)·σ(class), best class of each box. A candidate
counts if its objectness and its score are both above the threshold, as in the reference detections of the tests.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import numpy as np

from yoloship._util.bfloat16 import BFLOAT16, to_float32
from yoloship._util.tables import Table
from yoloship.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.cuda.extras import Extras
    from yoloship.cuda.postprocess import DecodeInput, HeadDType, Raw
    from yoloship.model import Anchors, ModelInfo
    from yoloship.runtime.session import DeviceTensor
    from yoloship.tasks.task import Cells, Upload

    Floats = npt.NDArray[np.float32]

OutputT = TypeVar("OutputT")

STANDARD_FORM: Final = "one input (B, 3, H, W) and an output (B, N, 5 + classes), as YOLOv5 exports have"
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
        complete: False if the graph says that it has not looked at all of them.
        extras: (n, E) float32, what the task needs beside a box: mask coefficients, keypoints or an angle. None for
            boxes alone.
        final: Whether a head without suppression gave them: best first, one box for an object.
    """

    boxes_xyxy: Floats
    scores: Floats
    class_ids: npt.NDArray[np.int32]
    complete: bool = True
    extras: Floats | None = None
    final: bool = False

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, indices: npt.NDArray[np.generic]) -> Candidates:
        """The candidates at these indices, or those for which this mask is true."""
        extras = None if self.extras is None else self.extras[indices]
        boxes, scores, class_ids = self.boxes_xyxy[indices], self.scores[indices], self.class_ids[indices]
        return Candidates(boxes, scores, class_ids, self.complete, extras, self.final)


class Rows(ABC):
    """How a decoded output is laid out: which columns a row has, and what they mean. It holds no state."""

    on_gpu: ClassVar[bool] = False
    """Whether `device_output` finds a kernel that reads them."""

    @abstractmethod
    def shape_text(self, classes: int) -> str:
        """The output's shape for people: ``(B, N, 85)``."""

    @abstractmethod
    def fits(self, shape: Sequence[int | str], classes: int) -> bool:
        """Whether an output of this shape, dynamic extents being names, can be laid out like that."""

    @abstractmethod
    def candidates(self, rows: Floats, classes: int, score_threshold: float) -> Candidates:
        """The candidates of one image.

        Args:
            rows: One image of the output, float32; read only.
            classes: How many classes the model has. Columns may follow their scores.
            score_threshold: In [0, 1]; candidates at or below it are dropped.
        """

    @abstractmethod
    def cells(self, rows: Floats, classes: int) -> Cells:
        """Box, xyxy, and score of every row of one image, before any threshold; the arguments are as above."""

    def by_row(self, rows: Floats) -> Floats:
        """One image of the output with a row on each line, (N, columns); a view of it."""
        return rows

    def device_output(self, tensor: DeviceTensor, info: ModelInfo, upload: Upload) -> DecodeInput:
        """What the decoding kernels read of a decoded output on a GPU; asked only if `on_gpu` is true.

        Args:
            tensor: The output.
            info: The model.
            upload: Copies a table to the device, where it stays as long as the output, and gives its address.

        Raises:
            SessionError: the output is not laid out like that.
        """
        raise NotImplementedError

    def device_extras(self, tensor: DeviceTensor, info: ModelInfo, upload: Upload) -> Extras:
        """Where the columns after the class scores lie; asked only if `on_gpu` is true and there are any."""
        raise NotImplementedError


class ObjectRows(Rows):
    """(B, N, 5 + C): cx, cy, w, h in model pixels, the objectness, the class scores. YOLOv5's."""

    on_gpu = True

    def shape_text(self, classes: int) -> str:
        """The output's shape for people."""
        return f"(B, N, {OBJECT_COLUMNS + classes})"

    def fits(self, shape: Sequence[int | str], classes: int) -> bool:
        """Whether the last of three extents is that of a row, or open."""
        return len(shape) == 3 and (isinstance(shape[2], str) or shape[2] == OBJECT_COLUMNS + classes)

    def candidates(self, rows: Floats, classes: int, score_threshold: float) -> Candidates:
        """Those of `raw_candidates`."""
        return raw_candidates(rows, score_threshold, rows.shape[1] - OBJECT_COLUMNS - classes)

    def cells(self, rows: Floats, classes: int) -> Cells:
        """Box and score of every row."""
        scores = rows[:, OBJECT_COLUMNS : OBJECT_COLUMNS + classes].max(axis=1)
        return corners(rows[:, :4]), rows[:, 4] * scores

    def device_output(self, tensor: DeviceTensor, info: ModelInfo, upload: Upload) -> Raw:  # noqa: ARG002
        """The rows, for the kernel that picks from them."""
        from yoloship.tasks.kernels import object_rows

        return object_rows(tensor, info)

    def device_extras(self, tensor: DeviceTensor, info: ModelInfo, upload: Upload) -> Extras:
        """The last columns of the rows, times the objectness."""
        from yoloship.tasks.kernels import object_row_extras

        return object_row_extras(tensor, info, upload)


OBJECT_COLUMNS: Final = 5
"""Of a row before its class scores: four of place and size, and the objectness."""
END2END_COLUMNS: Final = 6
"""Of a one-to-one head's row before its further columns: four of the box, the score, the class id."""

ROWS: Final[Table[Rows]] = Table(
    "yoloship.rows",
    "layout of rows",
    MappingProxyType(
        {
            "yolov5": "yoloship.tasks.decode:ObjectRows",
            "ultralytics": "yoloship.tasks.anchor_free:ChannelRows",
        }
    ),
)
"""By `ModelInfo.family`. An installed package adds one by an entry point of the group ``yoloship.rows``."""


def rows_of(info: ModelInfo, subject: str) -> Rows:
    """How the decoded outputs of a model's family are laid out; a head with anchors has rows with an objectness.

    Raises:
        SessionError: nothing is known about that family.
    """
    if info.family in ROWS:
        return ROWS.load(info.family)()
    if info.anchors:
        return ObjectRows()
    raise SessionError(
        f"is of the family {info.family[:40]!r}, whose output is not known here",
        subject=subject,
        expected=", ".join(ROWS),
        hint="install the package that adds this family, or a newer yoloship",
    )


def anchor_free_error(subject: str, got: str) -> SessionError:
    """The error for the output of a model without anchors."""
    return SessionError(
        "has an output like (B, 4 + classes, N) of YOLOv8 and later, but its record or its boxes are not those of one",
        subject=subject,
        expected=STANDARD_FORM,
        got=got,
    )


def heads_to_raw(heads: Sequence[Floats], strides: Sequence[int], anchors: Anchors, extra_columns: int = 0) -> Floats:
    """Decode every cell of every level: the reference of all faster decoders.

    Args:
        heads: For each level, finest first: (B, A·(5+C+E), h, w) float32 logits; read only.
        strides: Model pixels per cell.
        anchors: (width, height) in model pixels.
        extra_columns: E, how many numbers follow the class scores; they stay as they are.

    Returns:
        (B, N, 5 + C + E) float32: cx, cy, w, h in model pixels, objectness and class scores in [0, 1], in the order
        level, anchor, row, column; the caller owns it.
    """
    levels = []
    for head, stride, sizes in zip(heads, strides, anchors, strict=True):
        batch, channels, height, width = head.shape
        logits = head.reshape(batch, len(sizes), channels // len(sizes), height, width).transpose(0, 1, 3, 4, 2)
        cells = sigmoid(logits)
        rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        grid = np.stack([columns, rows], axis=-1).astype(np.float32)
        raw = cells.copy()
        raw[..., 0:2] = (cells[..., 0:2] * np.float32(2) - np.float32(0.5) + grid) * np.float32(stride)
        raw[..., 2:4] = (cells[..., 2:4] * np.float32(2)) ** 2 * np.array(sizes, np.float32)[:, None, None]
        if extra_columns:
            raw[..., -extra_columns:] = logits[..., -extra_columns:]
        levels.append(raw.reshape(batch, -1, channels // len(sizes)))
    return np.concatenate(levels, axis=1)


def raw_candidates(raw: Floats, score_threshold: float, extra_columns: int = 0) -> Candidates:
    """Pick the candidates of one image from a decoded output.

    Args:
        raw: (N, 5 + C + E) float32: cx, cy, w, h in model pixels, objectness and class scores in [0, 1], and what
            follows them; read only.
        score_threshold: In [0, 1]; candidates at or below it are dropped.
        extra_columns: E, how many columns follow the class scores. Times the objectness, they become the extras of a
            candidate: the official suppression multiplies mask coefficients too, which the reference masks show.

    Returns:
        Candidates in model pixels, xyxy.
    """
    raw = raw[raw[:, 4] > np.float32(score_threshold)]
    end = raw.shape[1] - extra_columns
    with np.errstate(over="ignore", invalid="ignore"):
        class_scores = raw[:, OBJECT_COLUMNS:end] * raw[:, 4:5]
        class_ids = class_scores.argmax(axis=1)
        scores = class_scores[np.arange(len(raw)), class_ids]
        boxes = corners(raw[:, :4])
        extras = raw[:, end:] * raw[:, 4:5] if extra_columns else None
    found = Candidates(boxes, scores, class_ids.astype(np.int32), extras=extras)
    return found.take(scores > np.float32(score_threshold))


def heads_candidates(
    heads: Sequence[npt.NDArray[np.generic]],
    strides: Sequence[int],
    anchors: Anchors,
    score_threshold: float,
    extra_columns: int = 0,
) -> Candidates:
    """Pick the candidates of one image from the undecoded maps, looking at the objectness first.

    Args:
        heads: For each level, finest first: (A·(5+C+E), h, w) logits of any type that `as_float32` takes; read only.
        strides: Model pixels per cell.
        anchors: (width, height) in model pixels.
        score_threshold: In [0, 1]; candidates at or below it are dropped.
        extra_columns: E, how many numbers follow the class scores; they become the extras of a candidate.

    Returns:
        What `raw_candidates` gives for the same image.
    """
    raw = heads_rows(heads, strides, anchors, score_threshold, extra_columns)
    return raw_candidates(raw, score_threshold, extra_columns)


def heads_rows(
    heads: Sequence[npt.NDArray[np.generic]],
    strides: Sequence[int],
    anchors: Anchors,
    score_threshold: float,
    extra_columns: int = 0,
) -> Floats:
    """Decode the cells of one image whose objectness can be above a threshold; the arguments are as above.

    Returns:
        (n, 5 + C + E) float32: the rows of `heads_to_raw` with that objectness, and perhaps some just below it, in its
        order; the caller owns them.
    """
    limit = logit_limit(score_threshold)
    logits, grids, scales = [], [], []
    for level, (head, stride, sizes) in enumerate(zip(heads, strides, anchors, strict=True)):
        _, height, width = head.shape
        planes = head.reshape(len(sizes), len(head) // len(sizes), height * width)
        passed = np.flatnonzero(
            as_float32(planes[:, 4], f"head{level}") > limit
        )  # of two axes at once NumPy's search is 20 times slower
        anchor, cell = np.divmod(passed, height * width)
        logits.append(as_float32(planes[anchor, :, cell], f"head{level}"))
        row, column = np.divmod(cell, width)
        grids.append(np.stack([column, row], axis=1))
        scales.append(np.concatenate([np.full((len(cell), 1), stride), np.array(sizes)[anchor]], axis=1))
    values = np.concatenate(logits)
    end = values.shape[1] - extra_columns
    raw = sigmoid(values)
    raw[:, end:] = values[:, end:]
    grid = np.concatenate(grids).astype(np.float32)
    scale = np.concatenate(scales).astype(np.float32)
    raw[:, 0:2] = (raw[:, 0:2] * np.float32(2) - np.float32(0.5) + grid) * scale[:, :1]
    raw[:, 2:4] = (raw[:, 2:4] * np.float32(2)) ** 2 * scale[:, 1:]
    return raw


def logit_limit(score_threshold: float) -> float:
    """A logit that every score above the threshold exceeds. Those that exceed it must be looked at closely."""
    if 0 < score_threshold < 0.9999:
        return math.log(score_threshold / (1 - score_threshold)) - _LOGIT_SLACK
    return -math.inf


def corners(xywh: Floats) -> Floats:
    """(n, 4) of centre and size to x1, y1, x2, y2; the caller owns the result."""
    half = xywh[:, 2:] * np.float32(0.5)
    return np.concatenate([xywh[:, :2] - half, xywh[:, :2] + half], axis=1)


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + e⁻ᵗ) in float32; the caller owns the result."""
    with np.errstate(over="ignore"):
        out: Floats = np.exp(-logits)
    out += np.float32(1)
    np.divide(np.float32(1), out, out=out)
    return out


def above(found: Candidates, classes: int, score_threshold: float) -> Candidates:
    """The candidates above the threshold.

    Raises:
        SessionError: one of them has a class id that the model does not have.
    """
    found = found.take(found.scores > np.float32(score_threshold))
    if len(found) and not 0 <= found.class_ids.min() <= found.class_ids.max() < classes:
        raise SessionError("a class id outside the model's classes", subject="class_ids", expected=f"below {classes}")
    return found


def expect(outputs: Sequence[OutputT], count: int) -> Sequence[OutputT]:
    """The outputs of a run, arrays or tensors on a device, if there are so many.

    Raises:
        SessionError: there are more or fewer.
    """
    if len(outputs) != count:
        raise SessionError("wrong number of outputs", expected=str(count), got=str(len(outputs)))
    return outputs


def as_float32(array: npt.NDArray[np.generic], name: str) -> Floats:
    """An output of floats as float32; the same array if it has that type.

    Raises:
        SessionError: it does not hold floats.
    """
    if array.dtype == BFLOAT16:
        return to_float32(array)
    if array.dtype.kind != "f":
        raise wrong_output(name, "floats", array)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def wrong_output(name: str, expected: str, array: npt.NDArray[Any]) -> SessionError:
    """The error for an output that is not what the model's record promises."""
    return SessionError(
        "the model's output is not as promised", subject=name, expected=expected, got=f"{array.dtype}{array.shape}"
    )


def check_boxes(
    boxes: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    class_ids: npt.NDArray[Any],
    count: str,
    names: tuple[str, str] = ("boxes_xyxy", "class_ids"),
) -> None:
    """Refuse boxes, scores and class ids that do not belong together.

    Args:
        boxes: (B, n, 4), any type; read only.
        scores: (B, n), any type; read only.
        class_ids: (B, n), any type; read only.
        count: What the message calls n.
        names: What the message calls the boxes and the class ids.

    Raises:
        SessionError: they have other shapes.
    """
    if scores.ndim != 2 or boxes.shape != (*scores.shape, 4) or class_ids.shape != scores.shape:
        expected = f"(B, {count}, 4) with scores {scores.shape} and {names[1]} {class_ids.shape}"
        raise wrong_output(names[0], expected, boxes)


def device_dtype(tensor: DeviceTensor) -> HeadDType:
    """The element type of an output on a GPU.

    Raises:
        SessionError: the decoding kernels do not read it.
    """
    if tensor.dtype == "float32":
        return "float32"
    if tensor.dtype == "float16":
        return "float16"
    raise wrong_tensor(tensor, "float32 or float16")


def wrong_tensor(tensor: DeviceTensor, expected: str) -> SessionError:
    """The error for an output on a GPU that is not what the model's record promises."""
    return SessionError(
        "the model's output is not as promised",
        subject=tensor.name,
        expected=expected,
        got=f"{tensor.dtype}{tensor.shape}",
    )
