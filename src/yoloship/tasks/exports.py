"""Recognises exports of other projects that are not YOLOv5's rows: from their metadata, and from the numbers of a run.

A shape alone decides nothing, because different exports share shapes. Each reader looks at the numbers that the model
gives for a grey image, and for noise if those do not show enough, and refuses what does not fit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.errors import SessionError
from yoloship.results.mask_rules import rule_of, version_of
from yoloship.tasks import TASKS
from yoloship.tasks.anchor_free import BOX_COLUMNS
from yoloship.tasks.class_exports import ULTRALYTICS, class_scores
from yoloship.tasks.decode import END2END_COLUMNS, OBJECT_COLUMNS, sigmoid
from yoloship.tasks.final_exports import final_detections
from yoloship.tasks.foreign import cells_of
from yoloship.tasks.probing import (
    OTHER_NAMES,
    SHARE,
    Export,
    Probe,
    are_normalised,
    are_scores,
    are_whole,
    check_corners,
    check_ids,
    same_levels,
)
from yoloship.tasks.prototypes import check_prototypes
from yoloship.tasks.rows import examine, fits_rows, is_multiplied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Arrays = Sequence[npt.NDArray[Any]]
    Floats = npt.NDArray[np.floating[Any]]
    Fits = Callable[[Arrays, int, tuple[int, int]], bool]

_STRIDES: Final = (4, 8, 16, 32, 64)
_GREY_SCORE: Final = 0.1
"""A trained model's scores are below this for nearly all cells of a grey image."""
_CHOSEN_ORDERED: Final = 0.9
"""Share of a one-to-one head's boxes that must have their corners in order; with random weights some have not."""
_ENOUGH_ROWS: Final = 100
_KEYPOINT_SHAPE: Final = re.compile(r"[\[(]\s*(\d{1,3})\s*,\s*([23])\s*[\])]")
_VISIBILITY_SLACK: Final = 0.01


def read_export(probe: Probe) -> Export | None:
    """What a model is; None if none of the exports known here looks like it.

    Raises:
        SessionError: it looks like one of them, and its numbers or its metadata contradict that.
    """
    readers = (
        class_scores, final_detections, _ultralytics, _object_segments, _channel_rows, _objectness_of_one, _offsets,
    )  # fmt: skip
    return next((found for reader in readers if (found := reader(probe)) is not None), None)


def _ultralytics(probe: Probe) -> Export | None:
    """An export whose metadata has a task, as Ultralytics' exporter writes it."""
    task = probe.metadata.get("task", "")
    if not task:
        return None
    names = probe.needed_names()
    if _has_anchors(probe, task, names):
        return None
    further = _further(probe, task)
    columns, wide = BOX_COLUMNS + len(names) + further.columns, END2END_COLUMNS + further.columns
    decoded = [
        place for place, array in enumerate(probe.arrays)
        if _is_rows(array) and array.shape[1] == columns and _strides_of(array.shape[2], probe.input_hw)
    ]  # fmt: skip
    chosen = [
        place for place, array in enumerate(probe.arrays)
        if _is_rows(array) and array.shape[2] == wide and place not in decoded
    ]  # fmt: skip
    if len(decoded) == 1:
        return _decoded(probe, decoded[0], task, names, further)
    if len(chosen) == 1 and not decoded:
        return _chosen(probe, chosen[0], task, names, further)
    shapes = ", ".join(str(array.shape) for array in probe.arrays[:4])
    raise probe.unknown(f"outputs {shapes} of the task {task!r} with {len(names)} class names", OTHER_NAMES)


def _has_anchors(probe: Probe, task: str, names: tuple[str, ...]) -> bool:
    """Whether these are YOLOv5's rows after all: our own export, whose record another tool has dropped.

    Ultralytics' exporter writes its version. With one class, its final rows have as many columns as YOLOv5's.
    """
    if task != "detect" or "version" in probe.metadata or len(probe.arrays) != 1:
        return False
    rows = probe.arrays[0]
    return _is_rows(rows) and rows.shape[2] == OBJECT_COLUMNS + len(names) and fits_rows(rows.shape[1], probe.input_hw)


@dataclass(frozen=True, slots=True)
class _Further:
    """What a task has behind the class scores: how many columns, and fields of the record."""

    columns: int
    others: dict[str, Any]


def _decoded(probe: Probe, place: int, task: str, names: tuple[str, ...], further: _Further) -> Export:
    """Rows (B, 4 + C + E, N) of every cell."""
    rows = probe.arrays[place]
    strides = _strides_of(rows.shape[2], probe.input_hw)
    _check_channel_rows(probe, rows, len(names), strides)
    if task == "pose":
        points = _points(rows.transpose(0, 2, 1)[..., BOX_COLUMNS + len(names) :], further)
        _check_points(probe, points)
        _check_visibilities(probe, points, strides)
    fits = _same_rows(probe, place, strides)
    return _export(probe, ULTRALYTICS, "raw", names, fits, further.others, task, strides, place)


def _chosen(probe: Probe, place: int, task: str, names: tuple[str, ...], further: _Further) -> Export:
    """Final rows (B, k, 6 + E): of a one-to-one head, or of an export with suppression inside."""
    wide = probe.arrays[place].shape[2]
    rows = np.empty((0, wide))
    for arrays in probe.answers():
        rows = np.concatenate([rows, _counted(arrays[place])])
        if len(rows) >= _ENOUGH_ROWS:
            break
    if not len(rows) and not _says_final(probe):
        raise probe.unknown(
            "final rows that stay empty, so that their columns cannot be checked",
            "export it again without suppression inside",
        )
    _check_final_rows(probe, rows, names, oriented=task == "obb")
    if task == "pose" and len(rows):
        _check_points(probe, _points(rows[:, END2END_COLUMNS:], further))

    def fits(arrays: Arrays, batch: int, _: tuple[int, int]) -> bool:
        return bool(arrays[place].shape[0] == batch and arrays[place].shape[2] == wide)

    return _export(probe, ULTRALYTICS, "end2end", names, fits, {**further.others, "head": "one2one"}, task)


def _is_rows(array: npt.NDArray[Any]) -> bool:
    return array.ndim == 3 and array.dtype.kind == "f"


def _counted(rows: Floats) -> npt.NDArray[np.float64]:
    """The final rows of all images that are not padding, (n, 6 + E)."""
    flat: npt.NDArray[np.float64] = rows.reshape(-1, rows.shape[2]).astype(np.float64)
    counted: npt.NDArray[np.float64] = flat[(flat != 0).any(axis=1)]
    return counted


def _says_final(probe: Probe) -> bool:
    """Whether the metadata says that the rows are final."""
    arguments = re.sub(r"[\s'\"]", "", probe.metadata.get("args", "")[:10_000])
    return probe.metadata.get("end2end") == "True" or "nms:True" in arguments


def _further(probe: Probe, task: str) -> _Further:
    if task == "detect":
        return _Further(0, {})
    if task == "obb":
        return _Further(1, {"extra_columns": 1})
    if task == "segment":
        count = _prototypes(probe)
        if not count:
            raise probe.unknown("no prototypes of masks beside its boxes")
        version = probe.metadata.get("version", "")
        if version_of(version) is None:
            raise probe.unknown("no version of the exporter in its metadata, which decides how masks are made")
        return _Further(count, {"extra_columns": count, "mask_rule": rule_of(version)})
    if task == "pose":
        shape = _KEYPOINT_SHAPE.fullmatch(probe.metadata.get("kpt_shape", "").strip())
        if shape is None or shape[1].strip("0") == "":
            raise probe.unknown(f"the keypoint shape {probe.metadata.get('kpt_shape', '')[:40]!r} in its metadata")
        points, numbers = int(shape[1]), int(shape[2])
        count = points * numbers
        return _Further(count, {"extra_columns": count, "keypoint_shape": (points, numbers)})
    raise SessionError(
        f"a model for the task {task[:40]!r} cannot be run here yet", subject=probe.subject, expected=", ".join(TASKS)
    )


def _prototypes(probe: Probe) -> int:
    """How many prototypes of masks the model gives; 0 for none. They are the last output of four axes."""
    maps = next((array for array in reversed(probe.arrays) if array.ndim == 4 and array.dtype.kind == "f"), None)
    if maps is None:
        return 0
    try:
        check_prototypes(maps.shape[1:], probe.input_hw, maps.shape[1], probe.subject)
    except SessionError:
        return 0
    return int(maps.shape[1])


def _object_segments(probe: Probe) -> Export | None:
    """(B, N, 5 + C + P) of YOLOv5's segmentation models, beside P prototypes."""
    count = _prototypes(probe)
    if not count:
        return None
    for place, rows in enumerate(probe.arrays):
        if not _is_rows(rows):
            continue
        classes = rows.shape[2] - OBJECT_COLUMNS - count
        if probe.names is not None and len(probe.names) != classes:
            continue  # without coefficients it may be a detection model, which is looked at later
        if classes < 1 or rows.shape[1] < rows.shape[2]:
            continue
        names = probe.needed_names()  # without them, columns of classes may be taken for coefficients
        boxes = rows[..., : OBJECT_COLUMNS + classes]
        levels = examine(boxes, probe.input_hw, names, probe.subject)
        strides = tuple(level.stride for level in levels)
        if not np.isfinite(rows).all() or are_scores(rows[..., -count:]):
            raise probe.unknown(f"{count} columns after the class scores that are not mask coefficients")
        fits = same_levels(place, strides)
        others = {"extra_columns": count, "mask_rule": "yolov5"}
        return _export(probe, "yolov5", "raw", names, fits, others, "segment", strides, place)
    return None


def _channel_rows(probe: Probe) -> Export | None:
    """(B, 4 + C, N) without metadata. Every cell must lie within its own box, and all other numbers be scores."""
    for place, rows in enumerate(probe.arrays):
        if not _is_rows(rows) or not BOX_COLUMNS < rows.shape[1] < rows.shape[2]:
            continue
        strides = _strides_of(rows.shape[2], probe.input_hw)
        if not strides:
            continue
        classes = rows.shape[1] - BOX_COLUMNS
        if probe.names is not None and len(probe.names) != classes:
            raise probe.unknown(
                f"{len(probe.names)} class names beside an output (B, {rows.shape[1]}, N)",
                "further columns without a task in the metadata cannot be told apart: export it again with its "
                f"metadata, or {OTHER_NAMES}",
            )
        _check_channel_rows(probe, rows, classes, strides)
        scores = rows[:, BOX_COLUMNS:].transpose(0, 2, 1)
        is_strange = (np.median(scores, axis=(0, 1)) > _GREY_SCORE).any() or (scores == 0).all(axis=(0, 1)).any()
        if probe.names is None and (is_strange or (classes > 1 and is_multiplied(scores))):
            raise probe.unknown(
                "a column that may be an objectness, an angle or a class id",
                f"if it has {classes} classes, name them with --names (class_names in Python)",
            )
        names = probe.names_for(classes, f"(B, {rows.shape[1]}, N)")
        fits = _same_rows(probe, place, strides)
        return _export(probe, ULTRALYTICS, "raw", names, fits, {}, "detect", strides, place)
    return None


def _objectness_of_one(probe: Probe) -> Export | None:
    """(B, N, 5 + C) of YOLOv6: an objectness of exactly 1 in every row, and boxes around their cells."""
    rows = probe.arrays[0]
    if rows.ndim != 3 or rows.shape[2] <= OBJECT_COLUMNS or not (rows[..., 4] == 1).all():
        return None
    strides = _strides_of(rows.shape[1], probe.input_hw)
    if not strides:
        return None
    classes = rows.shape[2] - OBJECT_COLUMNS
    names = probe.names_for(classes, f"(B, N, {rows.shape[2]})")
    as_channels = np.concatenate([rows[..., :4], rows[..., OBJECT_COLUMNS:]], axis=2).transpose(0, 2, 1)
    _check_channel_rows(probe, as_channels, classes, strides)
    fits = _same_cells(strides, rows.shape[2])
    return _export(probe, "yolov5", "raw", names, fits, {}, "detect", strides, 0)


def _offsets(probe: Probe) -> Export | None:
    """(B, N, 5 + C) of YOLOX: offsets in cells and logarithms of sizes, which are small numbers around 0.

    A grey image shows no object, so a trained model's objectness is near 0 there.
    """
    rows = probe.arrays[0]
    if rows.ndim != 3 or rows.shape[2] <= OBJECT_COLUMNS:
        return None
    strides = _strides_of(rows.shape[1], probe.input_hw)
    places, sizes = rows[..., :2], rows[..., 2:4]
    small = np.abs(places).max(initial=0) < min(probe.input_hw) / 8 and np.abs(sizes).max(initial=0) < 20
    # Decoded sizes and normalised boxes are never negative; logarithms of sizes in cells are, for some cell.
    if not strides or not small or not (sizes < 0).any() or not (places < 0).any():
        return None
    if not are_scores(rows[..., 4:]) or np.median(rows[..., 4]) >= _GREY_SCORE:
        return None
    names = probe.names_for(rows.shape[2] - OBJECT_COLUMNS, f"(B, N, {rows.shape[2]})")
    others = {"framing": "top_left", "pixels": "bgr255"}
    return _export(probe, "yolox", "offsets", names, _same_cells(strides, rows.shape[2]), others, "detect", strides)


def _export(  # noqa: PLR0913, PLR0917 - a record's fields
    probe: Probe,
    family: str,
    form: str,
    names: tuple[str, ...],
    fits: Fits,
    others: dict[str, Any],
    task: str = "detect",
    strides: tuple[int, ...] = (8, 16, 32),
    place: int | None = None,
) -> Export:
    """The export; if more outputs than those of the task exist, the record names the one with the rows."""
    if form == "raw" and len(probe.specs) > (2 if task == "segment" else 1):
        assert place is not None
        others = {**others, "decoded_output": probe.specs[place].name}
    return Export(task, family, form, names, strides, fits, others)


def _strides_of(cells: int, input_hw: tuple[int, int]) -> tuple[int, ...]:
    """Consecutive strides whose grids have this many cells in all; empty if there are none."""
    for first in range(len(_STRIDES)):
        for last in range(len(_STRIDES), first, -1):
            strides = _STRIDES[first:last]
            if any(side % strides[-1] for side in input_hw):
                continue
            if sum((input_hw[0] // one) * (input_hw[1] // one) for one in strides) == cells:
                return strides
    return ()


def _same_rows(probe: Probe, place: int, strides: tuple[int, ...]) -> Fits:
    columns = probe.arrays[place].shape[1]
    return lambda arrays, batch, hw: arrays[place].shape == (batch, columns, len(cells_of(strides, hw)[0]))


def _same_cells(strides: tuple[int, ...], columns: int) -> Fits:
    return lambda arrays, batch, hw: arrays[0].shape == (batch, len(cells_of(strides, hw)[0]), columns)


def _check_channel_rows(probe: Probe, rows: Floats, classes: int, strides: tuple[int, ...]) -> None:
    """Refuse rows (B, 4 + C + E, N) whose boxes are not centre and size in pixels, or whose scores are not scores."""
    scores = rows[:, BOX_COLUMNS : BOX_COLUMNS + classes]
    if not are_scores(scores):
        raise probe.unknown("scores outside 0 to 1")
    if ((scores == 1).mean(axis=(0, 2)) > 1 - SHARE).any():
        raise probe.unknown("a column of scores that are exactly 1, such as class ids")
    boxes = rows[0, :BOX_COLUMNS].astype(np.float64)
    cells, scales = cells_of(strides, probe.input_hw)
    points = (cells.T + 0.5) * scales.T
    reach = scales.T[0]
    if are_normalised(boxes):
        raise probe.unknown("boxes normalised to 0..1")
    # Corners taken for centre and size give boxes around their cells, too, only larger. The reverse does not happen.
    if _share_inside(boxes[:2], boxes[2:], points, reach) >= SHARE:
        raise probe.unknown("boxes as corners (x1, y1, x2, y2)")
    low, high = boxes[:2] - boxes[2:] / 2, boxes[:2] + boxes[2:] / 2
    if _share_inside(boxes[:2], boxes[:2] + boxes[2:], points, 0 * reach) > _share_inside(low, high, points, 0 * reach):
        raise probe.unknown("boxes as top left corner and size")
    share = _share_inside(low, high, points, reach)
    if share < SHARE:
        raise probe.unknown(f"boxes that are not around their cells ({share:.0%} of them are)")


def _share_inside(low: Floats, high: Floats, points: Floats, reach: Floats) -> float:
    """Share of the cells that lie within their own box, or within a cell of it."""
    with np.errstate(invalid="ignore", over="ignore"):
        inside = (low <= points + reach) & (points - reach <= high)
    return float(inside.all(axis=0).mean())


def _check_final_rows(probe: Probe, rows: Floats, names: tuple[str, ...], *, oriented: bool) -> None:
    """Refuse rows (n, 6 + E) that are not box, score and class id."""
    boxes, scores, ids = rows[:, :BOX_COLUMNS], rows[:, BOX_COLUMNS], rows[:, BOX_COLUMNS + 1]
    if not np.isfinite(rows).all() or not are_scores(scores) or not are_whole(ids):
        raise probe.unknown("final rows without a score and a class id after the box")
    check_ids(probe, ids, names)
    if not oriented:
        check_corners(probe, boxes, share=_CHOSEN_ORDERED)
    elif len(boxes) and are_normalised(boxes):
        raise probe.unknown("boxes normalised to 0..1")


def _points(columns: Floats, further: _Further) -> Floats:
    shape = further.others["keypoint_shape"]
    return columns.reshape(*columns.shape[:-1], *shape)


def _check_points(probe: Probe, points: Floats) -> None:
    """Refuse keypoints (…, K, D) whose visibilities are not in [0, 1], or whose places are."""
    shape = "×".join(map(str, points.shape[-2:]))
    if points.shape[-1] == 3 and not are_scores(points[..., 2]):
        raise probe.unknown(f"visibilities outside 0 to 1: its keypoint shape may be different from {shape}")
    places = points[..., :2].reshape(-1, 2 * points.shape[-2])
    if not np.isfinite(places).all() or (np.abs(places).max(axis=0) <= 1).any():
        raise probe.unknown(f"keypoints in 0 to 1: normalised, or of a different shape than {shape}")


def _check_visibilities(probe: Probe, points: Floats, strides: tuple[int, ...]) -> None:
    """Refuse visibilities that are σ of the y coordinate, as exports of Ultralytics about 8.0.100 had them.

    y = (2t + row)·stride, where t is the number that the head gave.
    """
    if points.shape[-1] != 3:
        return
    cells, scales = cells_of(strides, probe.input_hw)
    raw_y = (points[..., 1] / scales - cells[:, 1:]) / 2
    if (np.abs(sigmoid(raw_y.astype(np.float32)) - points[..., 2]) < _VISIBILITY_SLACK).mean() >= SHARE:
        raise probe.unknown(
            "visibilities that are computed from y, a fault of old exports",
            "export it again from its .pt, with yoloship or a newer exporter",
        )
