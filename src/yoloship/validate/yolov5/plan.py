"""In which order, and on canvases of which size, YOLOv5's validation looks at the images of a dataset.

Checkpoints run on rectangles: images are sorted by their aspect ratio, each batch shares one canvas that its widest and
its tallest image need, and half a stride is added. So the numbers depend a little on the size of the batches. Other
models run on squares, one image at a time.

The official code sorts with an unstable sort, so the order of equal ratios depends on the processor. Here they keep the
order of their paths.

Source: the official runs in bench/results/val-yolov5-2026-11-28.md, whose shapes this gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


_MARGIN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Planned:
    """One image's turn.

    Attributes:
        index: Its place among the images that were given.
        batch: Its batch, from 0.
        input_hw: (height, width) of the canvas in model pixels.
    """

    index: int
    batch: int
    input_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Canvas:
    """What the canvases of rectangles are made from.

    Attributes:
        imgsz: What the longer side of an image becomes, in model pixels: a multiple of the stride.
        batch: Images that share a canvas.
        stride: The sides of a canvas are multiples of it, in model pixels.
    """

    imgsz: int
    batch: int
    stride: int


def whole_strides(imgsz: int, stride: int) -> int:
    """The side that is used for a side that was asked for: the next multiple of the stride, both in model pixels."""
    return -(-imgsz // stride) * stride


def squares(count: int, imgsz: int) -> list[Planned]:
    """Each image on a square canvas of its own, in the order given.

    Args:
        count: How many images.
        imgsz: The side in model pixels, a multiple of the stride.
    """
    return [Planned(index, index, (imgsz, imgsz)) for index in range(count)]


def rectangles(sizes_hw: Sequence[tuple[int, int]], canvas: Canvas) -> list[Planned]:
    """Images sorted by aspect ratio, in batches of one canvas each.

    Args:
        sizes_hw: (height, width) of each image in source pixels, upright.
        canvas: Sizes.
    """
    if not sizes_hw:
        return []
    ratios = np.array([height / width for height, width in sizes_hw])
    return batches(ratios, np.argsort(ratios, kind="stable"), canvas)


def batches(ratios: npt.NDArray[np.float64], order: npt.NDArray[np.integer], canvas: Canvas) -> list[Planned]:
    """Batches of images in an order that is given; the canvas of each batch.

    Args:
        ratios: (n,) float64: height by width of each image.
        order: (n,) integer: the places of the images, in the order of their turns.
        canvas: Sizes.
    """
    planned: list[Planned] = []
    stride, size = canvas.stride, max(1, min(canvas.batch, len(order)))
    for start in range(0, len(order), size):
        places = order[start : start + size]
        low, high = float(ratios[places].min()), float(ratios[places].max())
        shape = (high, 1.0) if high < 1 else (1.0, 1 / low) if low > 1 else (1.0, 1.0)
        height, width = (int(np.ceil(side * canvas.imgsz / stride + _MARGIN)) * stride for side in shape)
        planned += [Planned(int(place), start // size, (height, width)) for place in places]
    return planned
