"""Puts the objects of an image together from what its tiles show.

**Cut boxes.** A box is cut if it comes to within `EDGE` of a tile's side of an inner edge of the tile, one that is not
an edge of the image: the object may go on beyond it. All other boxes are whole, and so are all boxes of the run over
the whole image.

**The order.** Whole boxes come first, then cut ones, each by descending score. A box is dropped if one before it shows
the same object. So a part of an object never takes the place of the object.

**The same object.** Two boxes of a class show it if they overlap by more than `Slicing.match_threshold`. A whole box
also explains a cut one of its class, if it goes on beyond an inner edge at which that is cut, and at least the share
`match_threshold` of the cut box's area lies in it. That share is 1 for a part of the whole box's object.

So an object that lies whole in one tile, and is cut by the edges of others, is taken from the one: if the model finds
in each tile what is to be seen of an object, the result is what it would find in the whole image at that size.

**Parts.** Cut boxes that no whole box shows are parts of objects that lie whole in no tile. They are joined where they
go on in the next tile (`yoloship.detect.slicing.join`), but for oriented boxes, which stay parts. Only then are they
compared with each other.

Only boxes near one another are compared. Memory grows with the number of boxes, and time with the number of pairs that
are near.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.detect.slicing.cells import Cells
from yoloship.detect.slicing.join import joined
from yoloship.results.boxes import pair_ious
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks, MaskWindow
from yoloship.results.oriented import hulls_of, moments_of, pair_probious

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from yoloship.detect.slicing.tiles import Slicing, Tile

    Float32 = npt.NDArray[np.float32]
    Flags = npt.NDArray[np.bool_]
    Indices = npt.NDArray[np.int64]
    Overlap = Callable[[Indices, int], Float32]
    """How much each of some boxes overlaps another."""

EDGE: Final = 0.005
"""Of the side of a tile. A network ends a box a little before the edge that cuts its object: in 19 of 20 cases within
this share (yolov5n at 640, a mosaic of photos)."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What a model found in one tile.

    Attributes:
        tile: The tile.
        found: Its objects, in pixels of the tile.
    """

    tile: Tile
    found: Detections


@dataclass(frozen=True, slots=True, eq=False)
class _Boxes:
    """The boxes of all parts, in pixels of the image.

    Attributes:
        xyxy: (n, 4) float32.
        scores: (n,) float32.
        group_ids: (n,) int32: boxes of different groups are never of one object.
        cut_at: (n, 4) bool: whether each is cut at the left, top, right or bottom edge of its tile.
        limits: (n, 4) float32: these edges.
        oriented: (n, 5) float32: centre, width, height and angle; None unless the model gives oriented boxes.
    """

    xyxy: Float32
    scores: Float32
    group_ids: npt.NDArray[np.int32]
    cut_at: Flags
    limits: Float32
    oriented: Float32 | None


def merged(parts: Sequence[Part], image_hw: tuple[int, int], slicing: Slicing) -> Detections:
    """The objects of an image, each once.

    Args:
        parts: At least one, all of one model.
        image_hw: (height, width) of the image in pixels.
        slicing: Says which boxes are of one object.

    Returns:
        The objects in pixels of the image, best first.
    """
    class_ids = np.concatenate([part.found.class_ids for part in parts])
    boxes = _Boxes(
        np.concatenate([_moved(part.found.boxes_xyxy, part.tile) for part in parts]),
        np.concatenate([part.found.scores for part in parts]),
        np.zeros_like(class_ids) if slicing.class_agnostic else class_ids,
        np.concatenate([_cut_at(part, image_hw) for part in parts]),
        np.concatenate([np.tile(_limits(part.tile), (len(part.found), 1)) for part in parts]),
        _oriented(parts),
    )
    tile = parts[0].tile
    side_px = max(tile.bottom - tile.top, tile.right - tile.left)
    boxes, objects = _objects(boxes, side_px, slicing)
    leads = np.array([members[0] for members in objects], np.int64)
    xyxy, oriented = boxes.xyxy[leads], None
    if boxes.oriented is not None:
        oriented = boxes.oriented[leads]
        xyxy = np.clip(hulls_of(oriented), 0, np.array([image_hw[1], image_hw[0]] * 2, np.float32))
    return Detections(
        xyxy,
        boxes.scores[leads],
        class_ids[leads],
        parts[0].found.class_names,
        image_hw,
        all(part.found.complete for part in parts),
        _masks(parts, objects, image_hw),
        _keypoints(parts, objects),
        oriented,
    )


def _objects(boxes: _Boxes, side_px: int, slicing: Slicing) -> tuple[_Boxes, list[list[int]]]:
    """The rows of each object, best first, and the boxes: that of an object's first row is around all its rows."""
    threshold = np.float32(slicing.match_threshold)
    order = np.argsort(-boxes.scores, kind="stable")
    is_cut: Flags = np.asarray(boxes.cut_at.any(axis=1))[order]
    whole, held = _first_of_each(boxes, order[~is_cut].tolist(), side_px, slicing)
    overlap = _overlap_of(boxes, slicing)
    left = []
    for row in order[is_cut].tolist():
        near = held.of(row)
        shown = (overlap(near, row) > threshold) | _explains(boxes, near, row, threshold)
        if not shown.any():
            left.append(row)
    objects = [[row] for row in left]
    if boxes.oriented is None:
        cells = Cells(boxes.xyxy, boxes.group_ids, side_px)
        objects = joined(left, cells, boxes.xyxy, boxes.cut_at, boxes.limits, threshold)
        boxes = replace(boxes, xyxy=boxes.xyxy.copy())
        for members in objects:
            corners = boxes.xyxy[members]
            boxes.xyxy[members[0]] = (*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))
    first, _ = _first_of_each(boxes, [members[0] for members in objects], side_px, slicing)
    of_first = {members[0]: members for members in objects}
    found = [[row] for row in whole] + [of_first[row] for row in first]
    return boxes, sorted(found, key=lambda members: -boxes.scores[members[0]])


def _first_of_each(boxes: _Boxes, rows: Sequence[int], side_px: int, slicing: Slicing) -> tuple[list[int], Cells]:
    """The rows that overlap none of those before them, and a way to those near another."""
    overlap, threshold = _overlap_of(boxes, slicing), np.float32(slicing.match_threshold)
    cells, kept = Cells(boxes.xyxy, boxes.group_ids, side_px), []
    for row in rows:
        near = cells.of(row)
        if not len(near) or not (overlap(near, row) > threshold).any():
            cells.add(row)
            kept.append(row)
    return kept, cells


def _explains(boxes: _Boxes, whole: Indices, row: int, least: np.float32) -> Flags:
    """Whether each of some whole boxes is of the object that a cut box shows a part of."""
    box, theirs, limits = boxes.xyxy[row], boxes.xyxy[whole], boxes.limits[row]
    beyond = np.concatenate([theirs[:, :2] < limits[:2], theirs[:, 2:] > limits[2:]], axis=1)
    area, shared = (box[2] - box[0]) * (box[3] - box[1]), _shared(theirs, box)
    explains: Flags = (beyond & boxes.cut_at[row]).any(axis=1) & (shared > 0) & (shared >= least * area)
    return explains


def _overlap_of(boxes: _Boxes, slicing: Slicing) -> Overlap:
    """The measure that `Slicing.merge` names; that of oriented boxes is their probabilistic IoU."""
    xyxy = boxes.xyxy
    if boxes.oriented is not None:
        moments = moments_of(boxes.oriented)
        return lambda near, row: pair_probious(moments[:, near], moments[:, row, None])
    if slicing.merge == "iou":
        return lambda near, row: pair_ious(xyxy[near].T, xyxy[row][:, None])
    areas = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    least = np.finfo(np.float32).tiny
    return lambda near, row: _shared(xyxy[near], xyxy[row]) / np.maximum(np.minimum(areas[near], areas[row]), least)


def _shared(boxes_xyxy: Float32, box_xyxy: Float32) -> Float32:
    """(n,): the area that each of some boxes (n, 4) has in common with another (4,)."""
    sizes = np.minimum(boxes_xyxy[:, 2:], box_xyxy[2:]) - np.maximum(boxes_xyxy[:, :2], box_xyxy[:2])
    shared: Float32 = np.maximum(sizes, 0).prod(axis=1)
    return shared


def _moved(points: Float32, tile: Tile) -> Float32:
    """Points (..., 2), or boxes (..., 4), from pixels of the tile to pixels of the image."""
    moved: Float32 = points + np.array([tile.left, tile.top] * (points.shape[-1] // 2), np.float32)
    return moved


def _limits(tile: Tile) -> Float32:
    """(4,): the tile's left, top, right and bottom edge."""
    return np.array([tile.left, tile.top, tile.right, tile.bottom], np.float32)


def _cut_at(part: Part, image_hw: tuple[int, int]) -> Flags:
    """(n, 4): whether each box reaches the left, top, right or bottom edge of its tile, and that is an inner edge."""
    tile, boxes = part.tile, part.found.boxes_xyxy
    height, width = tile.bottom - tile.top, tile.right - tile.left
    inner = np.array([tile.left > 0, tile.top > 0, tile.right < image_hw[1], tile.bottom < image_hw[0]])
    near_x, near_y = np.float32(max(1.0, EDGE * width)), np.float32(max(1.0, EDGE * height))
    reaches = np.stack(
        [boxes[:, 0] <= near_x, boxes[:, 1] <= near_y, boxes[:, 2] >= width - near_x, boxes[:, 3] >= height - near_y],
        axis=1,
    )
    cut: Flags = reaches & inner
    return cut


def _oriented(parts: Sequence[Part]) -> Float32 | None:
    """The oriented boxes (n, 5) of all parts, in pixels of the image."""
    moved = [
        np.concatenate([_moved(boxes[:, :2], part.tile), boxes[:, 2:]], axis=1)
        for part in parts
        if (boxes := part.found.boxes_xywhr) is not None
    ]
    return np.concatenate(moved) if moved else None


def _keypoints(parts: Sequence[Part], objects: Sequence[Sequence[int]]) -> Float32 | None:
    """The keypoints of the objects in pixels of the image; of a joined object, each from where it is seen best."""
    moved = [
        np.concatenate([_moved(points[..., :2], part.tile), points[..., 2:]], axis=-1)
        for part in parts
        if (points := part.found.keypoints) is not None
    ]
    if not moved:
        return None
    every: Float32 = np.concatenate(moved)
    chosen = every[[members[0] for members in objects]]
    if every.shape[-1] == 3:
        for place, members in enumerate(objects):
            if len(members) > 1:
                seen_best = every[members, :, 2].argmax(axis=0)
                chosen[place] = every[np.array(members)[seen_best], np.arange(every.shape[1])]
    return chosen


def _masks(parts: Sequence[Part], objects: Sequence[Sequence[int]], image_hw: tuple[int, int]) -> Masks | None:
    """The masks of the objects in pixels of the image; that of a joined object covers all its parts."""
    if any(part.found.masks is None for part in parts):
        return None
    wanted = np.array(sorted(row for members in objects for row in members), np.int64)
    windows: dict[int, MaskWindow] = {}
    first = 0
    for part in parts:
        inside = wanted[(wanted >= first) & (wanted < first + len(part.found))]
        assert part.found.masks is not None
        pieces = part.found.masks[inside - first].in_windows()
        for row, (pixels, left, top) in zip(inside.tolist(), pieces, strict=True):
            windows[row] = MaskWindow.of(pixels, left + part.tile.left, top + part.tile.top)
        first += len(part.found)
    return Masks(tuple(_covering([windows[row] for row in members]) for members in objects), image_hw)


def _covering(windows: Sequence[MaskWindow]) -> MaskWindow:
    """One mask of all pixels that are true in some."""
    filled = [window for window in windows if min(window.hw)]
    if len(filled) < 2:
        return filled[0] if filled else windows[0]
    top, left = min(window.top for window in filled), min(window.left for window in filled)
    bottom = max(window.top + window.hw[0] for window in filled)
    right = max(window.left + window.hw[1] for window in filled)
    covered = np.zeros((bottom - top, right - left), np.bool_)
    for window in filled:
        rows = slice(window.top - top, window.top - top + window.hw[0])
        covered[rows, window.left - left : window.left - left + window.hw[1]] |= window.pixels
    return MaskWindow.of(covered, left, top)
