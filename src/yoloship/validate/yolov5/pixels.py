"""How YOLOv5's validation brings an image to the network's input. Its detection tool does it differently.

The longer side becomes the model's size: small images are enlarged too. Sizes are rounded down, as up to and including
version 7.0. Shrinking takes area averages (INTER_AREA), enlarging is bilinear. The image then lies in the middle of its
canvas, on grey, and is not scaled again. The padding that is remembered for the way back is exact, and may end in a
half; the padding that is drawn is whole.

Source: the inputs of the official runs in bench/results/val-yolov5-2026-11-28.md, equal by SHA-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Image = npt.NDArray[np.uint8]


_PADDING: Final = 114


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an image lies on its canvas.

    Attributes:
        source_hw: (height, width) of the source image in pixels.
        image_hw: (height, width) of the scaled image in model pixels.
        input_hw: (height, width) of the canvas in model pixels.
    """

    source_hw: tuple[int, int]
    image_hw: tuple[int, int]
    input_hw: tuple[int, int]

    @classmethod
    def of(cls, source_hw: tuple[int, int], imgsz: int, input_hw: tuple[int, int]) -> Placed:
        """Place an image.

        Args:
            source_hw: (height, width) in source pixels.
            imgsz: What its longer side becomes, in model pixels.
            input_hw: (height, width) of the canvas in model pixels.
        """
        height, width = source_hw
        ratio = imgsz / max(height, width)
        scaled = source_hw if ratio == 1 else (max(1, int(height * ratio)), max(1, int(width * ratio)))
        assert scaled[0] <= input_hw[0]
        assert scaled[1] <= input_hw[1]
        return cls(source_hw, scaled, input_hw)

    @property
    def pad_xy(self) -> tuple[float, float]:
        """The exact padding on the left and at the top, in model pixels."""
        return (self.input_hw[1] - self.image_hw[1]) / 2, (self.input_hw[0] - self.image_hw[0]) / 2

    @property
    def gain(self) -> float:
        """Model pixels for a source pixel: that of the height, which is used for both axes on the way back."""
        return self.image_hw[0] / self.source_hw[0]

    def draw(self, image: Image) -> Image:
        """The canvas.

        Args:
            image: (height, width, 3) uint8 BGR of the source size, C-contiguous; read only.

        Returns:
            (H, W, 3) uint8 BGR; the caller owns it.
        """
        import cv2

        height, width = self.image_hw
        left, top = (round(pad - 0.1) for pad in self.pad_xy)
        canvas = np.full((*self.input_hw, 3), _PADDING, np.uint8)
        inside = canvas[top : top + height, left : left + width]
        if self.image_hw == self.source_hw:
            inside[:] = image
        else:
            shrinks = max(self.image_hw) < max(self.source_hw)
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            inside[:] = cv2.resize(image, (width, height), interpolation=method)
        return canvas
