"""The letterbox on the GPU: any number of frames, of any sizes and formats, in one launch.

The bilinear form gives, bit for bit, what `pipeline.letterbox` gives with OpenCV. No call here allocates or waits, so
all can be recorded in a `Graph`; what is recorded are addresses, and frames change by rewriting the frame table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.cuda.catalogue import Launchable
    from yoloship.cuda.frames import FrameDescriptor
    from yoloship.cuda.stream import Stream

CanvasForm: TypeAlias = Literal["float32_rgb_chw", "float16_rgb_chw", "uint8_bgr_hwc"]
Interpolation: TypeAlias = Literal["bilinear", "area"]

_SUFFIXES: Final[tuple[tuple[CanvasForm, str, int], ...]] = (
    ("float32_rgb_chw", "f32", 4),
    ("float16_rgb_chw", "f16", 2),
    ("uint8_bgr_hwc", "u8", 1),
)
_MAX_BATCH: Final = 65_535
"""Blocks along z in a grid."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where a batch of letterboxed pictures goes.

    Attributes:
        pointer: Device address of the whole batch, contiguous.
        batch: Pictures.
        canvas_hw: (height, width) of each in model pixels.
        form: Planes red, green, blue of value / 255, or bytes blue, green, red as OpenCV has them.
        padding_value: Grey around the pictures, 0 to 255.

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
            raise _wrong("batch", f"1 to {_MAX_BATCH}", self.batch)
        if len(self.canvas_hw) != 2 or not all(1 <= side <= 65_536 for side in self.canvas_hw):
            raise _wrong("canvas_hw", "two sides from 1 to 65536", self.canvas_hw)
        if self.form not in tuple(name for name, _, _ in _SUFFIXES):
            raise _wrong("form", ", ".join(name for name, _, _ in _SUFFIXES), self.form)
        if not 0 <= self.padding_value <= 255:
            raise _wrong("padding_value", "0 to 255", self.padding_value)

    @property
    def size_bytes(self) -> int:
        """Of the whole batch."""
        return self.batch * 3 * self.canvas_hw[0] * self.canvas_hw[1] * self._kernel()[1]

    def _kernel(self) -> tuple[str, int]:
        return next((suffix, size) for name, suffix, size in _SUFFIXES if name == self.form)


def launch_letterbox(
    kernels: Mapping[str, Launchable],
    stream: Stream,
    frame_table: int,
    canvas: Canvas,
    interpolation: Interpolation = "bilinear",
) -> None:
    """Queue the letterbox of a batch.

    Args:
        kernels: A `KernelSet`.
        stream: Its place among other work.
        frame_table: Device address of what `frames.pack_frames` made, for `canvas.batch` pictures.
        canvas: Where it goes; every byte of it is written.
        interpolation: `area` weighs all source pixels and needs frames that `check_area` accepts.

    Raises:
        CudaError: the launch failed.
    """
    suffix, _ = canvas._kernel()
    entry = f"letterbox_{suffix}" if interpolation == "bilinear" else f"letterbox_area_{suffix}"
    height, width = canvas.canvas_hw
    grid = (-(-width // 32), -(-height // 32), canvas.batch)
    kernels[entry].launch(stream, grid, (32, 8, 1), frame_table, canvas.pointer, height, width, canvas.padding_value)


def check_area(frames: Sequence[FrameDescriptor]) -> None:
    """Refuse frames that area interpolation has no meaning for.

    Raises:
        InputError: a frame is not smaller on the canvas than at the source, in both directions.
    """
    for number, frame in enumerate(frames):
        if frame.resized_hw[0] > frame.image_hw[0] or frame.resized_hw[1] > frame.image_hw[1]:
            raise _wrong(
                f"frames[{number}]", f"a size of at most {frame.image_hw} for area interpolation", frame.resized_hw
            )


def _wrong(subject: str, expected: str, got: object) -> InputError:
    return InputError("wrong canvas", subject=subject, expected=expected, got=str(got))
