"""Calibration: whether of the answers with a score of 0.8, eight in ten are right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.validate.record import CalibrationBin

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


BINS: Final = 10
"""Ranges of scores, all of one width."""
LEAST_SCORE: Final = 0.05
"""Detections below this are left out: there are far more of them than of all others, and nobody uses them."""


def calibration_bins(
    scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], least: float = LEAST_SCORE
) -> tuple[CalibrationBin, ...]:
    """Compare scores with the share that is right.

    Args:
        scores: (n,) in [0, 1]; read only.
        right: (n,): whether each answer is right; read only.
        least: Answers that score less are left out.

    Returns:
        The ranges that have answers, from low to high.
    """
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, scores, side="left") - 1, 0, BINS - 1)
    found = []
    for index in range(BINS):
        inside = (place == index) & (scores >= least)
        if inside.any():
            found.append(
                CalibrationBin(
                    float(edges[index]),
                    float(edges[index + 1]),
                    int(inside.sum()),
                    float(scores[inside].mean()),
                    float(right[inside].mean()),
                )
            )
    return tuple(found)


def expected_error(bins: Sequence[CalibrationBin]) -> float | None:
    """The expected calibration error (ECE): the mean distance of score and share, by the number of answers.

    Args:
        bins: Of `calibration_bins`.

    Returns:
        In [0, 1]; None without answers.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3.
    """
    total = sum(one.detections for one in bins)
    if not total:
        return None
    return sum(one.detections * abs(one.mean_score - one.precision) for one in bins) / total
