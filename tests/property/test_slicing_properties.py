"""Slicing with a model that finds in each tile exactly what is to be seen of each object."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from yoloship.detect.slicing.merge import Part, merged
from yoloship.detect.slicing.tiles import Slicing, Tile, tiles_of
from yoloship.results.boxes import box_ious
from yoloship.results.detections import Detections

TILE = 200
OVERLAP = 0.3
SHARED = 60
"""Pixels that neighbouring tiles share: objects up to this size, less what counts as the edge, are whole somewhere."""
EDGE_PX = 1
NAMES = ("cat", "dog", "cow")

sizes = st.tuples(st.integers(60, 900), st.integers(60, 900))
seeds = st.integers(0, 2**32 - 1)


def seen(tile: Tile, objects: npt.NDArray[np.float32], ids: npt.NDArray[np.int32], rng: np.random.Generator) -> Part:
    """What is to be seen of each object in a tile, with any scores; less than two pixels are overlooked."""
    limits = np.array([tile.left, tile.top, tile.right, tile.bottom], np.float32)
    inside = np.clip(objects, np.tile(limits[:2], 2), np.tile(limits[2:], 2)) - np.tile(limits[:2], 2)
    visible = ((inside[:, 2:] - inside[:, :2]) >= 2).all(axis=1)
    scores = np.sort(rng.random(int(visible.sum())).astype(np.float32))[::-1].copy()
    order = rng.permutation(np.flatnonzero(visible))
    size = (tile.bottom - tile.top, tile.right - tile.left)
    return Part(tile, Detections(inside[order], scores, ids[order], NAMES, size))


def objects_of(
    rng: np.random.Generator, hw: tuple[int, int], count: int, largest: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Objects inside an image, no two of a class with an IoU of 0.4 or more."""
    size = rng.uniform(8, largest, (count, 2))
    low = rng.uniform(0, 1, (count, 2)) * np.maximum(np.array(hw[::-1]) - size, 0)
    boxes = np.concatenate([low, np.minimum(low + size, np.array(hw[::-1]))], axis=1).astype(np.float32)
    ids = rng.integers(0, len(NAMES), count).astype(np.int32)
    clash = np.triu((box_ious(boxes, boxes) >= 0.4) & (ids[:, None] == ids), 1).any(axis=0)
    return boxes[~clash], ids[~clash]


def table(boxes: npt.NDArray[np.float32], ids: npt.NDArray[np.int32]) -> list[tuple[int, tuple[float, ...]]]:
    return sorted((int(i), tuple(np.round(box.astype(float), 2).tolist())) for i, box in zip(ids, boxes, strict=True))


@given(sizes, seeds, st.integers(0, 60), st.sampled_from(["iou", "ios"]))
def test_objects_no_larger_than_the_overlap_are_found_exactly_once_however_they_lie(
    hw: tuple[int, int], seed: int, count: int, merge: str
) -> None:
    rng = np.random.default_rng(seed)
    boxes, ids = objects_of(rng, hw, count, SHARED - 2 * EDGE_PX - 1)
    if merge == "ios":  # which drops a box in another one of its class
        sizes_px = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        common = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(boxes[:, None, :2], boxes[:, :2])
        shares = np.maximum(common, 0).prod(axis=2) / np.minimum(sizes_px[:, None], sizes_px)
        apart = ~np.triu((shares > 0.4) & (ids[:, None] == ids), 1).any(axis=0)
        boxes, ids = boxes[apart], ids[apart]
    tiles = tiles_of(hw, (TILE, TILE), OVERLAP)
    slicing = Slicing((TILE, TILE), OVERLAP, merge=merge)  # type: ignore[arg-type]
    result = merged([seen(tile, boxes, ids, rng) for tile in tiles], hw, slicing)
    assert table(result.boxes_xyxy, result.class_ids) == table(boxes, ids)


@given(sizes, seeds, st.integers(0, 12))
def test_what_the_whole_image_shows_hides_its_parts_whatever_its_size(
    hw: tuple[int, int], seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    boxes, ids = objects_of(rng, hw, count, 900)
    tiles = (*tiles_of(hw, (TILE, TILE), OVERLAP), Tile.whole(hw))
    result = merged([seen(tile, boxes, ids, rng) for tile in tiles], hw, Slicing((TILE, TILE), OVERLAP))
    assert table(result.boxes_xyxy, result.class_ids) == table(boxes, ids)


@given(sizes, seeds)
def test_a_single_object_of_any_size_is_put_together_from_its_parts(hw: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, ids = objects_of(rng, hw, 1, 900)
    tiles = tiles_of(hw, (TILE, TILE), OVERLAP)
    result = merged([seen(tile, boxes, ids, rng) for tile in tiles], hw, Slicing((TILE, TILE), OVERLAP))
    assert table(result.boxes_xyxy, result.class_ids) == table(boxes, ids)


@given(sizes, seeds, st.integers(0, 40))
def test_no_box_is_invented_lost_for_good_or_outside_the_image(hw: tuple[int, int], seed: int, count: int) -> None:
    """Any boxes at all: the best box of a class is in the result, or one that overlaps it."""
    rng = np.random.default_rng(seed)
    tiles = (*tiles_of(hw, (TILE, TILE), OVERLAP), Tile.whole(hw))
    boxes, ids = objects_of(rng, hw, count, 300)
    parts = [seen(tile, boxes[rng.random(len(boxes)) < 0.5], ids[: len(boxes)], rng) for tile in tiles if len(boxes)]
    parts = parts or [seen(tiles[0], boxes, ids, rng)]
    result = merged(parts, hw, Slicing((TILE, TILE), OVERLAP))
    assert (np.diff(result.scores) <= 0).all()
    assert (result.boxes_xyxy >= 0).all()
    assert (result.boxes_xyxy <= np.array([hw[1], hw[0]] * 2)).all()
    assert set(result.class_ids.tolist()) == {i for part in parts for i in part.found.class_ids.tolist()}
