"""The letterbox of one frame that lies in pinned host memory: fetched over the bus and scaled in one launch.

The result is that of `launch_letterbox`, bit for bit. It is faster if only some rows of a frame count, as of 1080p
on 640: these rows are read in one piece each, not pixel by pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.letterbox import Canvas
    from yoloship.cuda.stream import Stream


_BLOCK: Final = (320, 1, 1)
_UNIT: Final = 16
MAX_BAND: Final = 8
"""Rows of the canvas for a block; the kernel takes up to 32. Neighbouring bands fetch the row between them twice."""
_FEWEST: Final = 4
"""With fewer rows a block the gain has not been measured."""
_STAGED_BYTES: Final = 40_960
"""Of kernels/letterbox_host.cu."""


def band_rows(pitch_bytes: int, height: int, resized_height: int, fewest: int = _FEWEST) -> int:
    """How many rows of the canvas a block can compute, because their source rows fit into its memory.

    Args:
        pitch_bytes: Of the source: 3 bytes a pixel.
        height: Of the source, in pixels.
        resized_height: Of the scaled image, in model pixels.
        fewest: The smallest band to choose.

    Returns:
        0 if fewer would fit.
    """
    step, rest = divmod(height, resized_height)
    has_own_rows = rest == 0 and step % 2 == 1  # each row of the scaled image is one of the source: see `RowPick`
    for band in range(MAX_BAND, fewest - 1, -1):
        rows = band if has_own_rows else min(-(-band * height // resized_height) + 2, 2 * band)
        if min(rows, height) * pitch_bytes + 2 * _UNIT * band <= _STAGED_BYTES:
            return band
    return 0


def launch_letterbox_host(
    kernels: Mapping[str, Launchable], stream: Stream, frame_table: int, canvas: Canvas, band: int
) -> None:
    """Queue the letterbox of one frame in pinned memory.

    Args:
        kernels: A `KernelSet`.
        stream: The stream on which it runs.
        frame_table: Address, which the device can read, of a table from `pack_frames` with one packed upright frame.
        canvas: The memory for the result, for one image. Every byte of it is written.
        band: As `band_rows` says for the frame.

    Raises:
        CudaError: the launch failed.
        InputError: the canvas is for several images, or there is no such band.
    """
    if canvas.batch != 1 or not 1 <= band <= MAX_BAND:
        raise InputError(
            "cannot be letterboxed from the host's memory", subject="frame",
            expected=f"one image, and a band of 1 to {MAX_BAND} rows", got=f"{canvas.batch}, {band}",
        )  # fmt: skip
    height, width = canvas.canvas_hw
    kernels[f"letterbox_host_{canvas.suffix}"].launch(
        stream,
        (-(-height // band), 1, 1),
        _BLOCK,
        frame_table,
        canvas.pointer,
        height,
        width,
        canvas.padding_value,
        band,
    )
