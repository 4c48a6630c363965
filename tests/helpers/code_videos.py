"""Videos of printed codes that move, with their truth: the model in the package finds these codes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from yoloship.demo.scene import HELD_OUT_SEED, make_scene

Image = npt.NDArray[np.uint8]
MARGIN_PX = 12
HW = (480, 640)


class Shown(NamedTuple):
    """One frame: when it is shown, what it shows, and where the codes are."""

    time_s: float
    image: Image
    boxes_xyxy: npt.NDArray[np.float32]


@lru_cache
def codes(count: int, sides_px: tuple[int, int] = (45, 75)) -> tuple[Image, ...]:
    """Codes cut out of scenes that the model has not seen, each with a margin."""
    found: list[Image] = []
    seed = HELD_OUT_SEED + 100
    while len(found) < count:
        scene = make_scene(seed)
        seed += 1
        for x1, y1, x2, y2 in scene.boxes_xyxy.tolist():
            left, top, right, bottom = (round(x1) - MARGIN_PX, round(y1) - MARGIN_PX, round(x2) + MARGIN_PX,
                                        round(y2) + MARGIN_PX)  # fmt: skip
            apart = (
                (scene.boxes_xyxy[:, 0] > right) | (scene.boxes_xyxy[:, 2] < left)
                | (scene.boxes_xyxy[:, 1] > bottom) | (scene.boxes_xyxy[:, 3] < top)
            )  # fmt: skip
            fits = all(sides_px[0] <= side <= sides_px[1] for side in (x2 - x1, y2 - y1))
            if fits and min(left, top) >= 0 and max(right, bottom) <= 640 and apart.sum() == len(apart) - 1:
                found.append(scene.image[top:bottom, left:right].copy())
    return tuple(found[:count])


def moving_codes(count: int = 5, frames: int = 60, rate: float = 25.0, seed: int = 1) -> Iterator[Shown]:
    """Codes that cross the picture straight on, each in a lane of its own, at different speeds and in both directions.

    Args:
        count: How many there are, up to 5.
        frames: How many frames are made.
        rate: Frames in a second.
        seed: Of where they begin, and how fast they are.
    """
    rng = np.random.default_rng(seed)
    height, width = HW
    pieces = codes(count)
    ground = rng.integers(105, 150, (12, 16, 3), np.uint8)
    backdrop = cv2.resize(ground, (width, height), interpolation=cv2.INTER_CUBIC)
    room = np.array([width - piece.shape[1] for piece in pieces], float)
    way = room * rng.uniform(0.75, 1, count)  # what each has gone at the end
    start = rng.uniform(0, room - way)
    turned = rng.random(count) < 0.5
    for frame in range(frames):
        image, boxes = backdrop.copy(), []
        along = start + way * frame / (frames - 1)
        for lane, (piece, x) in enumerate(zip(pieces, np.where(turned, room - along, along).tolist(), strict=True)):
            high, wide = piece.shape[:2]
            left, top = round(x), round((lane + 0.5) * height / count - high / 2)
            top = min(max(top, 0), height - high)
            image[top : top + high, left : left + wide] = piece
            boxes.append((left + MARGIN_PX, top + MARGIN_PX, left + wide - MARGIN_PX, top + high - MARGIN_PX))
        yield Shown(frame / rate, image, np.array(boxes, np.float32))
