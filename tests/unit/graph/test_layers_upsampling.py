"""Upsampling by whole factors against the definitions, written out in NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.modules import Maker, module
from helpers.parts import run_part

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

X = Maker(5).values(2, 3, 4, 6)


def upsample(mode: str, factor: Any, *, corners: bool | None = None, name: str = "Upsample") -> Any:
    attributes = {"scale_factor": factor, "mode": mode, "size": None, "align_corners": corners}
    return module(f"torch.nn.modules.upsampling.{name}", attributes)


def along(values: Array, axis: int, factor: int, *, corners: bool) -> Array:
    """Linear interpolation between neighbours along one axis; outside, the border goes on."""
    length = values.shape[axis]
    out = np.arange(length * factor, dtype=np.float64)
    places = out * (length - 1) / (length * factor - 1) if corners else (out + 0.5) / factor - 0.5
    places = np.clip(places, 0, length - 1)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, length - 1)
    share = (places - low).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    mixed: Array = np.take(values, low, axis) * (1 - share) + np.take(values, high, axis) * share
    return mixed


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("factors", [2, 2.0, (2, 3)])
@pytest.mark.parametrize("corners", [None, False, True])
def test_bilinear_upsampling_is_its_definition(corners: bool | None, factors: Any, dynamic: bool) -> None:
    vertical, horizontal = factors if isinstance(factors, tuple) else (int(factors), int(factors))
    wanted = along(X.astype(np.float64), 2, vertical, corners=bool(corners))
    wanted = along(wanted, 3, horizontal, corners=bool(corners))
    found = run_part(upsample("bilinear", factors, corners=corners), X, dynamic=dynamic)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_layer_for_bilinear_upsampling_aligns_corners() -> None:
    wanted = along(along(X.astype(np.float64), 2, 2, corners=True), 3, 2, corners=True)
    found = run_part(upsample("bilinear", 2.0, corners=True, name="UpsamplingBilinear2d"), X)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_neighbours_repeat(mode: str) -> None:
    np.testing.assert_array_equal(run_part(upsample(mode, (2, 3)), X), X.repeat(2, 2).repeat(3, 3))
