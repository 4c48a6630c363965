"""The masks of the objects in one image, `Masks`.

A mask is kept as the bits of its bounding window only, at the resolution at which it was computed. Anything large, such
as a whole mask in source pixels, is computed when it is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from yoloship.errors import InputError
from yoloship.results.rle import compressed, run_lengths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from yoloship.letterbox import Letterbox

    Mask = npt.NDArray[np.bool_]
    Polygon = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MaskWindow:
    """The part of one mask inside a window; outside it, the mask is false.

    Attributes:
        left: Column of the window's first pixel.
        top: Row of the window's first pixel.
        hw: (height, width) of the window in pixels.
        bits: Its pixels row by row, eight a byte, the first in the highest bit.

    Raises:
        InputError: the window has no place, or another number of pixels.
    """

    left: int
    top: int
    hw: tuple[int, int]
    bits: bytes

    def __post_init__(self) -> None:
        if min(self.left, self.top, *self.hw) < 0 or len(self.bits) != (self.hw[0] * self.hw[1] + 7) // 8:
            raise InputError(
                "is not a window of a mask", subject="MaskWindow", expected="the bits of all its pixels",
                got=f"{len(self.bits)} bytes for {self.hw} at row {self.top}, column {self.left}",
            )  # fmt: skip

    @classmethod
    def of(cls, mask: Mask, left: int = 0, top: int = 0) -> MaskWindow:
        """Make a window from its pixels.

        Args:
            mask: (h, w) bool; read only.
            left: Column of its first pixel.
            top: Row of its first pixel.
        """
        return cls(left, top, (mask.shape[0], mask.shape[1]), np.packbits(mask).tobytes())

    @classmethod
    def empty(cls) -> MaskWindow:
        """The window of a mask without a pixel."""
        return cls(0, 0, (0, 0), b"")

    @property
    def pixels(self) -> Mask:
        """(h, w) bool; the caller owns it."""
        height, width = self.hw
        bits = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=height * width)
        return bits.view(np.bool_).reshape(height, width)

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is true."""
        return not self.bits.strip(b"\0")


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks of all objects in one image, in the order of the objects.

    Attributes:
        windows: The masks, in pixels of the canvas if there is a letterbox, else in source pixels.
        image_hw: (height, width) of the source image in pixels.
        letterbox: How the image is placed on the canvas; None if the masks are already in source pixels.

    A mask on the canvas is converted to source pixels by bilinear interpolation of zeros and ones at the centre of each
    source pixel; 0.5 or more is true. So its resolution is that of the network's input, usually 640×640. Its outline in
    `polygons` is traced on the canvas, and the points are converted to source pixels, as the official tools do.

    Raises:
        InputError: a window is not inside the image, or not inside the canvas.
    """

    windows: tuple[MaskWindow, ...]
    image_hw: tuple[int, int]
    letterbox: Letterbox | None = None

    def __post_init__(self) -> None:
        height, width = self.native_hw
        if self.letterbox is not None and self.letterbox.image_hw != self.image_hw:
            raise InputError(
                "the letterbox is of an image of a different size", subject="Masks",
                expected=f"height and width {self.image_hw}", got=str(self.letterbox.image_hw),
            )  # fmt: skip
        for window in self.windows:
            if window.top + window.hw[0] > height or window.left + window.hw[1] > width:
                raise InputError(
                    "a mask reaches beyond its image", subject="Masks", expected=f"inside {(height, width)}",
                    got=f"{window.hw} at row {window.top}, column {window.left}",
                )  # fmt: skip

    @classmethod
    def from_array(cls, masks: Mask) -> Masks:
        """Make `Masks` from full masks in source pixels.

        Args:
            masks: (n, height, width) bool; read only.

        Raises:
            InputError: the array has another type or number of axes.
        """
        if not isinstance(masks, np.ndarray) or masks.dtype != np.bool_ or masks.ndim != 3:
            got = f"{masks.dtype}{masks.shape}" if isinstance(masks, np.ndarray) else type(masks).__name__
            raise InputError("wrong array", subject="Masks", expected="bool (n, height, width)", got=got)
        return cls(tuple(map(_tight, masks)), (masks.shape[1], masks.shape[2]))

    @classmethod
    def concatenate(cls, parts: Iterable[Masks]) -> Masks:
        """Join masks of one image, in the order of the parts.

        They are converted to source pixels unless all have the same canvas.

        Args:
            parts: At least one.

        Raises:
            InputError: there are none, or their images differ in size.
        """
        masks = list(parts)
        if not masks or any(part.image_hw != masks[0].image_hw for part in masks):
            raise InputError("masks of images of one size are expected", subject="Masks.concatenate")
        letterbox = masks[0].letterbox
        if any(part.letterbox != letterbox for part in masks):
            windows = [MaskWindow.of(*part._on_source(window)) for part in masks for window in part.windows]
            return cls(tuple(windows), masks[0].image_hw)
        return cls(tuple(window for part in masks for window in part.windows), masks[0].image_hw, letterbox)

    def __len__(self) -> int:
        return len(self.windows)

    def __iter__(self) -> Iterator[Mask]:
        return map(self._whole, self.windows)

    @overload
    def __getitem__(self, index: int) -> Mask: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any]) -> Masks: ...

    def __getitem__(self, index: Any) -> Mask | Masks:
        """An integer gives one full mask, (height, width) bool in source pixels; a slice or an array gives `Masks`.

        An array holds indices, or a boolean for each mask.
        """
        if isinstance(index, slice):
            return Masks(self.windows[index], self.image_hw, self.letterbox)
        if np.ndim(index):
            rows = np.arange(len(self))[np.asarray(index)]
            return Masks(tuple(self.windows[row] for row in rows.tolist()), self.image_hw, self.letterbox)
        return self._whole(self.windows[index])

    def __repr__(self) -> str:
        height, width = self.image_hw
        return f"Masks({len(self)} in {width}×{height})"

    @property
    def native_hw(self) -> tuple[int, int]:
        """(height, width) at which the masks were computed: of the canvas, or of the source image."""
        return self.image_hw if self.letterbox is None else self.letterbox.input_hw

    @property
    def array(self) -> Mask:
        """(n, height, width) bool in source pixels; the caller owns it."""
        whole = np.zeros((len(self), *self.image_hw), np.bool_)
        for mask, window in zip(whole, self.windows, strict=True):
            self._fill(mask, window)
        return whole

    @property
    def native_array(self) -> Mask:
        """(n, H, W) bool at the resolution `native_hw`, where masks equal the official ones; the caller owns it."""
        whole = np.zeros((len(self), *self.native_hw), np.bool_)
        for mask, window in zip(whole, self.windows, strict=True):
            (height, width), left, top = window.hw, window.left, window.top
            mask[top : top + height, left : left + width] = window.pixels
        return whole

    @property
    def area_px(self) -> npt.NDArray[np.int64]:
        """(n,) int64: the pixels of each mask in the source image; the caller owns it."""
        return np.array([np.count_nonzero(self._on_source(window)[0]) for window in self.windows], np.int64)

    def one_by_one(self) -> Iterator[Masks]:
        """Each mask as `Masks` of its own."""
        return (Masks((window,), self.image_hw, self.letterbox) for window in self.windows)

    def in_windows(self) -> Iterator[tuple[Mask, int, int]]:
        """Each mask cropped to its content: (h, w) bool, and the column and row of its first source pixel."""
        return map(self._on_source, self.windows)

    def polygons(self) -> list[list[Polygon]]:
        """The outlines of each mask, as OpenCV's `findContours` traces them; holes are left out.

        Returns:
            For each mask, its separate parts, largest first: (k, 2) float32, x and y of at least three corners in
                source pixels, inside the image. A mask without area has none.
        """
        return [self._outlines(window) for window in self.windows]

    def rle(self) -> list[dict[str, Any]]:
        """COCO's compressed run-length encoding of each mask: ``{"size": [height, width], "counts": text}``."""
        size = list(self.image_hw)
        return [{"size": size, "counts": compressed(run_lengths(*part, self.image_hw))} for part in self.in_windows()]

    def _whole(self, window: MaskWindow) -> Mask:
        mask = np.zeros(self.image_hw, np.bool_)
        self._fill(mask, window)
        return mask

    def _fill(self, mask: Mask, window: MaskWindow) -> None:
        part, left, top = self._on_source(window)
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part

    def _on_source(self, window: MaskWindow) -> tuple[Mask, int, int]:
        """A window in source pixels, with its column and row."""
        box = self.letterbox
        if box is None:
            return window.pixels, window.left, window.top
        (top, bottom), y_gain, y_shift = _reach(window.top, window.hw[0], box.top, box.resized_hw[0], self.image_hw[0])
        (left, right), x_gain, x_shift = _reach(
            window.left, window.hw[1], box.left, box.resized_hw[1], self.image_hw[1]
        )
        if right <= left or bottom <= top or not min(window.hw):
            return np.zeros((0, 0), np.bool_), min(left, self.image_hw[1]), min(top, self.image_hw[0])
        if (x_gain, y_gain) == (1, 1):
            rows, columns = round(y_shift), round(x_shift)
            inner = window.pixels[max(rows, 0) : rows + bottom - top, max(columns, 0) : columns + right - left]
            return inner, left + max(-columns, 0), top + max(-rows, 0)
        import cv2

        grey = window.pixels.view(np.uint8) * np.uint8(255)
        way = np.array([[x_gain, 0, x_shift], [0, y_gain, y_shift]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(grey, way, (right - left, bottom - top), flags=flags) > 127, left, top

    def _outlines(self, window: MaskWindow) -> list[Polygon]:
        import cv2

        if not min(window.hw):
            return []
        pixels = window.pixels.view(np.uint8)
        contours, _ = cv2.findContours(
            pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(window.left, window.top)
        )
        real = sorted((part for part in contours if len(part) > 2), key=cv2.contourArea, reverse=True)
        return [self._to_image(part[:, 0].astype(np.float64)) for part in real]

    def _to_image(self, points: npt.NDArray[np.float64]) -> Polygon:
        if self.letterbox is not None:
            points = self.letterbox.to_image(points)
        height, width = self.image_hw
        return np.clip(points, 0, [width, height]).astype(np.float32)


def _tight(mask: Mask) -> MaskWindow:
    """The smallest window around a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return MaskWindow.empty()
    top, left = int(rows[0]), int(columns[0])
    return MaskWindow.of(mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1], left, top)


def _reach(start: int, length: int, padding: int, resized: int, side: int) -> tuple[tuple[int, int], float, float]:
    """Along one axis: the source pixels that a window can reach, and the way from them to the window's own pixels.

    Args:
        start: The window's first pixel on the canvas.
        length: Its pixels.
        padding: Canvas pixels before the image.
        resized: Canvas pixels of the image.
        side: Source pixels of the image.

    Returns:
        First source pixel and the one after the last; canvas pixels per source pixel; where the centre of the first
        source pixel lies, counted from the centre of the window's first pixel.
    """
    gain = resized / side
    first = max(0, math.floor((start - padding - 0.5) / gain - 0.5))
    last = min(side, math.ceil((start + length - padding + 0.5) / gain + 0.5))
    return (first, last), gain, (first + 0.5) * gain - 0.5 + padding - start
