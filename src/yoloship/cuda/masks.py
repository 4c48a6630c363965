"""Masks on the GPU: the bits inside the window of each kept detection, from prototypes and mask coefficients.

Two launches take a batch there: one settles the windows, one fills them. The bits go to memory that the host reads;
only those inside the windows are written. They are those of `tasks.prototypes`, except where a value is so near to the
limit that the order of a float32 sum decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.cuda.postprocess import out_of_range, typed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.extras import Extras
    from yoloship.cuda.postprocess import Workspace
    from yoloship.cuda.stream import Stream

MAX_COEFFICIENTS: Final = 256
_THREADS: Final = 256
_SHARES: Final = 8
_DETECTIONS: Final = 32
"""Blocks along the detections of an image; each takes every 32nd detection."""
_SQUASHES, _CROPS_FIRST, _ON_IMAGE = 1, 2, 4

FOUND_DTYPE: Final = np.dtype([(name, "<i4") for name in ("top", "left", "height", "width", "first_word")])
"""A window as the host reads it; `first_word` is where its bits begin among those of its image."""
WINDOW_BYTES: Final = 40
"""`struct Window` of kernels/masks.cu."""


@dataclass(frozen=True, slots=True)
class Prototypes:
    """What masks are made of.

    Attributes:
        pointer: Device address of (B, P, h, w), of the same element type as the coefficients.
        count: P.
        hw: (h, w) in cells.
        factor: Canvas pixels per cell, along both axes.
        coefficients: Where the P coefficients of each candidate lie.
        squashes: Whether values become σ(value) before they are upsampled, and 0.5 is the limit in place of 0.
        crops_first: Whether cells outside the box are 0 before the values are upsampled.
        drops_empty: Whether the host drops objects without a single pixel of mask.
        on_image: Whether the masks are in source pixels. Otherwise they are on the canvas.

    Raises:
        InputError: there are too many of them.
    """

    pointer: int
    count: int
    hw: tuple[int, int]
    factor: int
    coefficients: Extras
    squashes: bool = False
    crops_first: bool = False
    drops_empty: bool = False
    on_image: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_COEFFICIENTS:
            raise out_of_range("prototypes", f"1 to {MAX_COEFFICIENTS}", self.count)

    @property
    def kernels(self) -> tuple[str, ...]:
        """Entry points of the kernels that make the masks."""
        return "mask_windows", typed("mask_bits", self.coefficients.dtype)

    @property
    def rule(self) -> int:
        """The rules as the kernels take them."""
        return _SQUASHES * self.squashes + _CROPS_FIRST * self.crops_first + _ON_IMAGE * self.on_image


@dataclass(frozen=True, slots=True)
class MaskMemory:
    """Where windows and bits go.

    Attributes:
        max_detections: As for `launch_nms`.
        windows: Device address of batch · `max_detections` · `WINDOW_BYTES` bytes, for the kernels alone.
        found: Address of (batch, max_detections) `FOUND_DTYPE`, which the host reads.
        words_needed: Address of (batch,) int32, which the host reads: words of bits that all windows of an image need.
        bits: Address of (batch, capacity) uint32, which the host reads.
        capacity: Words of bits for each image. Windows that end beyond it are not filled.
    """

    max_detections: int
    windows: int
    found: int
    words_needed: int
    bits: int
    capacity: int


def launch_masks(
    kernels: Mapping[str, Launchable],
    stream: Stream,
    prototypes: Prototypes,
    workspace: Workspace,
    frame_table: int,
    memory: MaskMemory,
) -> None:
    """Queue the masks of what `launch_nms` has kept.

    Args:
        kernels: A `KernelSet`.
        stream: The stream on which it runs.
        prototypes: What they are made of, and how.
        workspace: Of `launch_nms`, whose results handed on what was kept.
        frame_table: Device address of the table that the letterbox used.
        memory: Where they go.

    Raises:
        CudaError: a launch failed.
    """
    shape = (*prototypes.hw, prototypes.factor, memory.max_detections)
    kept, extras, batch = workspace.part("kept"), prototypes.coefficients, workspace.batch
    kernels["mask_windows"].launch(
        stream, (batch, 1, 1), (_THREADS, 1, 1), prototypes.rule, *shape, kept, frame_table, memory.windows,
        memory.found, memory.words_needed,
    )  # fmt: skip
    kernels[typed("mask_bits", extras.dtype)].launch(
        stream, (_SHARES, min(memory.max_detections, _DETECTIONS), batch), (_THREADS, 1, 1), prototypes.rule,
        prototypes.count, *shape, memory.capacity, extras.table, extras.levels, extras.classes, prototypes.pointer,
        kept, frame_table, memory.windows, memory.bits,
    )  # fmt: skip
