"""bfloat16 in NumPy, which has no such type: its bits, as a type of its own that no arithmetic takes by mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

BFLOAT16: Final = np.dtype([("low", "u1"), ("high", "u1")])
"""The two bytes of a number, little-endian. NumPy refuses to compute with it or to convert it."""


def to_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Widen an array of `BFLOAT16` exactly; the caller owns the result, whose memory order is that of the array."""
    wide = array.view("<u2").astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)
