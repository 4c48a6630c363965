from __future__ import annotations

import ml_dtypes
import numpy as np

from yoloship.graph.onnx_file import FLOAT8_MAX, bfloat16_bits, float8_bits, float8_values

RNG = np.random.default_rng(0)
VALUES = np.concatenate(
    [
        RNG.normal(0, scale, 2000).astype(np.float32) for scale in (1e-39, 1e-4, 0.01, 1, 50, 300)
    ] + [np.array([0.0, -0.0, 448, -448, 2**-9, 2**-10, 2**-10 * 1.0001, 17, 18, 19, 3.39e38], np.float32)]
)  # fmt: skip


def test_bfloat16_is_rounded_as_the_field_rounds_it() -> None:
    want = VALUES.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(bfloat16_bits(VALUES), want.view(np.uint16))


def test_float8_is_rounded_as_the_field_rounds_it_and_saturates() -> None:
    inside = VALUES[np.abs(VALUES) <= FLOAT8_MAX]
    np.testing.assert_array_equal(float8_bits(inside), inside.astype(ml_dtypes.float8_e4m3fn).view(np.uint8))
    beyond = np.array([449, -1e30, np.inf], np.float32)
    np.testing.assert_array_equal(float8_values(float8_bits(beyond)), np.array([448, -448, 448], np.float32))


def test_every_float8_code_survives() -> None:
    codes = np.array([code for code in range(256) if code & 0x7F != 0x7F], np.uint8)
    np.testing.assert_array_equal(float8_bits(float8_values(codes)), codes)
    np.testing.assert_array_equal(float8_values(codes), codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32))
