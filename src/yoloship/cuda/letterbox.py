"""The letterbox on the GPU: any number of frames, of any sizes and formats, in one launch.

The result is bit for bit that of `yoloship.letterbox` with OpenCV. No function here allocates or waits, so all of them
can be recorded in a `Graph`. A graph holds addresses. To letterbox other frames with it, rewrite the frame table.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from yoloship.cuda.device_pixels import FORMATS, DevicePixels
from yoloship.errors import InputError
from yoloship.model import MAX_SIDE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.stream import Stream


CanvasForm: TypeAlias = Literal["float32_rgb_chw", "float16_rgb_chw", "uint8_bgr_hwc"]

FRAME_DTYPE: Final = np.dtype(
    [
        ("data", "<u8"),
        ("chroma", "<u8"),
        ("scale_y", "<f8"),
        ("scale_x", "<f8"),
        ("pitch", "<i4"),
        ("step", "<i4"),
        ("chroma_pitch", "<i4"),
        ("chroma_step", "<i4"),
        ("chroma_shift", "<i4"),
        ("height", "<i4"),
        ("width", "<i4"),
        ("resized_height", "<i4"),
        ("resized_width", "<i4"),
        ("top", "<i4"),
        ("left", "<i4"),
        ("format", "<i4"),
        ("colours", "<i2", (6,)),
        ("reserved", "<i4"),
        ("source", "<u8"),
    ]
)
"""`struct Frame` of kernels/common.cuh, byte for byte."""

_ROW: Final = struct.Struct("<QQdd12i6hiQ")
"""The same, for one row: several times as fast as an assignment to an array."""
_SUFFIXES: Final[tuple[tuple[CanvasForm, str, int], ...]] = (
    ("float32_rgb_chw", "f32", 4),
    ("float16_rgb_chw", "f16", 2),
    ("uint8_bgr_hwc", "u8", 1),
)
_MAX_BATCH: Final = 65_535
"""The most blocks along z in a grid."""
_FETCH_BLOCKS: Final = 128
_FETCH_THREADS: Final = 256


@dataclass(frozen=True, slots=True)
class FrameDescriptor:
    """One image in memory that the device can read, and its place on the model's canvas.

    Attributes:
        pixels: Where it lies.
        resized_hw: (height, width) of the scaled upright image in model pixels, computed by `yoloship.letterbox`.
        top_left: (top, left) padding in model pixels.
        source: Address in pinned memory from which `launch_fetch` copies packed upright pixels to where they lie. Both
            are multiples of 16. 0 if the pixels are there already.

    Raises:
        InputError: a value is outside its range, or contradicts another.
    """

    pixels: DevicePixels
    resized_hw: tuple[int, int]
    top_left: tuple[int, int]
    source: int = 0

    def __post_init__(self) -> None:
        if len(self.resized_hw) != 2 or not all(1 <= side <= MAX_SIDE for side in self.resized_hw):
            raise _refused("frame", "resized_hw", f"two sides from 1 to {MAX_SIDE}", self.resized_hw)
        if len(self.top_left) != 2 or not all(0 <= side <= MAX_SIDE for side in self.top_left):
            raise _refused("frame", "top_left", f"two paddings from 0 to {MAX_SIDE}", self.top_left)
        if not self.source:
            return
        pixels = self.pixels
        is_packed = not pixels.is_planar and pixels.orientation == 1
        if not is_packed or self.source % 16 or pixels.pointer % 16 or not 0 < self.source < 2**64:
            raise _refused(
                "frame", "source", "an address for packed upright pixels, a multiple of 16 like theirs",
                (self.source, pixels),
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Canvas:
    """The memory for a batch of letterboxed images.

    Attributes:
        pointer: Device address of the whole batch, contiguous.
        batch: How many images.
        canvas_hw: (height, width) of each in model pixels.
        form: Planes red, green, blue of value / 255, or bytes blue, green, red in OpenCV's order.
        padding_value: Grey around the images, 0 to 255.

    Raises:
        InputError: a value is outside its range.
    """

    pointer: int
    batch: int
    canvas_hw: tuple[int, int]
    form: CanvasForm = "float32_rgb_chw"
    padding_value: int = 114

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= _MAX_BATCH:
            raise _refused("canvas", "batch", f"1 to {_MAX_BATCH}", self.batch)
        if len(self.canvas_hw) != 2 or not all(1 <= side <= MAX_SIDE for side in self.canvas_hw):
            raise _refused("canvas", "canvas_hw", f"two sides from 1 to {MAX_SIDE}", self.canvas_hw)
        if self.form not in tuple(name for name, _, _ in _SUFFIXES):
            raise _refused("canvas", "form", ", ".join(name for name, _, _ in _SUFFIXES), self.form)
        if not 0 <= self.padding_value <= 255:
            raise _refused("canvas", "padding_value", "0 to 255", self.padding_value)

    @property
    def size_bytes(self) -> int:
        """Size of the whole batch."""
        return self.batch * 3 * self.canvas_hw[0] * self.canvas_hw[1] * self._kernel()[1]

    @property
    def suffix(self) -> str:
        """Of the kernels that write this form."""
        return self._kernel()[0]

    def _kernel(self) -> tuple[str, int]:
        return next((suffix, size) for name, suffix, size in _SUFFIXES if name == self.form)


def pack_frames(
    frames: Sequence[FrameDescriptor], canvas_hw: tuple[int, int], out: npt.NDArray[np.void] | None = None
) -> npt.NDArray[np.void]:
    """The table that the kernels read, ready to be copied to the device.

    Args:
        frames: One for each image of the batch.
        canvas_hw: (height, width) of the model's input in model pixels.
        out: (n,) of `FRAME_DTYPE`, for example in pinned memory. It is overwritten. None makes an array.

    Returns:
        `out`, or an array that the caller owns.

    Raises:
        InputError: there are no frames, a frame is not inside the canvas, or `out` has another shape.
    """
    if not frames:
        raise _refused("frame", "frames", "1 or more", 0)
    table = np.empty(len(frames), FRAME_DTYPE) if out is None else out
    if table.dtype != FRAME_DTYPE or table.shape != (len(frames),):
        raise _refused("frame", "out", f"{len(frames)} × FRAME_DTYPE", f"{table.dtype}{table.shape}")
    rows = b"".join([frame_row(frame, canvas_hw) for frame in frames])
    table.view(np.uint8)[:] = np.frombuffer(rows, np.uint8)
    return table


def frame_row(frame: FrameDescriptor, canvas_hw: tuple[int, int]) -> bytes:
    """A row of the table that the kernels read, of `FRAME_DTYPE`.

    Args:
        frame: What it says.
        canvas_hw: (height, width) of the model's input in model pixels.

    Raises:
        InputError: the frame is not inside the canvas.
    """
    pixels, (rows, columns), (top, left) = frame.pixels, frame.resized_hw, frame.top_left
    if top + rows > canvas_hw[0] or left + columns > canvas_hw[1]:
        raise _refused("frame", "frame", f"within the canvas {canvas_hw}", (frame.resized_hw, frame.top_left))
    (height, width), steps = pixels.upright_hw, pixels.steps()
    # The scale is 1 / (resized / source), not source / resized: OpenCV divides twice, and every bit must match.
    return _ROW.pack(
        steps.data, steps.chroma, 1.0 / (rows / height), 1.0 / (columns / width),
        steps.row_bytes, steps.pixel_bytes, steps.chroma_row_bytes, steps.chroma_pixel_bytes, steps.chroma_shift,
        height, width, rows, columns, top, left, FORMATS.index(pixels.pixel_format),
        *pixels.colours(), 0, frame.source,
    )  # fmt: skip


def launch_fetch(kernels: Mapping[str, Launchable], stream: Stream, frame_table: int, batch: int) -> None:
    """Queue a copy of the pixels of all frames that have a source, to the place where the letterbox reads them.

    Args:
        kernels: A `KernelSet`.
        stream: The stream on which it runs.
        frame_table: Device address of a table from `pack_frames`.
        batch: Number of frames in the table.

    Raises:
        CudaError: the launch failed.
    """
    kernels["fetch_frames"].launch(stream, (_FETCH_BLOCKS, batch, 1), (_FETCH_THREADS, 1, 1), frame_table)


def launch_letterbox(kernels: Mapping[str, Launchable], stream: Stream, frame_table: int, canvas: Canvas) -> None:
    """Queue the letterbox of a batch.

    Args:
        kernels: A `KernelSet`.
        stream: The stream on which it runs.
        frame_table: Device address of a table from `pack_frames` with `canvas.batch` frames.
        canvas: The memory for the result. Every byte of it is written.

    Raises:
        CudaError: the launch failed.
    """
    height, width = canvas.canvas_hw
    grid = (-(-width // 32), -(-height // 32), canvas.batch)
    kernels[f"letterbox_{canvas.suffix}"].launch(
        stream, grid, (32, 8, 1), frame_table, canvas.pointer, height, width, canvas.padding_value
    )


def _refused(what: str, subject: str, expected: str, got: object) -> InputError:
    return InputError(f"wrong {what}", subject=subject, expected=expected, got=str(got))
