from __future__ import annotations

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.pipeline.letterbox import Letterbox
from yoloship.pipeline.transfer import TransferPolicy, shrinkage

SQUARE = (640, 640)
USUAL, FULL_HD, UHD = (Letterbox.fixed(hw, SQUARE) for hw in ((1080, 810), (1080, 1920), (2160, 3840)))


def test_shrinkage_is_source_pixels_for_each_pixel_of_the_scaled_picture() -> None:
    np.testing.assert_allclose([shrinkage(box) for box in (USUAL, FULL_HD, UHD)], [2.85, 9, 36], rtol=0.01)


def test_the_way_follows_the_shrinkage_unless_one_is_forced() -> None:
    policy = TransferPolicy(map_from=12, resize_from=6)
    assert [policy.way_of_pinned(box) for box in (USUAL, FULL_HD, UHD)] == ["pinned", "pinned", "mapped"]
    assert [policy.way_of_pageable(box) for box in (USUAL, FULL_HD, UHD)] == ["copied", "resized", "resized"]
    forced = TransferPolicy(pinned_way="pinned", pageable_way="copied")
    assert forced.way_of_pinned(UHD) == "pinned"
    assert forced.way_of_pageable(UHD) == "copied"


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        ({"map_from": -1.0}, "map_from"),
        ({"resize_from": float("nan")}, "resize_from"),
        ({"piece_bytes": 100}, "piece_bytes"),
        ({"threads": -1}, "threads"),
        ({"pinned_way": "copied"}, "pinned_way: out of range: expected pinned or mapped, got 'copied'"),
        ({"pageable_way": "pinned"}, "pageable_way"),
    ],
)
def test_values_outside_their_range_are_refused(arguments: dict[str, object], subject: str) -> None:
    with pytest.raises(InputError, match=subject):
        TransferPolicy(**arguments)  # type: ignore[arg-type]  # one each
