from __future__ import annotations

import numpy as np

from yoloship.datasets.outlines import MAX_OUTLINE_PX, is_too_long


def test_an_outline_is_measured_all_the_way_around() -> None:
    half = MAX_OUTLINE_PX / 2
    assert not is_too_long(np.array([[0.0, 0], [half, 0]]))
    assert is_too_long(np.array([[0.0, 0], [half + 1, 0]]))


def test_many_edges_across_an_image_are_too_long() -> None:
    zigzag = np.tile(np.array([[0.0, 0.0], [60_000.0, 5.0]]), (50, 1))
    assert is_too_long(zigzag)
    assert not is_too_long(zigzag / 1000)
