from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yoloship.results.drawing import draw_boxes
from yoloship.results.oriented import corners_of, hulls_of

GREY = np.full((200, 300, 3), 128, np.uint8)


def marks(box: list[float], label: str = "", line_width_px: int | None = 3) -> npt.NDArray[np.bool_]:
    boxes = np.array([box], np.float32)
    drawn = draw_boxes(GREY.copy(), hulls_of(boxes), np.zeros(1, np.int32), [label], line_width_px, corners_of(boxes))
    return np.asarray((drawn != GREY).any(axis=2))


def test_an_oriented_box_is_drawn_along_its_sides_and_not_along_its_hull() -> None:
    box = [150.0, 100.0, 120.0, 60.0, 0.5]
    drawn, corners = marks(box), corners_of(np.array(box, np.float32))
    for one, other in zip(corners, np.roll(corners, 1, axis=0), strict=True):
        x, y = (one + other) / 2
        assert drawn[round(float(y)), round(float(x))]
    left, top, _, _ = hulls_of(np.array(box, np.float32))
    assert not drawn[round(float(top)) + 4, round(float(left)) + 4]
    assert not drawn[95:105, 145:155].any()


def test_its_label_lies_at_its_hull() -> None:
    box = [150.0, 130.0, 120.0, 60.0, 0.5]
    tag = marks(box, "ship") & ~marks(box)
    top = float(hulls_of(np.array(box, np.float32))[1])
    assert tag.any()
    assert np.nonzero(tag)[0].max() <= top + 3


def test_it_may_reach_beyond_the_image_and_be_broken() -> None:
    assert marks([0, 0, 90, 60, 0.3], "ship").any()
    assert marks([150, 100, 1e5, 60, 0.3], line_width_px=1).any()
    assert not marks([150, 100, 1e12, 60, 0.3]).any()
    assert not marks([150, 100, 40, 60, np.nan]).any()
