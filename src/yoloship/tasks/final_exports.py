"""Recognises exports that give final detections: of DETRs, of TensorRT's NMS plugin, and of YOLOv7 with suppression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.tasks.foreign import FOREIGN_FORMS, LIST_COLUMNS, PADDED_NAMES, SET_NAMES, PaddedForm
from yoloship.tasks.probing import (
    Export,
    Probe,
    are_scores,
    are_whole,
    check_corners,
    check_ids,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Arrays = Sequence[npt.NDArray[Any]]
    Fits = Callable[[Arrays, int, tuple[int, int]], bool]

_STRIDES = (8, 16, 32)
_WITHOUT_NMS = "export it again without its suppression (without --end2end)"


def final_detections(probe: Probe) -> Export | None:
    """What the export is; None if it gives no final detections.

    Raises:
        SessionError: it seems to, and its numbers contradict that.
    """
    given = {spec.name for spec in probe.specs}
    if probe.takes_size:
        if not given.issuperset(SET_NAMES):
            raise probe.unknown(f"a second input, and outputs {', '.join(sorted(given))[:80]}")
        return _set(probe)
    if given.issuperset(PADDED_NAMES):
        return _padded(probe)
    if len(probe.specs) == 1 and len(probe.specs[0].shape) == 2 and probe.specs[0].shape[1] == LIST_COLUMNS:
        return _list(probe)
    return None


def _set(probe: Probe) -> Export:
    """Labels, boxes and scores of a DETR. Its boxes must be corners that grow with the size that it is asked for."""
    names = probe.needed_names()
    height, width = probe.input_hw
    labels, boxes, scores = probe.by_name(probe.arrays, SET_NAMES)
    larger = probe.by_name(probe.run(None, (2 * height, 3 * width)), SET_NAMES)[1]
    good = (
        scores.ndim == 2
        and boxes.shape == (*scores.shape, 4) == larger.shape
        and labels.shape == scores.shape
        and are_scores(scores)
        and np.isfinite(boxes).all()
        and np.allclose(larger, boxes * np.array([3, 2, 3, 2]), rtol=1e-2, atol=1)
        and np.abs(boxes).max(initial=0) <= 4 * max(height, width)
    )
    if not good:
        raise probe.unknown("boxes that do not follow the requested size")
    check_corners(probe, boxes.reshape(-1, 4).astype(np.float64))
    if not are_whole(labels):
        raise probe.unknown("labels that are not class ids")
    check_ids(probe, labels, names)
    return _export("detr", "set", names, lambda arrays, batch, _: len(arrays[0]) == batch, {"framing": "stretch"})


def _padded(probe: Probe) -> Export:
    """Outputs of TensorRT's plugin. Its names say what they are, and what it finds must agree."""
    names, form = probe.needed_names(), PaddedForm()
    for arrays in probe.answers():
        counts, boxes, scores, ids = probe.by_name(arrays, PADDED_NAMES)
        each = form.check_shapes((counts, boxes, scores, ids))
        kept = np.arange(scores.shape[1]) < each[:, None]
        if kept.any():
            if not are_scores(scores[kept]) or not are_whole(ids[kept]):
                raise probe.unknown("outputs with the names of TensorRT's NMS plugin and other numbers")
            check_corners(probe, boxes[kept].astype(np.float64))
            check_ids(probe, ids[kept], names)
            return _export("yolov7", "padded", names, lambda found, batch, _: len(found[0]) == batch)
    raise _never(probe)


def _list(probe: Probe) -> Export:
    """One list of rows."""
    names = probe.needed_names()
    for arrays in probe.answers():
        rows = np.asarray(arrays[0], np.float64)
        if len(rows):
            places, ids = rows[:, 0], rows[:, 5]
            in_batch = are_whole(places) and places.min() >= 0 and places.max() < probe.shape[0]
            if not (in_batch and are_whole(ids) and are_scores(rows[:, 6])):
                raise probe.unknown("rows of seven numbers that are not YOLOv7's")
            check_corners(probe, rows[:, 1:5])
            check_ids(probe, ids, names)
            # The list does not say how many images there were, so their number must be fixed.
            return _export("yolov7", "list", names, lambda _, batch, __: batch == probe.shape[0])
    raise _never(probe)


def _never(probe: Probe) -> Exception:
    return probe.unknown("a list of boxes that stays empty, so that its columns cannot be checked", _WITHOUT_NMS)


def _export(family: str, form: str, names: tuple[str, ...], fits: Fits, others: dict[str, Any] | None = None) -> Export:
    assert form in FOREIGN_FORMS
    return Export("detect", family, form, names, _STRIDES, fits, others or {})
