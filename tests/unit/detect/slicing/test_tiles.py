from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from yoloship.detect.slicing.tiles import MAX_TILES, Slicing, Tile, tiles_of
from yoloship.errors import InputError


def test_the_last_tile_of_a_row_is_moved_back_inside_and_keeps_its_size() -> None:
    assert tiles_of((64, 150), (64, 64), 0.25) == (Tile(0, 0, 64, 64), Tile(0, 48, 64, 112), Tile(0, 86, 64, 150))


def test_tiles_come_row_by_row() -> None:
    tiles = tiles_of((100, 100), (64, 64), 0.0)
    assert [(tile.top, tile.left) for tile in tiles] == [(0, 0), (0, 36), (36, 0), (36, 36)]


def test_a_side_that_fits_into_a_tile_is_not_cut() -> None:
    assert tiles_of((40, 100), (64, 64), 0.0) == (Tile(0, 0, 40, 64), Tile(0, 36, 40, 100))
    assert tiles_of((64, 64), (64, 64), 0.5) == (Tile.whole((64, 64)),)


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("hw", [(33, 700), (64, 65), (127, 128), (500, 301)])
def test_tiles_show_every_pixel_and_neighbours_share_at_least_the_overlap(hw: tuple[int, int], overlap: float) -> None:
    tiles = tiles_of(hw, (64, 96), overlap)
    seen = np.zeros(hw, bool)
    for tile in tiles:
        assert 0 <= tile.top < tile.bottom <= hw[0]
        assert 0 <= tile.left < tile.right <= hw[1]
        assert (tile.bottom - tile.top, tile.right - tile.left) == (min(64, hw[0]), min(96, hw[1]))
        seen[tile.top : tile.bottom, tile.left : tile.right] = True
    assert seen.all()
    lefts = sorted({tile.left for tile in tiles})
    assert all(after - before <= 96 - round(96 * overlap) for before, after in pairwise(lefts))


def test_more_tiles_than_the_limit_are_refused() -> None:
    with pytest.raises(InputError, match=f"slicing: gives too many tiles: expected at most {MAX_TILES}"):
        tiles_of((60_000, 60_000), (32, 32), 0.9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tile_hw", (31, 64)), ("tile_hw", 64), ("tile_hw", (64.0, 64)), ("tile_hw", (True, 64)), ("tile_hw", (64,)),
        ("overlap", 0.95), ("overlap", -0.1), ("overlap", float("nan")), ("overlap", True), ("overlap", "0.2"),
        ("whole", 1), ("merge", "nms"), ("merge", None), ("match_threshold", 1.5), ("class_agnostic", "no"),
    ],
)  # fmt: skip
def test_a_value_outside_its_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"slicing: {name}: cannot have this value"):
        Slicing(**{name: value})
