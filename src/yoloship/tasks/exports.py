"""Recognises exports of other projects that are not YOLOv5's rows: from their metadata, and from the numbers of a run.

A shape alone decides nothing, because different exports share shapes. Each reader looks at the numbers that the model
gives for a grey image, and refuses what does not fit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.errors import SessionError
from yoloship.tasks import TASKS
from yoloship.tasks.anchor_free import BOX_COLUMNS, END2END_COLUMNS
from yoloship.tasks.decode import OBJECT_COLUMNS
from yoloship.tasks.foreign import LIST_COLUMNS, PADDED_NAMES, SET_NAMES, cells_of
from yoloship.tasks.rows import unknown_form_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from yoloship.model import TensorSpec

    Arrays = Sequence[npt.NDArray[Any]]
    Floats = npt.NDArray[np.floating[Any]]

_SHARE: Final = 0.99
"""Share of the rows whose numbers must fit. It is 1 in correct files, and a little less after quantization."""
_STRIDES: Final = (4, 8, 16, 32, 64)
_GREY_OBJECTNESS: Final = 0.1
_UNIT_SLACK: Final = 1e-3
_LEAST_BOX_PX: Final = 1.5
_MAX_KEYPOINTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Probe:
    """A model, and what it gave for a grey image.

    Attributes:
        specs: Its outputs.
        arrays: Their values, for one batch of grey images.
        metadata: Of the file.
        input_hw: (height, width) of the grey image in model pixels.
        names: Class names that the file or the caller gives; None if nobody does.
        run: Runs the model with an image (B, 3, H, W) and, for models with a second input, the size that it asks for.
        takes_size: Whether there is a second input, for the size of the boxes.
        subject: The file's name, for messages.
    """

    specs: Sequence[TensorSpec]
    arrays: Arrays
    metadata: Mapping[str, str]
    input_hw: tuple[int, int]
    names: tuple[str, ...] | None
    run: Callable[[Floats | None, tuple[int, int] | None], Arrays]
    takes_size: bool
    subject: str


@dataclass(frozen=True, slots=True)
class Export:
    """What an export is.

    Attributes:
        task: The task.
        family: The family, which says how decoded rows are laid out.
        form: The output form.
        class_names: By class id.
        strides: Of the levels, in the order of the rows.
        fits: Whether the outputs of another run, of that batch and (height, width), have the same form.
        others: Further fields of the model's record.
    """

    task: str
    family: str
    form: str
    class_names: tuple[str, ...]
    strides: tuple[int, ...]
    fits: Callable[[Arrays, int, tuple[int, int]], bool]
    others: dict[str, Any] = field(default_factory=dict)


def read_export(probe: Probe) -> Export | None:
    """What a model is; None if none of the exports known here looks like it.

    Raises:
        SessionError: it looks like one of them, and its numbers or its metadata contradict that.
    """
    for reader in (_final_detections, _ultralytics, _channel_rows, _objectness_of_one, _offsets):
        found = reader(probe)
        if found is not None:
            return found
    return None


def _final_detections(probe: Probe) -> Export | None:
    """Final detections: of a DETR, of TensorRT's NMS plugin, or of YOLOv7 with suppression for ONNX Runtime."""
    given = {spec.name for spec in probe.specs}
    if probe.takes_size:
        if not given.issuperset(SET_NAMES):
            raise unknown_form_error(probe.subject, f"a second input, and outputs {', '.join(sorted(given))[:80]}")
        return _set(probe)
    if given.issuperset(PADDED_NAMES):
        return _export(probe, "yolov7", "padded", _need_names(probe), lambda arrays, batch, _: len(arrays[0]) == batch)
    if len(probe.specs) == 1 and len(probe.specs[0].shape) == 2 and probe.specs[0].shape[1] == LIST_COLUMNS:
        return _list(probe)
    return None


def _set(probe: Probe) -> Export:
    """Labels, boxes and scores of a DETR. Its boxes must grow with the size that it is asked for."""
    names = _need_names(probe)
    height, width = probe.input_hw
    labels, boxes, scores = _by_name(probe, probe.arrays, SET_NAMES)
    larger = _by_name(probe, probe.run(None, (2 * height, 3 * width)), SET_NAMES)[1]
    good = (
        scores.ndim == 2
        and boxes.shape == (*scores.shape, 4) == larger.shape
        and labels.shape == scores.shape
        and _are_scores(scores)
        and np.isfinite(boxes).all()
        and np.allclose(larger, boxes * np.array([3, 2, 3, 2]), rtol=1e-2, atol=1)
        and np.abs(boxes).max(initial=0) <= 4 * max(height, width)
    )
    if not good:
        raise unknown_form_error(probe.subject, "boxes that do not follow the size that is asked for")
    _check_ids(probe, labels, names)
    others = {"framing": "stretch"}
    return _export(probe, "detr", "set", names, lambda arrays, batch, _: len(arrays[0]) == batch, others)


def _list(probe: Probe) -> Export:
    """One list of rows. A trained model finds nothing in a grey image, so it is also run on loud noise."""
    names = _need_names(probe)
    for rows in _until_rows(probe):
        if len(rows):
            ids, places, scores = rows[:, 5], rows[:, 0], rows[:, 6]
            whole = (ids == np.floor(ids)).all() and (places == np.floor(places)).all()
            ordered = (rows[:, 3:5] >= rows[:, 1:3]).mean() >= _SHARE
            if not (whole and ordered and _are_scores(scores) and np.isfinite(rows).all()):
                raise unknown_form_error(probe.subject, "rows of seven numbers that are not YOLOv7's")
            _check_ids(probe, ids, names)
            return _export(probe, "yolov7", "list", names, lambda arrays, *_: arrays[0].shape[1] == LIST_COLUMNS)
    raise unknown_form_error(
        probe.subject, "a list of rows that stays empty, so that its columns cannot be checked",
        "export it again without its suppression (without --end2end)",
    )  # fmt: skip


def _until_rows(probe: Probe) -> Any:
    yield np.asarray(probe.arrays[0], np.float64)
    noise = np.random.default_rng(0).normal(0, 1, (1, 3, *probe.input_hw)).astype(np.float32)
    for loudness in (1.0, 8.0, 64.0, 512.0):
        yield np.asarray(probe.run(noise * np.float32(loudness), None)[0], np.float64)


def _ultralytics(probe: Probe) -> Export | None:
    """An export whose metadata has a task, as Ultralytics' exporter writes it."""
    task = probe.metadata.get("task", "")
    if not task or task == "classify":
        return None
    names = _need_names(probe)
    further = _further(probe, task)
    columns, cells = BOX_COLUMNS + len(names) + further.columns, probe.arrays[0]
    if cells.ndim != 3:
        raise unknown_form_error(probe.subject, f"a task {task!r} in its metadata, and an output {cells.shape}")
    if cells.shape[1] == columns and (strides := _strides_of(cells.shape[2], probe.input_hw)):
        _check_channel_rows(probe, cells, len(names), strides)
        return _export(
            probe, "ultralytics", "raw", names, _channel_fit(columns, strides), further.others, task, strides
        )
    if cells.shape[2] == END2END_COLUMNS + further.columns:
        _check_final_rows(probe, cells, names, oriented=task == "obb")
        others = {**further.others, "head": "one2one"}
        fits = lambda arrays, batch, _: arrays[0].shape[0] == batch and arrays[0].shape[2] == cells.shape[2]  # noqa: E731
        return _export(probe, "ultralytics", "end2end", names, fits, others, task)
    raise unknown_form_error(
        probe.subject, f"an output {cells.shape} of the task {task!r} with {len(names)} class names",
        "if the names are wrong, give others with --names (class_names in Python)",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Further:
    """What a task has behind the class scores: how many columns, and fields of the record."""

    columns: int
    others: dict[str, Any]


def _further(probe: Probe, task: str) -> _Further:
    if task == "detect":
        return _Further(0, {})
    if task == "obb":
        return _Further(1, {"extra_columns": 1})
    if task == "segment":
        from yoloship.results.mask_rules import rule_of

        if len(probe.arrays) < 2 or probe.arrays[1].ndim != 4:
            raise unknown_form_error(probe.subject, "no prototypes of masks beside its boxes")
        count = probe.arrays[1].shape[1]
        version = probe.metadata.get("version", "")
        if re.search(r"\d", version) is None:
            raise unknown_form_error(
                probe.subject, "no version of the exporter in its metadata, which decides how masks are made"
            )
        return _Further(count, {"extra_columns": count, "mask_rule": rule_of(version)})
    if task == "pose":
        shape = [int(number) for number in re.findall(r"\d+", probe.metadata.get("kpt_shape", ""))]
        if len(shape) != 2 or shape[1] not in {2, 3} or not 1 <= shape[0] <= _MAX_KEYPOINTS:
            raise unknown_form_error(
                probe.subject, f"the keypoint shape {probe.metadata.get('kpt_shape', '')[:40]!r} in its metadata"
            )
        count = shape[0] * shape[1]
        return _Further(count, {"extra_columns": count, "keypoint_shape": (shape[0], shape[1])})
    raise SessionError(
        f"a model for the task {task[:40]!r} cannot be run here yet", subject=probe.subject, expected=", ".join(TASKS)
    )


def _channel_rows(probe: Probe) -> Export | None:
    """(B, 4 + C, N) without metadata. Every cell must lie within its own box, and all other numbers be scores."""
    cells = probe.arrays[0]
    if cells.ndim != 3 or cells.shape[1] >= cells.shape[2] or cells.shape[1] <= BOX_COLUMNS:
        return None
    strides = _strides_of(cells.shape[2], probe.input_hw)
    if not strides:
        return None
    classes = cells.shape[1] - BOX_COLUMNS
    if probe.names is not None and len(probe.names) != classes:
        raise unknown_form_error(
            probe.subject,
            f"{len(probe.names)} class names beside an output (B, {cells.shape[1]}, N)",
            "further columns without a task in the metadata cannot be told apart: export it again with its metadata, "
            "or if the names are wrong, give others with --names (class_names in Python)",
        )
    names = probe.names or tuple(map(str, range(classes)))
    _check_channel_rows(probe, cells, classes, strides)
    return _export(probe, "ultralytics", "raw", names, _channel_fit(cells.shape[1], strides), {}, "detect", strides)


def _objectness_of_one(probe: Probe) -> Export | None:
    """(B, N, 5 + C) of YOLOv6: an objectness of exactly 1 in every row, and boxes around their cells."""
    rows = probe.arrays[0]
    if rows.ndim != 3 or rows.shape[2] <= OBJECT_COLUMNS or not (rows[..., 4] == 1).all():
        return None
    strides = _strides_of(rows.shape[1], probe.input_hw)
    if not strides:
        return None
    classes = rows.shape[2] - OBJECT_COLUMNS
    names = probe.names or tuple(map(str, range(classes)))
    if len(names) != classes:
        raise unknown_form_error(
            probe.subject, f"{len(names)} class names beside an output (B, N, {rows.shape[2]})",
            "if the names are wrong, give others with --names (class_names in Python)",
        )  # fmt: skip
    as_channels = np.concatenate([rows[..., :4], rows[..., OBJECT_COLUMNS:]], axis=2).transpose(0, 2, 1)
    _check_channel_rows(probe, as_channels, classes, strides)

    def fits(arrays: Arrays, batch: int, hw: tuple[int, int]) -> bool:
        return arrays[0].shape == (batch, len(cells_of(strides, hw)[0]), rows.shape[2])

    return _export(probe, "yolov5", "raw", names, fits, {}, "detect", strides)


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
    if not _are_scores(rows[..., 4:]) or np.median(rows[..., 4]) >= _GREY_OBJECTNESS:
        return None
    classes = rows.shape[2] - OBJECT_COLUMNS
    names = probe.names or tuple(map(str, range(classes)))
    if len(names) != classes:
        raise unknown_form_error(probe.subject, f"{len(names)} class names beside an output (B, N, {rows.shape[2]})")

    def fits(arrays: Arrays, batch: int, hw: tuple[int, int]) -> bool:
        return arrays[0].shape == (batch, len(cells_of(strides, hw)[0]), rows.shape[2])

    others = {"framing": "top_left", "pixels": "bgr255"}
    return _export(probe, "yolox", "offsets", names, fits, others, "detect", strides)


def _export(  # noqa: PLR0913, PLR0917 - a record's fields
    probe: Probe,
    family: str,
    form: str,
    names: tuple[str, ...],
    fits: Callable[[Arrays, int, tuple[int, int]], bool],
    others: dict[str, Any] | None = None,
    task: str = "detect",
    strides: tuple[int, ...] = (8, 16, 32),
) -> Export:
    others = dict(others or {})
    if form == "raw" and len(probe.specs) > 1 and task == "detect":
        others["decoded_output"] = probe.specs[0].name
    return Export(task, family, form, names, strides, fits, others)


def _need_names(probe: Probe) -> tuple[str, ...]:
    """The class names, of an output that does not show how many classes there are.

    Raises:
        SessionError: nobody gives them.
    """
    if probe.names is None:
        raise SessionError(
            "does not say its classes, and its output does not show how many there are", subject=probe.subject,
            hint="give them with --names (class_names in Python)",
        )  # fmt: skip
    return probe.names


def _by_name(probe: Probe, arrays: Arrays, names: Sequence[str]) -> list[npt.NDArray[Any]]:
    given = [spec.name for spec in probe.specs]
    return [arrays[given.index(name)] for name in names]


def _are_scores(values: Floats) -> bool:
    return bool(
        np.isfinite(values).all() and values.min(initial=0) >= -_UNIT_SLACK and values.max(initial=0) <= 1 + _UNIT_SLACK
    )


def _check_ids(probe: Probe, ids: npt.NDArray[Any], names: tuple[str, ...]) -> None:
    if ids.size and not (ids.min() >= 0 and ids.max() < len(names)):
        raise unknown_form_error(
            probe.subject, f"class ids up to {ids.max():g} beside {len(names)} class names",
            "if the names are wrong, give others with --names (class_names in Python)",
        )  # fmt: skip


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


def _channel_fit(columns: int, strides: tuple[int, ...]) -> Callable[[Arrays, int, tuple[int, int]], bool]:
    return lambda arrays, batch, hw: arrays[0].shape == (batch, columns, len(cells_of(strides, hw)[0]))


def _check_channel_rows(probe: Probe, rows: Floats, classes: int, strides: tuple[int, ...]) -> None:
    """Refuse rows (B, 4 + C + E, N) whose boxes are not centre and size in pixels, or whose scores are no scores."""
    if not _are_scores(rows[:, BOX_COLUMNS : BOX_COLUMNS + classes]):
        raise unknown_form_error(probe.subject, "scores outside 0 to 1")
    boxes = rows[0, :BOX_COLUMNS].astype(np.float64)
    cells, scales = cells_of(strides, probe.input_hw)
    points = (cells.T + 0.5) * scales.T
    reach = scales.T[0]
    if np.abs(boxes).max(initial=0) <= _LEAST_BOX_PX:
        raise unknown_form_error(probe.subject, "boxes normalised to 0..1")
    # Corners taken for centre and size give boxes around their cells, too, only larger. The reverse does not happen.
    if _share_inside(boxes[:2], boxes[2:], points, reach) >= _SHARE:
        raise unknown_form_error(probe.subject, "boxes as corners (x1, y1, x2, y2)")
    share = _share_inside(boxes[:2] - boxes[2:] / 2, boxes[:2] + boxes[2:] / 2, points, reach)
    if share < _SHARE:
        raise unknown_form_error(probe.subject, f"boxes that are not around their cells ({share:.0%} of them are)")


def _share_inside(low: Floats, high: Floats, points: Floats, reach: Floats) -> float:
    """Share of the cells that lie within their own box, or within a cell of it."""
    with np.errstate(invalid="ignore", over="ignore"):
        inside = (low <= points + reach) & (points - reach <= high)
    return float(inside.all(axis=0).mean())


def _check_final_rows(probe: Probe, rows: Floats, names: tuple[str, ...], *, oriented: bool) -> None:
    """Refuse rows (B, k, 6 + E) that are not box, score and class id."""
    flat = rows.reshape(-1, rows.shape[2]).astype(np.float64)
    scores, ids = flat[:, BOX_COLUMNS], flat[:, BOX_COLUMNS + 1]
    if not np.isfinite(flat).all() or not _are_scores(scores) or (ids != np.floor(ids)).any():
        raise unknown_form_error(probe.subject, "final rows without a score and a class id behind the box")
    _check_ids(probe, ids, names)
    counted = flat[scores > 0]
    if not len(counted):
        return
    if np.abs(counted[:, :BOX_COLUMNS]).max() <= _LEAST_BOX_PX:
        raise unknown_form_error(probe.subject, "boxes normalised to 0..1, as in RT-DETR exports of Ultralytics")
    if not oriented and (counted[:, 2:4] >= counted[:, :2]).all(axis=1).mean() < 0.5:
        raise unknown_form_error(probe.subject, "final rows that are not corners (x1, y1, x2, y2)")
