from __future__ import annotations

import numpy as np
import pytest

from yoloship._util.bfloat16 import BFLOAT16, to_float32

NUMBERS = np.array([[1.0, -2.5, 3.140625], [0.0, np.inf, 2.0**-126]], np.float32)
BITS = (NUMBERS.view(np.uint32) >> 16).astype(np.uint16).view(BFLOAT16)


def test_widening_is_exact_and_follows_the_order_of_the_memory() -> None:
    np.testing.assert_array_equal(to_float32(BITS), NUMBERS)
    np.testing.assert_array_equal(to_float32(BITS.T), NUMBERS.T)
    assert to_float32(BITS).dtype == np.float32


def test_nan_stays_nan() -> None:
    bits = np.array([0x7FC0, 0xFFC1], np.uint16).view(BFLOAT16)
    assert np.isnan(to_float32(bits)).all()


def test_numpy_takes_the_bits_for_numbers_nowhere() -> None:
    with pytest.raises(TypeError):
        BITS.astype(np.float32)
    with pytest.raises(TypeError):
        np.greater(BITS, 0)
    with pytest.raises(TypeError):
        np.exp(BITS)
