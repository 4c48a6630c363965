"""The letterbox of one frame that lies in pinned host memory: fetched over the bus and scaled in one launch.

The result is that of `launch_letterbox`, bit for bit. The host may go on writing the frame after the launch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.cuda.compiler import Extent, Launchable, PreparedLaunch
    from yoloship.cuda.letterbox import Canvas
    from yoloship.cuda.stream import Stream


_BLOCK: Final = (320, 1, 1)
_UNIT: Final = 16
MAX_BAND: Final = 8
"""Rows of the canvas for a block; the kernel takes up to 32. Neighbouring bands fetch the row between them twice."""
_STAGED_BYTES: Final = 40_960
"""Of kernels/letterbox_host.cu."""


@dataclass(frozen=True, slots=True)
class Following:
    """How the kernel follows a host that is still writing the frame.

    Attributes:
        progress: Address in pinned memory of a uint32: how many rows are written.
        late: Address in pinned memory of a uint32 that becomes 1 if the kernel has given up; the canvas is then wrong.
        patience_us: Microseconds after which it does.
    """

    progress: int
    late: int
    patience_us: int


def band_rows(pitch_bytes: int, height: int, resized_height: int, most: int = MAX_BAND) -> int:
    """How many rows of the canvas a block can compute, because their source rows fit into its memory.

    Args:
        pitch_bytes: Of the source: 3 bytes a pixel.
        height: Of the source, in pixels.
        resized_height: Of the scaled image, in model pixels.
        most: The largest band to choose.

    Returns:
        0 if not even one fits.
    """
    step, rest = divmod(height, resized_height)
    has_own_rows = rest == 0 and step % 2 == 1  # each row of the scaled image is one of the source: see `RowPick`
    for band in range(most, 0, -1):
        rows = band if has_own_rows else min(-(-band * height // resized_height) + 2, 2 * band)
        if min(rows, height) * pitch_bytes + 2 * _UNIT * band <= _STAGED_BYTES:
            return band
    return 0


def launch_letterbox_host(
    kernels: Mapping[str, Launchable],
    stream: Stream,
    frame_table: int,
    canvas: Canvas,
    band: int,
    following: Following | None = None,
) -> None:
    """Queue the letterbox of one frame in pinned memory.

    Args:
        kernels: A `KernelSet`.
        stream: The stream on which it runs.
        frame_table: Address, which the device can read, of a table from `pack_frames` with one packed upright frame.
        canvas: The memory for the result, for one image. Every byte of it is written.
        band: As `band_rows` says for the frame.
        following: How it follows the host; None if the frame is written already.

    Raises:
        CudaError: the launch failed.
        InputError: the canvas is for several images, or there is no such band.
    """
    kernel, grid, arguments = _launch_of(kernels, frame_table, canvas, band, following)
    kernel.launch(stream, grid, _BLOCK, *arguments)


def prepare_letterbox_host(
    kernels: Mapping[str, Launchable], frame_table: int, canvas: Canvas, band: int, following: Following | None = None
) -> PreparedLaunch:
    """Prepare what `launch_letterbox_host` queues, for `StreamCalls.start`."""
    kernel, grid, arguments = _launch_of(kernels, frame_table, canvas, band, following)
    return kernel.prepared(grid, _BLOCK, *arguments)


def _launch_of(
    kernels: Mapping[str, Launchable], frame_table: int, canvas: Canvas, band: int, following: Following | None
) -> tuple[Launchable, Extent, tuple[int, ...]]:
    if canvas.batch != 1 or not 1 <= band <= MAX_BAND:
        raise InputError(
            "cannot be letterboxed from the host's memory", subject="frame",
            expected=f"one image, and a band of 1 to {MAX_BAND} rows", got=f"{canvas.batch}, {band}",
        )  # fmt: skip
    height, width = canvas.canvas_hw
    follow = (0, 0, 0) if following is None else (following.progress, following.patience_us, following.late)
    arguments = (frame_table, canvas.pointer, height, width, canvas.padding_value, band, *follow)
    return kernels[f"letterbox_host_{canvas.suffix}"], (-(-height // band), 1, 1), arguments
