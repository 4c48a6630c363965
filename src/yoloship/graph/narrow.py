"""float32 arrays as the narrower types that NumPy does not have, in the bits that ONNX stores.

Rounding is to the nearest, ties to even, as the ONNX operators Cast and QuantizeLinear do it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

FLOAT8_MAX: Final = 448.0
"""Largest finite value of E4M3FN (Micikevicius et al., FP8 Formats for Deep Learning, 2022, table 1)."""


def bfloat16_bits(values: Floats) -> npt.NDArray[np.uint16]:
    """The upper halves, rounded. Values are finite; one that rounds beyond the largest becomes infinite."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    halves: npt.NDArray[np.uint16] = ((bits + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype(np.uint16)
    return halves


def bfloat16_values(values: Floats) -> Floats:
    """The values after that rounding, in float32."""
    rounded: Floats = (bfloat16_bits(values).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return rounded


def float8_bits(values: Floats) -> npt.NDArray[np.uint8]:
    """E4M3FN codes; what is beyond the largest finite value becomes that."""
    magnitude = np.abs(values.astype(np.float64))
    upper = np.clip(np.searchsorted(_POSITIVE, magnitude), 0, len(_POSITIVE) - 1)
    lower = np.maximum(upper - 1, 0)
    down, up = magnitude - _POSITIVE[lower], _POSITIVE[upper] - magnitude
    take_lower = (down < up) | ((down == up) & (lower % 2 == 0))
    codes = np.where(magnitude >= FLOAT8_MAX, len(_POSITIVE) - 1, np.where(take_lower, lower, upper))
    return (codes + np.where(np.signbit(values), 0x80, 0)).astype(np.uint8)


def float8_values(codes: npt.NDArray[np.uint8]) -> Floats:
    """What codes without NaN stand for."""
    sign = np.where(codes & 0x80, -1.0, 1.0)
    values: Floats = (sign * _POSITIVE[codes & 0x7F]).astype(np.float32)
    return values


def _positive() -> npt.NDArray[np.float64]:
    """Values of the codes 0 to 126: bias 7, three bits of mantissa, subnormals, no infinity; 127 is NaN."""
    codes = np.arange(127)
    exponent, mantissa = codes >> 3, codes & 7
    return np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))


_POSITIVE: Final = _positive()
