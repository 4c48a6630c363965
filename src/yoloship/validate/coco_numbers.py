"""COCO's twelve numbers, and those of sizes and classes, from what its evaluator found out."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.evaluate.coco import areas_of
from yoloship.evaluate.evaluator import ALL, AT_50, AT_75, countable
from yoloship.validate.record import CocoFigures, SizeFigures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.evaluate.coco import OverlapKind, Truth
    from yoloship.evaluate.evaluator import Evaluation


RANGES: Final[Mapping[str, tuple[float, float | None]]] = MappingProxyType(
    {"small": (0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, None)}
)
"""COCO's sizes: areas in square source pixels. An area on a bound is in both ranges, as the evaluator has it."""


def coco_figures(found: Evaluation) -> CocoFigures:
    """The numbers that the evaluator prints, by its formulas: means over what exists.

    Args:
        found: What it found out.
    """
    whole = len(found.limits) > 1
    return CocoFigures(
        ap=mean_of(found.precision[..., ALL]),
        ap50=mean_of(found.precision[AT_50, ..., ALL]),
        ap75=mean_of(found.precision[AT_75, ..., ALL]),
        **{f"ap_{size}": mean_of(_of(found, found.precision, size)) for size in RANGES},
        ar1=mean_of(found.recall[..., ALL, 0]) if whole else None,
        ar10=mean_of(found.recall[..., ALL, 1]) if whole else None,
        ar=mean_of(found.recall[..., ALL, -1]),
        **{f"ar_{size}": mean_of(_of(found, found.recall[..., -1], size)) for size in RANGES},
    )


def size_figures(found: Evaluation, truths: Sequence[Truth], overlap: OverlapKind) -> tuple[SizeFigures, ...]:
    """How well small, medium and large objects are found.

    Args:
        found: What the evaluator found out.
        truths: What is in each image.
        overlap: What decides whether an object is found.
    """
    areas = np.concatenate([areas_of(truth)[countable(truth, overlap)] for truth in truths])
    sizes = []
    for name, (low, high) in RANGES.items():
        if name in found.areas:
            inside = (areas >= low) & (areas <= (np.inf if high is None else high))
            precision, recall = _of(found, found.precision, name), _of(found, found.recall[..., -1], name)
            sizes.append(SizeFigures(name, low, high, int(inside.sum()), mean_of(precision), mean_of(recall)))
    return tuple(sizes)


def mean_of(values: npt.NDArray[Any]) -> float | None:
    """The mean of what exists: the evaluator writes -1 where there is no object.

    Args:
        values: Of any shape, each in [0, 1] or -1.

    Returns:
        In [0, 1]; None if nothing exists.
    """
    there = values[values > -1]
    return float(there.mean()) if there.size else None


def _of(found: Evaluation, values: npt.NDArray[np.float64], size: str) -> npt.NDArray[np.float64]:
    """The part for one range of areas, which is the last axis."""
    return values[..., found.areas.index(size)] if size in found.areas else np.empty(0)
