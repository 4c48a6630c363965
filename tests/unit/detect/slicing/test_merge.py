from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from yoloship.detect.slicing.merge import Part, merged
from yoloship.detect.slicing.tiles import Slicing, Tile
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks
from yoloship.results.oriented import hulls_of
from yoloship.tasks.nms import nms_reference

NAMES = ("cat", "dog")
HW = (100, 180)
LEFT, RIGHT = Tile(0, 0, 100, 100), Tile(0, 80, 100, 180)
WHOLE = Tile.whole(HW)


def found(tile: Tile, *rows: tuple[float, ...], **extras: Any) -> Part:
    """Objects in pixels of the image: x1, y1, x2, y2, score, class id; as the tile shows them."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = table[:, :4] - np.array([tile.left, tile.top] * 2, np.float32)
    size = (tile.bottom - tile.top, tile.right - tile.left)
    order = np.argsort(-table[:, 4], kind="stable")
    return Part(
        tile,
        Detections(boxes[order], table[order, 4], table[order, 5].astype(np.int32), NAMES, size, **extras),
    )


def rows(result: Detections) -> list[tuple[list[float], float, int]]:
    scores = [round(score, 3) for score in result.scores.tolist()]
    return list(zip(result.boxes_xyxy.tolist(), scores, result.class_ids.tolist(), strict=True))


def test_an_object_that_is_whole_in_one_tile_is_taken_from_there_though_its_part_scores_more() -> None:
    parts = [found(LEFT, (85, 10, 100, 40, 0.9, 0)), found(RIGHT, (85, 10, 120, 40, 0.5, 0))]
    assert rows(merged(parts, HW, Slicing())) == [([85, 10, 120, 40], 0.5, 0)]


def test_an_object_that_both_tiles_show_whole_is_there_once_with_the_better_score() -> None:
    parts = [found(LEFT, (83, 10, 95, 40, 0.6, 0)), found(RIGHT, (83, 11, 95, 40, 0.8, 0))]
    assert rows(merged(parts, HW, Slicing())) == [([83, 11, 95, 40], 0.8, 0)]


def test_a_part_of_another_class_stays() -> None:
    parts = [found(LEFT, (85, 10, 100, 40, 0.9, 1)), found(RIGHT, (85, 10, 120, 40, 0.5, 0))]
    assert [row[2] for row in rows(merged(parts, HW, Slicing()))] == [1, 0]
    assert rows(merged(parts, HW, Slicing(class_agnostic=True))) == [([85, 10, 120, 40], 0.5, 0)]


def test_a_part_that_lies_in_a_whole_box_that_ends_in_its_tile_stays() -> None:
    """The whole box does not go on beyond the edge, so it is not of the object that is cut there."""
    parts = [found(LEFT, (70, 10, 100, 30, 0.9, 0), (40, 5, 95, 60, 0.8, 0)), found(RIGHT)]
    assert len(merged(parts, HW, Slicing())) == 2


def test_an_object_at_the_edge_of_the_image_is_not_cut() -> None:
    parts = [found(LEFT, (0, 0, 30, 100, 0.9, 0)), found(RIGHT)]
    assert rows(merged(parts, HW, Slicing())) == [([0, 0, 30, 100], 0.9, 0)]


def test_an_object_larger_than_a_tile_is_taken_from_the_whole_image() -> None:
    parts = [
        found(LEFT, (20, 10, 100, 90, 0.9, 0)),
        found(RIGHT, (80, 10, 170, 90, 0.8, 0)),
        found(WHOLE, (20, 10, 170, 90, 0.4, 0)),
    ]
    assert rows(merged(parts, HW, Slicing())) == [([20, 10, 170, 90], 0.4, 0)]


def test_parts_of_an_object_that_is_whole_nowhere_are_joined() -> None:
    parts = [found(LEFT, (20, 10, 100, 90, 0.7, 0)), found(RIGHT, (80, 12, 170, 90, 0.8, 0))]
    assert rows(merged(parts, HW, Slicing())) == [([20, 10, 170, 90], 0.8, 0)]


def test_parts_that_overlap_much_are_joined_before_they_are_compared() -> None:
    parts = [found(LEFT, (78, 10, 100, 40, 0.9, 0)), found(RIGHT, (80, 10, 103, 40, 0.8, 0))]
    assert rows(merged(parts, HW, Slicing())) == [([78, 10, 103, 40], 0.9, 0)]


@pytest.mark.parametrize("merge", ["iou", "ios"])
def test_boxes_that_no_edge_cuts_are_compared_as_the_choice_says(merge: Any) -> None:
    parts = [found(LEFT, (10, 10, 60, 60, 0.9, 0), (15, 15, 30, 30, 0.8, 0)), found(RIGHT)]
    assert len(merged(parts, HW, Slicing(merge=merge))) == {"iou": 2, "ios": 1}[merge]


def test_without_edges_the_result_is_that_of_nms() -> None:
    rng = np.random.default_rng(1)
    low = rng.uniform(5, 60, (150, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 35, (150, 2))], axis=1).astype(np.float32)
    scores, ids = np.sort(rng.random(150).astype(np.float32))[::-1], rng.integers(0, 2, 150).astype(np.int32)
    parts = [Part(WHOLE, Detections(boxes, scores, ids, NAMES, HW)), found(LEFT)]
    kept = nms_reference(boxes, scores, ids, iou_threshold=0.4, max_detections=150)
    np.testing.assert_array_equal(merged(parts, HW, Slicing(match_threshold=0.4)).boxes_xyxy, boxes[kept])


def test_nothing_found_is_an_empty_result_and_incomplete_parts_make_it_incomplete() -> None:
    nothing = merged([found(LEFT), found(RIGHT)], HW, Slicing())
    assert len(nothing) == 0
    assert nothing.complete
    assert nothing.image_hw == HW
    assert not merged([found(LEFT, complete=False), found(RIGHT)], HW, Slicing()).complete


def filled(tile: Tile, *boxes: tuple[int, int, int, int]) -> Masks:
    """Masks of a tile that fill boxes in pixels of the image."""
    masks = np.zeros((len(boxes), tile.bottom - tile.top, tile.right - tile.left), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1 - tile.top : y2 - tile.top, x1 - tile.left : x2 - tile.left] = True
    return Masks.from_array(masks)


def test_masks_move_to_the_image_and_those_of_joined_parts_cover_them_all() -> None:
    parts = [
        found(LEFT, (20, 10, 100, 90, 0.7, 0), masks=filled(LEFT, (20, 10, 100, 90))),
        found(
            RIGHT, (80, 10, 170, 90, 0.8, 0), (150, 2, 160, 8, 0.6, 1),
            masks=filled(RIGHT, (80, 10, 170, 90), (150, 2, 160, 8)),
        ),
    ]  # fmt: skip
    result = merged(parts, HW, Slicing())
    assert result.masks is not None
    want = np.zeros((2, *HW), bool)
    want[0, 10:90, 20:170] = True
    want[1, 2:8, 150:160] = True
    np.testing.assert_array_equal(result.masks.array, want)


def points(tile: Tile, *xyv: tuple[float, float, float]) -> npt.NDArray[np.float32]:
    return np.array([[(x - tile.left, y - tile.top, v) for x, y, v in xyv]], np.float32)


def test_keypoints_move_to_the_image_and_of_joined_parts_each_is_where_it_is_seen_best() -> None:
    parts = [
        found(LEFT, (20, 10, 100, 90, 0.7, 0), keypoints=points(LEFT, (30, 20, 0.9), (100, 50, 0.1))),
        found(RIGHT, (80, 10, 170, 90, 0.8, 0), keypoints=points(RIGHT, (80, 20, 0.2), (160, 50, 0.8))),
    ]
    result = merged(parts, HW, Slicing())
    assert result.keypoints is not None
    np.testing.assert_allclose(result.keypoints, [[[30, 20, 0.9], [160, 50, 0.8]]])


def oriented(tile: Tile, *boxes: tuple[float, ...], scores: tuple[float, ...]) -> Part:
    turned = np.array(boxes, np.float32).reshape(-1, 5)
    turned[:, :2] -= (tile.left, tile.top)
    size = (tile.bottom - tile.top, tile.right - tile.left)
    hulls = np.clip(hulls_of(turned), 0, np.array([size[1], size[0]] * 2, np.float32))
    ids = np.zeros(len(boxes), np.int32)
    return Part(tile, Detections(hulls, np.array(scores, np.float32), ids, NAMES, size, boxes_xywhr=turned))


def test_oriented_boxes_are_compared_as_they_are_turned() -> None:
    crossing = ((40, 50, 50, 8, 0.8), (40, 50, 50, 8, -0.8))  # one hull for both
    again = (60.5, 20, 4, 10, 0.3)
    parts = [oriented(WHOLE, *crossing, again, scores=(0.9, 0.8, 0.7)), oriented(LEFT, again, scores=(0.6,))]
    result = merged(parts, HW, Slicing())
    assert result.boxes_xywhr is not None
    np.testing.assert_allclose(result.boxes_xywhr, np.array([*crossing, again]), rtol=1e-6)


def test_an_oriented_box_is_taken_from_the_tile_that_shows_it_whole_and_its_hull_is_not_cut() -> None:
    box = (100, 50, 30, 10, 0.5)
    parts = [oriented(LEFT, box, scores=(0.9,)), oriented(RIGHT, box, scores=(0.5,))]
    result = merged(parts, HW, Slicing())
    np.testing.assert_allclose(result.boxes_xyxy, hulls_of(np.array([box], np.float32)), rtol=1e-6)
    np.testing.assert_allclose(result.scores, [0.5])
