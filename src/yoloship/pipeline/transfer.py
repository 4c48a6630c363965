"""Which way a frame takes to the GPU: `TransferPolicy`, with every threshold in one place.

| way      | the frame lies …                    | and goes …                                                          |
| -------- | ----------------------------------- | ------------------------------------------------------------------- |
| resident | on the device already               | nowhere: the letterbox reads it there                               |
| pinned   | in pinned host memory               | up by DMA, from where it lies                                       |
| mapped   | in pinned host memory, much too big | nowhere: the letterbox reads the pixels that it needs over the bus  |
| copied   | in ordinary host memory             | through pinned memory, in pieces: one goes up as the next is copied |
| resized  | in ordinary host memory, too big    | onto pinned memory scaled by OpenCV already, then up                |

All ways give the model the same numbers, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from yoloship.errors import InputError

if TYPE_CHECKING:
    from yoloship.pipeline.letterbox import Letterbox

Way: TypeAlias = Literal["resident", "pinned", "mapped", "copied", "resized"]
PinnedWay: TypeAlias = Literal["pinned", "mapped"]
PageableWay: TypeAlias = Literal["copied", "resized"]


@dataclass(frozen=True, slots=True)
class TransferPolicy:
    """When to take which way. Shrinkage is source pixels for each pixel on the canvas; 1080p on 640 has 9, 4K 36.

    Attributes:
        map_from: Pinned frames of at least this shrinkage are read in place by the kernel instead of going up whole.
        resize_from: Frames in ordinary memory of at least this shrinkage are scaled on the host.
        piece_bytes: Copies are cut into pieces of about this size.
        alone_bytes: Up to this many bytes the caller's thread copies alone: waking others would take longer.
        threads: Helpers that copy or scale beside the caller; 0 has none.
        pinned_way: Takes this way whatever the shrinkage; None decides by it.
        pageable_way: Takes this way whatever the shrinkage; None decides by it.

    Raises:
        InputError: a value is outside its range.
    """

    map_from: float = 12.0
    resize_from: float = 6.0
    piece_bytes: int = 1 << 19
    alone_bytes: int = 1 << 19
    threads: int = 3
    pinned_way: PinnedWay | None = None
    pageable_way: PageableWay | None = None

    def __post_init__(self) -> None:
        for name in ("map_from", "resize_from", "alone_bytes", "threads"):
            if not getattr(self, name) >= 0:
                raise _wrong(name, "0 or more", getattr(self, name))
        if self.piece_bytes < 4096:
            raise _wrong("piece_bytes", "4096 or more", self.piece_bytes)
        for name, kind in (("pinned_way", PinnedWay), ("pageable_way", PageableWay)):
            if getattr(self, name) is not None and getattr(self, name) not in get_args(kind):
                raise _wrong(name, " or ".join(get_args(kind)), getattr(self, name))

    def way_of_pinned(self, letterbox: Letterbox) -> PinnedWay:
        """The way of a frame in pinned memory."""
        return self.pinned_way or ("mapped" if shrinkage(letterbox) >= self.map_from else "pinned")

    def way_of_pageable(self, letterbox: Letterbox) -> PageableWay:
        """The way of a frame in ordinary memory."""
        return self.pageable_way or ("resized" if shrinkage(letterbox) >= self.resize_from else "copied")


def shrinkage(letterbox: Letterbox) -> float:
    """Source pixels for each pixel of the scaled picture."""
    (height, width), (rows, columns) = letterbox.image_hw, letterbox.resized_hw
    return height * width / (rows * columns)


def _wrong(subject: str, expected: str, got: object) -> InputError:
    return InputError("out of range", subject=subject, expected=expected, got=repr(got))
