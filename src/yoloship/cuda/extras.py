"""What follows the class scores of a candidate on the GPU: where it lies, `Extras`, and keypoints of it, `Keypoints`.

Only the values of the detections that are kept are read, after suppression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from yoloship.cuda.postprocess import MAX_LEVELS, HeadDType, out_of_range, typed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.free_heads import Span
    from yoloship.cuda.postprocess import Results, Workspace
    from yoloship.cuda.stream import Stream

KeypointForm: TypeAlias = Literal["decoded", "offsets"]
"""``decoded``: model pixels and visibilities. ``offsets``: cells from the centre of the cell, and visibility logits."""
_KEYPOINT_FORMS: Final[tuple[KeypointForm, ...]] = ("decoded", "offsets")
MAX_POINTS: Final = 1024
_THREADS: Final = 128
_MAX_BLOCKS: Final = 32

EXTRA_LEVEL_DTYPE: Final = np.dtype(
    [
        ("data", "<u8"),
        ("image_step", "<i8"),
        ("anchor_step", "<i4"),
        ("value_step", "<i4"),
        ("cell_step", "<i4"),
        ("first", "<i4"),
        ("cells", "<i4"),
        ("width", "<i4"),
        ("stride", "<f4"),
        ("weight", "<i4"),
    ]
)
"""`struct ExtraLevel` of kernels/kept.cuh, byte for byte."""


@dataclass(frozen=True, slots=True)
class ExtraLevel:
    """Where the extra values of one level lie.

    Attributes:
        values: The values of each cell.
        grid_hw: (h, w) in cells. Rows and columns are one level of (1, N).
        stride: Model pixels per cell.
        anchors: How many candidates a cell has.
        anchor_step: Elements from one anchor's values to the next.
        weight: How many values before the first one the objectness lies that all are multiplied by; negative if it is a
            logit, and 0 if they are not multiplied.
    """

    values: Span
    grid_hw: tuple[int, int]
    stride: float = 1.0
    anchors: int = 1
    anchor_step: int = 0
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Extras:
    """Where the values behind the class scores lie.

    Attributes:
        table: Device address of the table that `pack_extra_levels` made.
        levels: How many levels it has.
        dtype: The element type of the values.
        classes: 1; or the number of classes, if each class of a cell is a candidate of its own (`FreeHeads.pairs`).
    """

    table: int
    levels: int
    dtype: HeadDType = "float32"
    classes: int = 1


@dataclass(frozen=True, slots=True)
class Keypoints:
    """The keypoints of each detection.

    Attributes:
        extras: Where their values lie.
        points: K, how many there are.
        dimensions: D: 2 for x and y, 3 with the visibility.
        form: What the values are.

    Raises:
        InputError: a number is outside its range.
    """

    extras: Extras
    points: int
    dimensions: int
    form: KeypointForm

    @property
    def kernels(self) -> tuple[str, ...]:
        """Entry points of the kernels that make them."""
        return (typed("gather_keypoints", self.extras.dtype),)

    def __post_init__(self) -> None:
        if not 1 <= self.points <= MAX_POINTS:
            raise out_of_range("points", f"1 to {MAX_POINTS}", self.points)
        if self.dimensions not in {2, 3}:
            raise out_of_range("dimensions", "2 or 3", self.dimensions)


def pack_extra_levels(levels: Sequence[ExtraLevel]) -> npt.NDArray[np.void]:
    """The table that an `Extras` points to, ready to be copied to the device.

    Raises:
        InputError: there are no levels or more than 8.
    """
    if not 1 <= len(levels) <= MAX_LEVELS:
        raise out_of_range("levels", f"1 to {MAX_LEVELS}", len(levels))
    table = np.zeros(len(levels), EXTRA_LEVEL_DTYPE)
    first = 0
    for number, level in enumerate(levels):
        span, (height, width) = level.values, level.grid_hw
        table[number] = (
            span.pointer, span.image_step, level.anchor_step, span.value_step, span.cell_step, first, height * width,
            width, level.stride, level.weight,
        )  # fmt: skip
        first += height * width * level.anchors
    return table


def launch_keypoints(
    kernels: Mapping[str, Launchable],
    stream: Stream,
    keypoints: Keypoints,
    workspace: Workspace,
    frame_table: int,
    results: Results,
) -> None:
    """Queue the keypoints of what `launch_nms` has kept, in source pixels, clipped to the image.

    Args:
        kernels: A `KernelSet`.
        stream: The stream on which it runs.
        keypoints: What they are.
        workspace: Of `launch_nms`, whose results handed on what was kept.
        frame_table: Device address of the table that the letterbox used.
        results: The same as for `launch_nms`, with K·D extras. All of them are written.

    Raises:
        CudaError: the launch failed.
    """
    extras = keypoints.extras
    numbers = results.max_detections * keypoints.points * keypoints.dimensions
    blocks = min(-(-numbers // _THREADS), _MAX_BLOCKS)
    kernels[typed("gather_keypoints", extras.dtype)].launch(
        stream, (blocks, workspace.batch, 1), (_THREADS, 1, 1), extras.table, extras.levels, extras.classes,
        _KEYPOINT_FORMS.index(keypoints.form), keypoints.points, keypoints.dimensions, workspace.part("kept"),
        results.max_detections, frame_table, results.pointer, results.words, results.extras_word,
    )  # fmt: skip
