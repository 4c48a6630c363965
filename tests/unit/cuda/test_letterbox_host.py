"""What the kernel computes is tested in helpers/cuda_contract.py; this is what its launch refuses and chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.cuda_emulator import EmulatedRig
from yoloship.cuda.letterbox import Canvas
from yoloship.cuda.letterbox_host import MAX_BAND, band_rows, launch_letterbox_host
from yoloship.errors import InputError
from yoloship.letterbox import Letterbox

if TYPE_CHECKING:
    import ctypes


@pytest.mark.parametrize(
    ("hw", "band"), [((1080, 810), 8), ((1080, 1920), 7), ((2160, 3840), 0), ((64, 96), 8), ((10, 13_000), 0)]
)
def test_a_band_has_as_many_rows_as_its_source_rows_fit_into_a_block(hw: tuple[int, int], band: int) -> None:
    assert band_rows(3 * hw[1], hw[0], Letterbox.fixed(hw, (640, 640)).resized_hw[0]) == band


def test_rows_that_do_not_fit_at_all_have_no_band() -> None:
    assert band_rows(3 * 13_700, 4000, 64) == 0


def test_every_band_fits_into_what_the_kernel_has() -> None:
    rng = np.random.default_rng()
    for _ in range(300):
        height, resized, width = (int(side) for side in rng.integers(1, 3000, 3))
        band = band_rows(3 * width, height, resized, 1)
        centres = (np.arange(resized) + 0.5) * (1 / (resized / height)) - 0.5
        exact = centres.astype(np.float32)
        first = np.floor(exact).astype(int)
        weight = np.rint((exact - first) * 2048)
        last = np.where(weight == 0, first, first + 1)
        first = np.where(weight == 2048, last, first)
        for start in range(0, resized if band else 0, band or 1):
            rows = np.concatenate([first[start : start + band], last[start : start + band]]).clip(0, height - 1)
            assert len(set(rows.tolist())) * 3 * width + 32 * band <= 40_960


def test_only_one_image_is_taken(emulator: ctypes.CDLL) -> None:
    rig = EmulatedRig(emulator)
    for canvas, band in ((Canvas(256, 2, (64, 64)), 1), (Canvas(256, 1, (64, 64)), MAX_BAND + 1)):
        with pytest.raises(InputError, match="cannot be letterboxed from the host's memory: expected one image"):
            launch_letterbox_host(rig.kernels, rig.stream, 256, canvas, band)
