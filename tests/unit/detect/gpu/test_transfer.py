from __future__ import annotations

import numpy as np
import pytest

from yoloship.detect.gpu.transfer import CudaTuning, RowPick, TransferPolicy, shrinkage
from yoloship.errors import InputError
from yoloship.letterbox import Letterbox

SQUARE = (640, 640)
USUAL, FULL_HD, UHD = (Letterbox.fixed(hw, SQUARE) for hw in ((1080, 810), (1080, 1920), (2160, 3840)))


def test_shrinkage_is_source_pixels_for_each_pixel_of_the_scaled_image() -> None:
    np.testing.assert_allclose([shrinkage(box) for box in (USUAL, FULL_HD, UHD)], [2.85, 9, 36], rtol=0.01)


def test_the_way_follows_the_shrinkage_unless_one_is_forced() -> None:
    policy = TransferPolicy(map_from=8, resize_from=5)
    assert [policy.plan(box).pinned for box in (USUAL, FULL_HD, UHD)] == ["pinned", "mapped", "mapped"]
    assert [policy.plan(box).pageable for box in (USUAL, FULL_HD, UHD)] == ["copied", "copied", "resized"]
    odd = Letterbox.fixed((1079, 1920), SQUARE)  # as much to copy, and no row to leave out
    assert policy.plan(odd).pageable == "resized"
    forced = TransferPolicy(pinned_mode="pinned", pageable_mode="copied").plan(UHD)
    assert (forced.letterbox, forced.pinned, forced.pageable) == (UHD, "pinned", "copied")
    assert forced.pick == RowPick(6, 2, 2)


def test_the_rows_that_count_are_those_that_bilinear_interpolation_weighs() -> None:
    assert RowPick.of(USUAL) is None
    assert RowPick.of(FULL_HD) == RowPick(3, 1, 1)
    assert RowPick.of(UHD) == RowPick(6, 2, 2)
    assert RowPick.of(Letterbox.fixed((1280, 1280), SQUARE)) is None


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        ({"map_from": -1.0}, "map_from"),
        ({"resize_from": float("nan")}, "resize_from"),
        ({"pinned_mode": "copied"}, "pinned_mode: out of range: expected pinned or mapped, got 'copied'"),
        ({"pageable_mode": "pinned"}, "pageable_mode"),
    ],
)
def test_values_outside_their_range_are_refused(arguments: dict[str, object], subject: str) -> None:
    with pytest.raises(InputError, match=subject):
        TransferPolicy(**arguments)  # type: ignore[arg-type]  # one each


@pytest.mark.parametrize("name", ["slots", "max_batch", "plans"])
@pytest.mark.parametrize("value", [0, 1025, 2.5, "4", True, None])
def test_a_gpu_is_shared_out_in_whole_numbers(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{name}: out of range: expected 1 to "):
        CudaTuning(**{name: value})  # type: ignore[arg-type]  # one each


def test_whole_numbers_of_numpy_are_taken_as_python_s() -> None:
    assert type(CudaTuning(slots=np.int64(2)).slots) is int
