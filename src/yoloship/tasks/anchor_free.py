"""From the numbers of an anchor-free head to candidate boxes: of YOLOv8 and later, and of YOLOv3u, 5u and 6u.

The maps are those of `yoloship.graph.heads.anchor_free`, where the formulas are. A cell's best class decides: only
cells whose largest class logit can pass are looked at closely, which on a usual image is a few dozen of 8,400.

A one-to-one head needs no suppression. Its answer is the best 300 cells by their best class, and of those the best 300
pairs of a cell and a class, as the training code has it; so one cell may give several boxes of different classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from yoloship.errors import SessionError
from yoloship.model import MAX_FINAL
from yoloship.tasks.decode import (
    END2END_COLUMNS,
    Candidates,
    Rows,
    as_float32,
    corners,
    expect,
    logit_limit,
    sigmoid,
    wrong_output,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from yoloship.cuda.extras import Extras
    from yoloship.cuda.free_heads import FreeHeads
    from yoloship.model import ModelInfo, TensorSpec
    from yoloship.runtime.session import DeviceTensor
    from yoloship.tasks.task import Cells, Upload

    Floats = npt.NDArray[np.float32]
    Arrays = Sequence[npt.NDArray[np.generic]]

BOX_COLUMNS: Final = 4


class DecodeExtras(Protocol):
    """The decoding of further columns: keypoints, an angle."""

    def __call__(self, raw: Floats, centres: Floats, strides: Floats) -> Floats:
        """Decode the further columns of some cells.

        Args:
            raw: (n, E) float32, as the head gives them; read only.
            centres: (n, 2) float32: x and y of the cells' centres, in cells.
            strides: (n, 1) float32: model pixels per cell.

        Returns:
            (n, E) float32 as `Candidates.extras` has them; the caller owns it.
        """


class DecodeBoxes(Protocol):
    """The way from distances to boxes, for heads whose boxes depend on the further columns."""

    def __call__(self, sides: Floats, centres: Floats, strides: Floats, extras: Floats | None) -> Floats:
        """Boxes of some cells.

        Args:
            sides: (n, 4) float32: l, t, r, b in cells; read only.
            centres: (n, 2) float32: x and y of the cells' centres, in cells.
            strides: (n, 1) float32: model pixels per cell.
            extras: What `DecodeExtras` gave for these cells; None without further columns.

        Returns:
            (n, 4) float32 as `Candidates.boxes_xyxy` has them; the caller owns it.
        """


def unchanged(raw: Floats, centres: Floats, strides: Floats) -> Floats:  # noqa: ARG001 - one signature
    """Further columns that are not decoded: `raw` itself, (n, E); see `DecodeExtras`."""
    return raw


def upright(sides: Floats, centres: Floats, strides: Floats, extras: Floats | None = None) -> Floats:  # noqa: ARG001
    """Boxes whose sides are parallel to those of the image, (n, 4) xyxy in model pixels; see `DecodeBoxes`."""
    boxes = np.concatenate([centres - sides[:, :2], centres + sides[:, 2:]], axis=1)
    boxes *= strides
    return boxes


@dataclass(frozen=True, slots=True)
class LevelMaps:
    """What a head gives for one level, of one image or of a batch.

    Attributes:
        boxes: (…, 4·reg_max, h, w) float32.
        classes: (…, C, h, w) float32 logits.
        extras: (…, E, h, w) float32; None without further columns.
        stride: Model pixels per cell.
    """

    boxes: Floats
    classes: Floats
    extras: Floats | None
    stride: int


def check_heads(outputs: Sequence[TensorSpec], info: ModelInfo, subject: str) -> None:
    """Refuse outputs that are not the undecoded maps that the record promises.

    Args:
        outputs: Those of the maps, in the order of the graph.
        info: The record.
        subject: The model's name, for messages.

    Raises:
        SessionError: they are not.
    """
    step = maps_per_level(info)
    count = step * len(info.strides)
    wanted = (None, len(info.class_names), info.extra_columns)
    good = len(outputs) == count and all(
        len(spec.shape) == 4 and _fits_channels(spec.shape[1], wanted[place % step])
        for place, spec in enumerate(outputs)
    )
    if not good:
        raise SessionError(
            "the model's metadata contradicts its outputs", subject=subject,
            expected=f"{count} maps, for each level of a box and of {len(info.class_names)} classes",
            got="; ".join(map(str, outputs))[:200], hint="export it again with yoloship",
        )  # fmt: skip


def maps_per_level(info: ModelInfo) -> int:
    """How many undecoded maps a level has: of boxes, of classes, and of further columns if there are any."""
    return 3 if info.extra_columns else 2


def _fits_channels(channels: int | str, wanted: int | None) -> bool:
    """Whether a map has these channels, or for None any that a box can have; a name is an open extent."""
    if isinstance(channels, str):
        return True
    return channels == wanted if wanted is not None else channels > 0 and channels % BOX_COLUMNS == 0


def level_maps(outputs: Arrays, info: ModelInfo, input_hw: tuple[int, int] | None) -> tuple[LevelMaps, ...]:
    """The undecoded maps of a batch, level by level, finest first.

    Args:
        outputs: As a run gave them; read only.
        info: The model.
        input_hw: (height, width) of the canvas in model pixels; None does not check it.

    Raises:
        SessionError: they are not what the record promises.
    """
    step, levels = maps_per_level(info), []
    expect(outputs, step * len(info.strides))
    for level, stride in enumerate(info.strides):
        boxes, classes, *more = outputs[level * step : (level + 1) * step]
        shape = classes.shape if input_hw is None else (*outputs[0].shape[:1], 0, *(s // stride for s in input_hw))
        for name, array, channels in (
            ("box", boxes, None),
            ("class", classes, len(info.class_names)),
            *(("extra", array, info.extra_columns) for array in more),
        ):
            fits = array.ndim == 4 and (array.shape[0], *array.shape[2:]) == (shape[0], *shape[2:])
            if not fits or not _fits_channels(array.shape[1], channels):
                want = "4·reg_max" if channels is None else channels
                raise wrong_output(f"{name}{level}", f"(B, {want}, {', '.join(map(str, shape[2:]))})", array)
        arrays = [as_float32(array, "the maps") for array in (boxes, classes, *more)]
        levels.append(LevelMaps(arrays[0], arrays[1], arrays[2] if more else None, stride))
    return tuple(levels)


def images_of(levels: Sequence[LevelMaps]) -> Iterator[tuple[LevelMaps, ...]]:
    """The maps of each image of a batch."""
    for row in range(len(levels[0].classes)):
        yield tuple(
            LevelMaps(one.boxes[row], one.classes[row], None if one.extras is None else one.extras[row], one.stride)
            for one in levels
        )


@dataclass(frozen=True, slots=True)
class _Passed:
    """The cells of one image that are looked at closely, in the order level, row, column.

    Attributes:
        boxes: (n, 4·reg_max) float32, as `LevelMaps` has them.
        logits: (n, C) float32.
        best: (n,) float32, the largest logit of each cell.
        extras: (n, E) float32; None without further columns.
        centres: (n, 2) float32: x and y of the cells' centres, in cells.
        strides: (n, 1) float32: model pixels per cell.
    """

    boxes: Floats
    logits: Floats
    best: Floats
    extras: Floats | None
    centres: Floats
    strides: Floats

    def take(self, indices: npt.NDArray[np.generic]) -> _Passed:
        """The cells at these indices, or those for which this mask is true."""
        return _Passed(
            self.boxes[indices], self.logits[indices], self.best[indices],
            None if self.extras is None else self.extras[indices], self.centres[indices], self.strides[indices],
        )  # fmt: skip


def _passed(levels: Sequence[LevelMaps], limit: float) -> _Passed:
    """The cells whose largest class logit is above a limit."""
    boxes, logits, bests, extras, centres, strides = [], [], [], [], [], []
    for level in levels:
        height, width = level.classes.shape[1:]
        flat = level.classes.reshape(len(level.classes), -1)
        best = flat.max(axis=0)
        cells = np.flatnonzero(best > limit) if limit > -math.inf else np.arange(height * width)
        row, column = np.divmod(cells, width)
        boxes.append(level.boxes.reshape(len(level.boxes), -1)[:, cells].T)
        logits.append(flat[:, cells].T)
        bests.append(best[cells])
        if level.extras is not None:
            extras.append(level.extras.reshape(len(level.extras), -1)[:, cells].T)
        centres.append(np.stack([column, row], axis=1))
        strides.append(np.full((len(cells), 1), level.stride, np.float32))
    middle = np.concatenate(centres).astype(np.float32)
    middle += np.float32(0.5)
    return _Passed(
        np.concatenate(boxes), np.concatenate(logits), np.concatenate(bests),
        np.concatenate(extras) if extras else None, middle, np.concatenate(strides),
    )  # fmt: skip


def distances(boxes: Floats) -> Floats:
    """l, t, r, b in cells.

    Args:
        boxes: (n, 4·reg_max) float32; with reg_max above 1, the logits of each distance's distribution. Read only.

    Returns:
        (n, 4) float32.
    """
    bins = boxes.shape[1] // BOX_COLUMNS
    if bins == 1:
        return boxes
    with np.errstate(over="ignore", invalid="ignore"):
        share = boxes.reshape(-1, BOX_COLUMNS, bins)
        share = np.exp(share - share.max(axis=2, keepdims=True))
        means: Floats = share @ np.arange(bins, dtype=np.float32)
        means /= share.sum(axis=2)
    return means


def heads_candidates(
    levels: Sequence[LevelMaps],
    score_threshold: float,
    *,
    one2one: bool = False,
    decode_extras: DecodeExtras = unchanged,
    decode_boxes: DecodeBoxes = upright,
) -> Candidates:
    """Pick the candidates of one image from the undecoded maps, looking at the class logits first.

    Args:
        levels: Finest first; read only.
        score_threshold: In [0, 1]; candidates at or below it are dropped.
        one2one: Whether the maps are those of a one-to-one head, whose answer is final.
        decode_extras: The decoding of further columns.
        decode_boxes: The way from distances to boxes.

    Returns:
        Candidates in model pixels, xyxy; those of a one-to-one head are final and best first.
    """
    found = _passed(levels, logit_limit(score_threshold))
    if one2one:
        cells, class_ids, logits = _best_pairs(found)
        found, scores = found.take(cells), sigmoid(logits)
    else:
        class_ids, scores = found.logits.argmax(axis=1), sigmoid(found.best)
    keep = scores > np.float32(score_threshold)
    found, scores, class_ids = found.take(keep), scores[keep], class_ids[keep].astype(np.int32)
    extras = None if found.extras is None else decode_extras(found.extras, found.centres, found.strides)
    boxes = decode_boxes(distances(found.boxes), found.centres, found.strides, extras)
    return Candidates(boxes, scores, class_ids, extras=extras, final=one2one)


def _best_pairs(found: _Passed) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    """Cell, class and logit of the best pairs, best first."""
    cells = np.argsort(-found.best, kind="stable")[:MAX_FINAL]
    logits = found.logits[cells]
    pairs = np.argsort(-logits.ravel(), kind="stable")[:MAX_FINAL]
    place, class_ids = np.divmod(pairs, logits.shape[1])
    return cells[place], class_ids, logits.ravel()[pairs]


def heads_cells(
    levels: Sequence[LevelMaps], decode_extras: DecodeExtras = unchanged, decode_boxes: DecodeBoxes = upright
) -> Cells:
    """Box, xyxy in model pixels, and score of every cell of one image, before any threshold.

    The arguments are those of `heads_candidates`.
    """
    found = _passed(levels, -math.inf)
    extras = None if found.extras is None else decode_extras(found.extras, found.centres, found.strides)
    return decode_boxes(distances(found.boxes), found.centres, found.strides, extras), sigmoid(found.best)


def decode_heads(
    outputs: Arrays,
    info: ModelInfo,
    input_hw: tuple[int, int],
    score_threshold: float,
    decoders: tuple[DecodeExtras, DecodeBoxes],
) -> list[Candidates]:
    """The candidates of every image of a batch, from its undecoded maps.

    Args:
        outputs: As a run gave them; read only.
        info: The model; of a one-to-one head if it says so.
        input_hw: (height, width) of the canvas in model pixels.
        score_threshold: In [0, 1]; candidates at or below it are dropped.
        decoders: How further columns and boxes are decoded.

    Raises:
        SessionError: the outputs are not what the record promises.
    """
    extras, boxes = decoders
    return [
        heads_candidates(
            image, score_threshold, one2one=info.head == "one2one", decode_extras=extras, decode_boxes=boxes
        )
        for image in images_of(level_maps(outputs, info, input_hw))
    ]


class ChannelRows(Rows):
    """(B, 4 + C + E, N): cx, cy, w, h in model pixels, class scores, further columns. Of anchor-free heads."""

    on_gpu = True

    def shape_text(self, classes: int) -> str:
        """The output's shape for people."""
        return f"(B, {BOX_COLUMNS + classes}, N)"

    def fits(self, shape: Sequence[int | str], classes: int) -> bool:
        """Whether the second of three extents is that of a row, or open."""
        return len(shape) == 3 and (isinstance(shape[1], str) or shape[1] == BOX_COLUMNS + classes)

    def candidates(self, rows: Floats, classes: int, score_threshold: float) -> Candidates:
        """The cells whose best class is above the threshold."""
        scores = rows[BOX_COLUMNS : BOX_COLUMNS + classes]
        best = scores.max(axis=0)
        cells = np.flatnonzero(best > np.float32(score_threshold))
        class_ids = scores[:, cells].argmax(axis=0).astype(np.int32)
        more = rows[BOX_COLUMNS + classes :]
        extras = np.ascontiguousarray(more[:, cells].T) if len(more) else None
        return Candidates(corners(rows[:BOX_COLUMNS, cells].T), best[cells], class_ids, extras=extras)

    def by_row(self, rows: Floats) -> Floats:
        """The columns of each cell on a line."""
        turned: Floats = rows.T
        return turned

    def cells(self, rows: Floats, classes: int) -> Cells:
        """Box and score of every cell."""
        return corners(rows[:BOX_COLUMNS].T), rows[BOX_COLUMNS : BOX_COLUMNS + classes].max(axis=0)

    def device_output(self, tensor: DeviceTensor, info: ModelInfo, upload: Upload) -> FreeHeads:
        """The columns, for the kernel that reads maps as well."""
        from yoloship.tasks.kernels import channel_rows

        return channel_rows(tensor, info, upload)

    def device_extras(self, tensor: DeviceTensor, info: ModelInfo, upload: Upload) -> Extras:
        """The last columns."""
        from yoloship.tasks.kernels import channel_row_extras

        return channel_row_extras(tensor, info, upload)


def end2end_candidates(rows: Floats, classes: int, score_threshold: float) -> Candidates:
    """The final boxes of one image from the rows of a one-to-one head.

    Args:
        rows: (k, 6 + E) float32: x1, y1, x2, y2 in model pixels, score, class id, further columns; read only.
        classes: How many classes the model has.
        score_threshold: In [0, 1]; rows at or below it are dropped.

    Raises:
        SessionError: a row that counts has a class id that the model does not have.
    """
    rows = rows[rows[:, BOX_COLUMNS] > np.float32(score_threshold)]
    ids = rows[:, BOX_COLUMNS + 1]
    if len(rows) and not ((ids >= 0) & (ids < classes) & (ids == np.floor(ids))).all():
        raise SessionError("a class id outside the model's classes", subject="output", expected=f"below {classes}")
    extras = rows[:, END2END_COLUMNS:] if rows.shape[1] > END2END_COLUMNS else None
    found = Candidates(rows[:, :BOX_COLUMNS], rows[:, BOX_COLUMNS], ids.astype(np.int32), extras=extras)
    return replace(found, final=True)
