"""The letterbox: where an image lies on the model's canvas. No other module computes this geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from yoloship.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    Float = TypeVar("Float", np.float32, np.float64)


PADDING_VALUE: Final = 114
"""Grey value of the canvas around the image; YOLOv5 is trained with it."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How an image is scaled to fit a canvas and padded on all sides; make one with `fixed` or `rect`.

    Attributes:
        image_hw: (height, width) of the source image in pixels.
        resized_hw: (height, width) of the scaled image in model pixels; at least 1.
        left: Padding on the left, in model pixels.
        top: Padding above, in model pixels.
        right: Padding on the right, in model pixels.
        bottom: Padding below, in model pixels.

    With r = min(H/h, W/w) and dw half of the horizontal padding, left = round(dw - 0.1) and right = round(dw + 0.1).
    The top and the bottom are computed in the same way. `to_image` uses the rounded padding and the actual scale of
    each axis.
    """

    image_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def fixed(cls, image_hw: tuple[int, int], input_hw: tuple[int, int], stride: int | None = None) -> Letterbox:
        """Place an image on a canvas of a fixed size, which may be square or not.

        Args:
            image_hw: (height, width) of the image.
            input_hw: (height, width) of the canvas in model pixels.
            stride: Cut the canvas to the next multiples of this around the image, as `rect` does; None leaves it whole.

        Raises:
            InputError: a side is below 1.
        """
        (height, width), (limit_h, limit_w) = image_hw, input_hw
        if min(height, width, limit_h, limit_w) < 1:
            raise InputError(
                "the image or the canvas has no pixels", expected="sides of 1 or more", got=f"{image_hw} on {input_hw}"
            )
        ratio = min(limit_h / height, limit_w / width)
        rows, columns = max(1, round(height * ratio)), max(1, round(width * ratio))
        pad_h = limit_h - rows if stride is None else -rows % stride
        pad_w = limit_w - columns if stride is None else -columns % stride
        left, top = round(pad_w / 2 - 0.1), round(pad_h / 2 - 0.1)
        return cls(image_hw, (rows, columns), left, top, pad_w - left, pad_h - top)

    @classmethod
    def rect(cls, image_hw: tuple[int, int], limit_hw: tuple[int, int], stride: int) -> Letterbox:
        """Place an image on the smallest canvas whose sides are multiples of the stride.

        Args:
            image_hw: (height, width) of the image.
            limit_hw: (height, width) that the scaled image fits in, multiples of the stride.
            stride: The model's largest stride, in model pixels.

        Raises:
            InputError: a side is below 1, or a limit is not a multiple of the stride.
        """
        if stride < 1 or limit_hw[0] % stride or limit_hw[1] % stride:
            raise InputError("the size is not a multiple of the stride", expected=f"n × {stride}", got=str(limit_hw))
        return cls.fixed(image_hw, limit_hw, stride)

    @classmethod
    def stretched(cls, image_hw: tuple[int, int], input_hw: tuple[int, int]) -> Letterbox:
        """Scale each axis of an image to the whole canvas, without padding, as DETRs do.

        Args:
            image_hw: (height, width) of the image.
            input_hw: (height, width) of the canvas in model pixels.

        Raises:
            InputError: a side is below 1.
        """
        cls.fixed(image_hw, input_hw)  # refuses sides below 1
        return cls(image_hw, input_hw, 0, 0, 0, 0)

    @classmethod
    def top_left(cls, image_hw: tuple[int, int], input_hw: tuple[int, int]) -> Letterbox:
        """Place an image at the top left of the canvas, its scaled size rounded down, as YOLOX does.

        Args:
            image_hw: (height, width) of the image.
            input_hw: (height, width) of the canvas in model pixels.

        Raises:
            InputError: a side is below 1.
        """
        cls.fixed(image_hw, input_hw)  # refuses sides below 1
        ratio = min(input_hw[0] / image_hw[0], input_hw[1] / image_hw[1])
        rows, columns = max(1, int(image_hw[0] * ratio)), max(1, int(image_hw[1] * ratio))
        return cls(image_hw, (rows, columns), 0, 0, input_hw[1] - columns, input_hw[0] - rows)

    @property
    def input_hw(self) -> tuple[int, int]:
        """(height, width) of the canvas in model pixels."""
        return self.resized_hw[0] + self.top + self.bottom, self.resized_hw[1] + self.left + self.right

    def to_image(self, places: npt.NDArray[Float]) -> npt.NDArray[Float]:
        """Convert boxes or points on the canvas to boxes or points on the image. They are not clipped.

        Args:
            places: (..., 4) boxes, xyxy, or (..., 2) points, float32 or float64, model pixels.

        Returns:
            The same in source pixels, in a new array of the same shape and dtype. Values too large for the dtype become
            infinite.
        """
        pairs = places.shape[-1] // 2
        gain = (self.resized_hw[1] / self.image_hw[1], self.resized_hw[0] / self.image_hw[0]) * pairs
        offset = (float(self.left), float(self.top)) * pairs
        with np.errstate(over="ignore"):
            moved: npt.NDArray[Float] = ((places.astype(np.float64) - offset) / gain).astype(places.dtype)
        return moved

    def apply(self, image: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """Scale an image (bilinear) onto the canvas.

        Args:
            image: (height, width, C) uint8 of the size in `image_hw`; read only.
            out: (H, W, C) uint8 of the size in `input_hw`, C-contiguous; it is overwritten. None makes a new array.

        Returns:
            The canvas: `out` if it is given, else a new array.

        Raises:
            InputError: the image or the canvas has another size or type.
        """
        channels = image.shape[2] if image.ndim == 3 else 3
        if out is None:
            out = np.empty((*self.input_hw, channels), np.uint8)
        for subject, array, hw in (("image", image, self.image_hw), ("out", out, self.input_hw)):
            if array.dtype != np.uint8 or array.shape != (*hw, channels):
                raise InputError(
                    "wrong array",
                    subject=subject,
                    expected=f"uint8{(*hw, channels)}",
                    got=f"{array.dtype}{array.shape}",
                )
        (height, width), (rows, columns) = self.input_hw, self.resized_hw
        out[: self.top] = PADDING_VALUE
        out[height - self.bottom :] = PADDING_VALUE
        out[self.top : self.top + rows, : self.left] = PADDING_VALUE
        out[self.top : self.top + rows, width - self.right :] = PADDING_VALUE
        inner = out[self.top : self.top + rows, self.left : self.left + columns]
        if self.resized_hw == self.image_hw:
            np.copyto(inner, image)
            return out
        import cv2

        if channels == 3:
            cv2.resize(image, (columns, rows), dst=inner, interpolation=cv2.INTER_LINEAR)
            return out
        for channel in range(channels):
            plane = np.ascontiguousarray(image[:, :, channel])
            inner[:, :, channel] = cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_LINEAR)
        return out
