"""How long the outline of an object may be: evaluators draw it with memory for every pixel on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


MAX_OUTLINE_PX: Final = 2_000_000
"""A hundred times around an image of 20 megapixels."""


def is_too_long(points_xy: npt.NDArray[np.floating[Any]]) -> bool:
    """Whether a closed outline is longer than `MAX_OUTLINE_PX`, counted along the longer axis of each edge.

    Args:
        points_xy: (k, 2) floats, pixels, k at least 1; read only.
    """
    edges = np.abs(np.diff(points_xy, axis=0, append=points_xy[:1]))
    return float(edges.max(axis=1).sum()) > MAX_OUTLINE_PX
