"""Frames on the device as kernels read them: `FrameDescriptor`, and the table that a batch of them becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

PixelFormat: TypeAlias = Literal["bgr", "rgb", "nv12"]

FRAME_DTYPE: Final = np.dtype(
    [
        ("data", "<u8"),
        ("chroma", "<u8"),
        ("scale_y", "<f8"),
        ("scale_x", "<f8"),
        ("pitch", "<i4"),
        ("chroma_pitch", "<i4"),
        ("height", "<i4"),
        ("width", "<i4"),
        ("resized_height", "<i4"),
        ("resized_width", "<i4"),
        ("top", "<i4"),
        ("left", "<i4"),
        ("format", "<i4"),
        ("reserved", "<i4"),
        ("source", "<u8"),
    ]
)
"""`struct Frame` of kernels/common.cuh, byte for byte."""

_FORMATS: Final[tuple[PixelFormat, ...]] = ("bgr", "rgb", "nv12")
_MAX_SIDE: Final = 65_536


@dataclass(frozen=True, slots=True)
class FrameDescriptor:
    """One picture in memory that the device can read, and its place on the model's canvas.

    Attributes:
        data: Address of its first pixel; of the luma plane for NV12.
        pitch_bytes: From one row to the next.
        image_hw: (height, width) in pixels.
        resized_hw: Of the scaled picture, in model pixels. Geometry is `pipeline.letterbox`'s to decide.
        top_left: (top, left) padding in model pixels.
        pixel_format: `bgr` or `rgb` are packed bytes, 3 a pixel; `nv12` is luma, with a chroma plane of half the size.
        chroma: Address of the chroma plane of NV12; 0 for others.
        chroma_pitch_bytes: From one of its rows to the next.
        source: Address in pinned memory that `fetch.launch_fetch` copies packed pixels from to `data`, both multiples
            of 16; 0 where they lie at `data` already.

    Raises:
        InputError: a value is outside its range, or contradicts another.
    """

    data: int
    pitch_bytes: int
    image_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    top_left: tuple[int, int]
    pixel_format: PixelFormat = "bgr"
    chroma: int = 0
    chroma_pitch_bytes: int = 0
    source: int = 0

    def __post_init__(self) -> None:
        if self.pixel_format not in _FORMATS:
            raise _wrong("pixel_format", "bgr, rgb or nv12", self.pixel_format)
        for name in ("image_hw", "resized_hw"):
            sides = getattr(self, name)
            if len(sides) != 2 or not all(1 <= side <= _MAX_SIDE for side in sides):
                raise _wrong(name, f"two sides from 1 to {_MAX_SIDE}", sides)
        if len(self.top_left) != 2 or not all(0 <= side <= _MAX_SIDE for side in self.top_left):
            raise _wrong("top_left", f"two paddings from 0 to {_MAX_SIDE}", self.top_left)
        height, width = self.image_hw
        is_nv12 = self.pixel_format == "nv12"
        row_bytes = width if is_nv12 else 3 * width
        if not row_bytes <= self.pitch_bytes < 2**31:
            raise _wrong("pitch_bytes", f"{row_bytes} or more", self.pitch_bytes)
        if not 0 < self.data < 2**64:
            raise _wrong("data", "an address", self.data)
        if is_nv12 and (height % 2 or width % 2):
            raise _wrong("image_hw", "even sides for NV12", self.image_hw)
        if is_nv12 and not (0 < self.chroma < 2**64 and width <= self.chroma_pitch_bytes < 2**31):
            raise _wrong(
                "chroma", f"an address, and a pitch of {width} or more", (self.chroma, self.chroma_pitch_bytes)
            )
        if not is_nv12 and (self.chroma or self.chroma_pitch_bytes):
            raise _wrong("chroma", f"none for {self.pixel_format}", (self.chroma, self.chroma_pitch_bytes))
        if self.source and (is_nv12 or self.source % 16 or self.data % 16 or not 0 < self.source < 2**64):
            raise _wrong("source", "none for nv12, else a multiple of 16, as data", (self.source, self.data))


def pack_frames(
    frames: Sequence[FrameDescriptor], canvas_hw: tuple[int, int], out: npt.NDArray[np.void] | None = None
) -> npt.NDArray[np.void]:
    """The table that kernels read, ready to be copied to the device.

    Args:
        frames: One for each picture of the batch.
        canvas_hw: (height, width) of the model's input in model pixels.
        out: (n,) of `FRAME_DTYPE`, in pinned memory for one, written over; None makes an array.

    Returns:
        `out`, or an array that the caller owns.

    Raises:
        InputError: there are no frames, one does not lie on the canvas, or `out` has another shape.
    """
    if not frames:
        raise _wrong("frames", "1 or more", 0)
    table = np.empty(len(frames), FRAME_DTYPE) if out is None else out
    if table.dtype != FRAME_DTYPE or table.shape != (len(frames),):
        raise _wrong("out", f"{len(frames)} × FRAME_DTYPE", f"{table.dtype}{table.shape}")
    for number, frame in enumerate(frames):
        (height, width), (rows, columns), (top, left) = frame.image_hw, frame.resized_hw, frame.top_left
        if top + rows > canvas_hw[0] or left + columns > canvas_hw[1]:
            raise _wrong(f"frames[{number}]", f"within the canvas {canvas_hw}", (frame.resized_hw, frame.top_left))
        # The scale is 1 / (resized / source), not source / resized: OpenCV divides twice, and the last bit counts.
        table[number] = (
            frame.data, frame.chroma, 1.0 / (rows / height), 1.0 / (columns / width),
            frame.pitch_bytes, frame.chroma_pitch_bytes, height, width, rows, columns, top, left,
            _FORMATS.index(frame.pixel_format), 0, frame.source,
        )  # fmt: skip
    return table


def _wrong(subject: str, expected: str, got: object) -> InputError:
    return InputError("wrong frame", subject=subject, expected=expected, got=str(got))
