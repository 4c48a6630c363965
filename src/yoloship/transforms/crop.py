"""The crop: which part of an image a classification model sees. No other module computes this geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yoloship.errors import InputError
from yoloship.transforms.resample import resample

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.transforms.record import Interpolation, Transform


@dataclass(frozen=True, slots=True)
class Crop:
    """How an image is cut and scaled to a model's input; make one with `of`.

    Attributes:
        image_hw: (height, width) of the source image in pixels.
        source: (top, left, height, width) of the part that is scaled, in source pixels.
        resized_hw: (height, width) of that part after scaling, in model pixels.
        top: First row of the scaled part that is kept; negative if rows of zeros are added above.
        left: First column that is kept; negative if columns of zeros are added on the left.
        input_hw: (height, width) of the model's input.
        interpolation: See `Interpolation`.
    """

    image_hw: tuple[int, int]
    source: tuple[int, int, int, int]
    resized_hw: tuple[int, int]
    top: int
    left: int
    input_hw: tuple[int, int]
    interpolation: Interpolation

    @classmethod
    def of(cls, image_hw: tuple[int, int], transform: Transform) -> Crop:
        """Where a transform cuts an image of this size.

        The longer side is rounded down, and the centre is rounded half to even, as in torchvision (Resize, CenterCrop).

        Args:
            image_hw: (height, width) of the image.
            transform: Its `crop` is the size of the input.

        Raises:
            InputError: the image has no pixels.
        """
        height, width = image_hw
        if min(image_hw) < 1:
            raise InputError("the image has no pixels", expected="sides of 1 or more", got=str(image_hw))
        source, resized_hw, top, left = (0, 0, height, width), transform.crop, 0, 0
        if transform.kind == "square":
            side = min(image_hw)
            source = ((height - side) // 2, (width - side) // 2, side, side)
        elif transform.kind == "crop":
            assert transform.resize is not None
            shorter, longer = min(image_hw), max(image_hw)
            scaled = int(transform.resize * longer / shorter)
            resized_hw = (transform.resize, scaled) if height <= width else (scaled, transform.resize)
            top, left = (_start(have, want) for have, want in zip(resized_hw, transform.crop, strict=True))
        return cls(image_hw, source, resized_hw, top, left, transform.crop, transform.interpolation)

    def apply(self, image: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """Cut and scale an image.

        Args:
            image: (height, width, C) uint8 of the size in `image_hw`; read only.
            out: (H, W, C) uint8 of the size in `input_hw`; it is overwritten. None makes a new array.

        Returns:
            `out` if it is given, else a new array.

        Raises:
            InputError: the image has another size or type.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[:2] != self.image_hw:
            raise InputError(
                "wrong array", subject="image", expected=f"uint8{(*self.image_hw, 'C')}",
                got=f"{image.dtype}{image.shape}",
            )  # fmt: skip
        out = np.empty((*self.input_hw, image.shape[2]), np.uint8) if out is None else out
        top, left, height, width = self.source
        part = image[top : top + height, left : left + width]
        if self.interpolation == "opencv-linear":
            out[:] = _opencv(part, self.input_hw)
            return out
        (rows, above), (columns, before) = (
            _kept(start, want, have)
            for start, want, have in zip((self.top, self.left), self.input_hw, self.resized_hw, strict=True)
        )
        inside = (slice(above, above + len(rows)), slice(before, before + len(columns)))
        if (len(rows), len(columns)) != self.input_hw:
            out[:] = 0
        out[inside] = resample(part, self.resized_hw, rows, columns, self.interpolation)
        return out


def _start(have: int, want: int) -> int:
    """The first pixel of a centred cut; negative if the cut is larger. The added zeros are halved rounded down."""
    return round((have - want) / 2) if have >= want else -((want - have) // 2)


def _kept(start: int, want: int, have: int) -> tuple[range, int]:
    """Which of the scaled pixels are in the cut, and how many zeros precede them."""
    return range(max(0, start), min(have, start + want)), max(0, -start)


def _opencv(part: npt.NDArray[np.uint8], hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    import cv2

    if part.shape[2] == 3:
        return np.asarray(cv2.resize(part, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR), np.uint8)
    planes = [np.ascontiguousarray(part[:, :, channel]) for channel in range(part.shape[2])]
    scaled = [cv2.resize(plane, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR) for plane in planes]
    return np.stack(scaled, axis=2).astype(np.uint8, copy=False)
