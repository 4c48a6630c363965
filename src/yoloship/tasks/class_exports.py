"""Recognises classification models of other exporters: whether they give logits or probabilities, and of which classes.

A row of probabilities adds up to 1 for every image, and logits do not. How an image becomes the input cannot be seen
from the numbers: it is known for exports of Ultralytics since 8.1, and must be given for all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.checkpoint.traits import IMAGENET_CLASSES, imagenet_names
from yoloship.results.mask_rules import version_of
from yoloship.tasks.classify import Classify, ScoresForm
from yoloship.tasks.foreign import LIST_COLUMNS
from yoloship.tasks.probing import OTHER_NAMES, Export, Probe, are_scores
from yoloship.transforms import Transform, transform_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.model import ClassScores

    Arrays = Sequence[npt.NDArray[Any]]

ULTRALYTICS: Final = "ultralytics"
_OTHER_FAMILY: Final = "classifier"
_SUM_SLACK: Final = 0.02
"""How far the sum of a row of probabilities may be from 1: a thousand float16 numbers are rounded."""
_LOUDNESSES: Final = (0.3, 2.0, 16.0)


def class_scores(probe: Probe) -> Export | None:
    """(B, C): one row of scores for each image. None if there is no such output.

    Raises:
        SessionError: the numbers are neither logits nor probabilities, or the class names do not fit.
    """
    says_so = probe.metadata.get("task") == Classify.name
    scores = probe.arrays[0] if len(probe.arrays) == 1 else None
    if scores is None or scores.ndim != 2 or scores.dtype.kind != "f" or len(scores) != probe.shape[0]:
        if says_so:
            shapes = ", ".join(str(array.shape) for array in probe.arrays)
            raise probe.unknown(
                f"a task 'classify' in its metadata, and outputs {shapes}", "export it again with one output (B, C)"
            )
        return None
    rows = _rows(probe)
    if rows is None:  # as many rows as images by chance, or a list of boxes
        return None
    classes = scores.shape[1]
    kind = _kind(probe, rows)
    if says_so and kind != "probabilities":
        raise probe.unknown("a task 'classify' in its metadata, and scores that are not probabilities")
    if classes < 2 and not says_so:
        raise probe.unknown("one number for each image, which is not a score of a class")
    return Export(
        task=Classify.name,
        family=ULTRALYTICS if says_so else _OTHER_FAMILY,
        form=ScoresForm.name,
        class_names=_names(probe, classes),
        strides=(),
        fits=lambda arrays, batch, _: arrays[0].shape == (batch, classes),
        others={"class_scores": kind, "transform": _transform(probe) if says_so else None},
    )


def _rows(probe: Probe) -> npt.NDArray[np.float64] | None:
    """The scores of every image of several runs; None if they are not one row for each image.

    Rows of seven with whole numbers in a column are boxes in a list, with class ids and the image's place.
    """
    found = []
    for place, arrays in enumerate(probe.answers(_LOUDNESSES)):
        rows = np.asarray(arrays[0], np.float64)
        if rows.shape != probe.arrays[0].shape:
            return None
        if np.isfinite(rows).all():
            found.append(rows)
        elif place == 0:
            raise probe.unknown("scores that are not finite for a grey image")
    scores = np.concatenate(found)
    is_list = scores.shape[1] == LIST_COLUMNS and (scores == np.floor(scores)).all(axis=0).any()
    return None if is_list else scores


def _kind(probe: Probe, rows: npt.NDArray[np.float64]) -> ClassScores:
    if are_scores(rows):
        if (np.abs(rows.sum(axis=1) - 1) <= _SUM_SLACK).all():
            return "probabilities"
        raise probe.unknown(
            "scores in 0 to 1 that do not add up to 1, as of a model for several classes at once",
            "if they are logits of a softmax, export it again with the softmax inside",
        )
    if (np.abs(np.square(rows).sum(axis=1) - 1) <= _SUM_SLACK).all():
        raise probe.unknown("rows of length 1, as of a model for embeddings")
    return "logits"


def _names(probe: Probe, classes: int) -> tuple[str, ...]:
    if probe.names is None and classes == IMAGENET_CLASSES:
        return imagenet_names()
    names = probe.needed_names()
    if len(names) != classes:
        raise probe.unknown(f"{len(names)} class names beside an output (B, {classes})", OTHER_NAMES)
    return names


def _transform(probe: Probe) -> Transform | None:
    """The transform of an export of Ultralytics; None for versions that had another, and for other channels."""
    version = version_of(probe.metadata.get("version"))
    known = version is not None and version >= (8, 1, 0) and probe.shape[1] == 3
    return transform_of(ULTRALYTICS, probe.input_hw) if known else None
