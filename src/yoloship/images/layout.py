"""What the header of an image file states: `Layout`."""

from __future__ import annotations

from dataclasses import dataclass

from yoloship.images.exif import UPRIGHT


@dataclass(frozen=True, slots=True)
class Layout:
    """The size of an image, and what decoding it involves.

    Attributes:
        width: In stored pixels, before any rotation.
        height: Likewise.
        orientation: How the stored pixels become upright, 1 to 8 as Exif numbers it.
        held_pixels: The most that a decoder holds at once, if that may be more than width × height.
        pixel_bytes: What decoding takes for each pixel, if that is more than the format usually takes.
        problem: Why the file must not be decoded; empty if nothing speaks against it.
    """

    width: int
    height: int
    orientation: int = UPRIGHT
    held_pixels: int = 0
    pixel_bytes: int = 0
    problem: str = ""


class LayoutError(ValueError):
    """A header that is damaged, or that states what no decoder should be asked to do; the text says what."""
