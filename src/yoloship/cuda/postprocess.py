"""From the network's output to detections on the GPU: decode, sort, suppress, back to source pixels.

A whole batch takes two launches, without allocating or waiting, so both can be recorded in a `Graph`. The boxes are
those of `tasks.decode` and `tasks.nms`, or of `tasks.rotated` for oriented boxes: the same float32 operations in the
same order, except for the last bits of exp(), log(), sin() and cos().

Exactly the best 1024 candidates of an image take part in suppression, and at most `max_detections` are kept. The result
counts the others. `lost` candidates did not fit into the workspace, and chance decides which ones. `passed_over`
candidates were not among the best 1024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Protocol, TypeAlias

import numpy as np

from yoloship.cuda.buffers import fill_words
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.stream import Stream

HeadDType: TypeAlias = Literal["float32", "float16"]

MAX_SELECTED: Final = 1024
MAX_DETECTIONS: Final = 1024
UNLIMITED: Final = 2**31 - 1
MAX_ANCHORS: Final = 8
MAX_LEVELS: Final = 8
_DECODE_THREADS: Final = 128
_NMS_THREADS: Final = 512
_NMS_SHARES: Final = 16
_NO_LIMIT: Final = 4.0
"""Above every IoU, also above one that rounding has brought over 1."""

LEVEL_DTYPE: Final = np.dtype(
    [
        ("data", "<u8"),
        ("height", "<i4"),
        ("width", "<i4"),
        ("first", "<i4"),
        ("anchors", "<i4"),
        ("stride", "<f4"),
        ("reserved", "<i4"),
        ("sizes", "<f4", (MAX_ANCHORS, 2)),
    ]
)
"""`struct Level` of kernels/decode.cu, byte for byte."""


class DecodeInput(Protocol):
    """The input of a decoding kernel. `Form.device_output` gives the right one for an output form."""

    @property
    def kernel(self) -> str:
        """The kernel's name without the suffix for its element type."""

    @property
    def arguments(self) -> tuple[int, ...]:
        """The kernel's arguments before the filter and the workspace. The last one is the number of candidates."""

    @property
    def cells(self) -> int:
        """Candidates of an image before any threshold."""

    @property
    def dtype(self) -> HeadDType:
        """The element type of the values that it reads."""

    @property
    def block_cells(self) -> int:
        """Candidates that one block of threads looks at."""

    @property
    def is_rotated(self) -> bool:
        """Whether the boxes are oriented: (cx, cy, w, h) and an angle."""

    @property
    def is_chosen(self) -> bool:
        """Whether the network has chosen among overlapping boxes itself, so that none is suppressed."""

    @property
    def is_ordered(self) -> bool:
        """Whether the network has put them in order itself. Their scores may differ from it by their last bits."""

    @property
    def most(self) -> int:
        """The most boxes that the network gives for an image; `UNLIMITED` if it sets no limit of its own."""


@dataclass(frozen=True, slots=True)
class HeadLevel:
    """One undecoded map.

    Attributes:
        pointer: Device address of (B, A·(5 + C + E), h, w).
        grid_hw: (h, w) in cells.
        stride: Model pixels per cell.
        anchors: (width, height) of each anchor in model pixels.
    """

    pointer: int
    grid_hw: tuple[int, int]
    stride: float
    anchors: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Heads:
    """Undecoded maps of a batch, as `decode_heads` reads them.

    Attributes:
        table: Device address of the table that `pack_levels` made from `levels`.
        levels: The levels, finest first.
        dtype: The element type of the maps.
        extras: E, the values of a candidate behind its class scores.
    """

    block_cells: ClassVar[int] = _DECODE_THREADS
    is_rotated: ClassVar[bool] = False
    is_chosen: ClassVar[bool] = False
    is_ordered: ClassVar[bool] = False
    most: ClassVar[int] = UNLIMITED

    table: int
    levels: tuple[HeadLevel, ...]
    dtype: HeadDType = "float32"
    extras: int = 0

    @property
    def kernel(self) -> str:
        """The kernel that decodes maps."""
        return "decode_heads"

    @property
    def arguments(self) -> tuple[int, ...]:
        """The table, its length, E, and the number of candidates."""
        return self.table, len(self.levels), self.extras, self.cells

    @property
    def cells(self) -> int:
        """Candidates of an image before any threshold: N."""
        return sum(level.grid_hw[0] * level.grid_hw[1] * len(level.anchors) for level in self.levels)


@dataclass(frozen=True, slots=True)
class Raw:
    """The decoded output of a batch.

    Attributes:
        pointer: Device address of (B, N, 5 + C + E): cx, cy, w, h in model pixels, objectness and class scores.
        cells: The number of rows N.
        dtype: The element type of the values.
        extras: E, the values of a row behind its class scores.
    """

    block_cells: ClassVar[int] = _DECODE_THREADS
    is_rotated: ClassVar[bool] = False
    is_chosen: ClassVar[bool] = False
    is_ordered: ClassVar[bool] = False
    most: ClassVar[int] = UNLIMITED

    pointer: int
    cells: int
    dtype: HeadDType = "float32"
    extras: int = 0

    @property
    def kernel(self) -> str:
        """The kernel that picks from rows."""
        return "decode_raw"

    @property
    def arguments(self) -> tuple[int, ...]:
        """The address of the rows, E, and their number."""
        return self.pointer, self.extras, self.cells


@dataclass(frozen=True, slots=True)
class ScoreFilter:
    """Which candidates count.

    Attributes:
        classes: How many classes the model has.
        score_threshold: In [0, 1]. Candidates at or below it are dropped.
        allowed: Device address of a mask from `pack_classes`; 0 allows all classes.

    Raises:
        InputError: a value is outside its range.
    """

    classes: int
    score_threshold: float = 0.25
    allowed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.classes < 2**24:
            raise out_of_range("classes", "1 or more", self.classes)
        if not 0 <= self.score_threshold <= 1:
            raise out_of_range("score_threshold", "0 to 1", self.score_threshold)


@dataclass(frozen=True, slots=True)
class Suppression:
    """Which candidates are kept.

    Attributes:
        iou_threshold: In [0, 1]. A box is dropped if its IoU with a better one is above it.
        max_detections: The most boxes for each image, 1 to 1024.
        class_agnostic: Whether boxes of different classes suppress each other.
        keeps_overlaps: Whether no box is dropped because of another one, as a head without suppression wants it.
        keeps_order: Whether the boxes come in the order of the candidates, not by their scores.

    Raises:
        InputError: a value is outside its range.
    """

    iou_threshold: float = 0.45
    max_detections: int = 300
    class_agnostic: bool = False
    keeps_overlaps: bool = False
    keeps_order: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.iou_threshold <= 1:
            raise out_of_range("iou_threshold", "0 to 1", self.iou_threshold)
        if not 1 <= self.max_detections <= MAX_DETECTIONS:
            raise out_of_range("max_detections", f"1 to {MAX_DETECTIONS}", self.max_detections)


@dataclass(frozen=True, slots=True)
class Results:
    """Where the results of a batch go.

    Attributes:
        pointer: Device address of (batch,) `result_dtype(max_detections, extras)`.
        max_detections: As in the `Suppression`.
        extras: Numbers of each detection behind its box, score and class.
        hands_on: Whether the workspace keeps what was kept, for the kernels of keypoints and masks.
    """

    pointer: int
    max_detections: int
    extras: int = 0
    hands_on: bool = False

    @property
    def words(self) -> int:
        """Words of 4 bytes from one image to the next."""
        return result_dtype(self.max_detections, self.extras).itemsize // 4

    @property
    def extras_word(self) -> int:
        """Where an image's extras begin, in words."""
        return result_dtype(self.max_detections).itemsize // 4


@dataclass(frozen=True, slots=True)
class Workspace:
    """Memory between the steps of a batch. It serves one run at a time.

    Attributes:
        pointer: Device address of `workspace_bytes(batch, capacity, rotated)` bytes, a multiple of 256.
        batch: Number of images.
        capacity: Number of candidates of an image that fit. If it is the number of cells, no candidate is ever lost.
        rotated: Whether it is for oriented boxes.
    """

    pointer: int
    batch: int
    capacity: int
    rotated: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= 65_535:
            raise out_of_range("batch", "1 to 65535", self.batch)
        if not 1 <= self.capacity < 2**31:
            raise out_of_range("capacity", "1 or more", self.capacity)
        if self.pointer % 256:
            raise out_of_range("pointer", "a multiple of 256", self.pointer)

    def part(self, name: str) -> int:
        """The device address of the part with this name in `workspace_parts`."""
        return self.pointer + workspace_parts(self.batch, self.capacity, self.rotated)[name][0]


def pack_levels(levels: Sequence[HeadLevel]) -> npt.NDArray[np.void]:
    """The table that `decode_heads` reads, ready to be copied to the device.

    Raises:
        InputError: there are no levels or more than 8, or a level has no cells, no anchors, or more than 8 anchors.
    """
    if not 1 <= len(levels) <= MAX_LEVELS:
        raise out_of_range("levels", f"1 to {MAX_LEVELS}", len(levels))
    table = np.zeros(len(levels), LEVEL_DTYPE)
    first = 0
    for number, level in enumerate(levels):
        height, width = level.grid_hw
        if height < 1 or width < 1 or not 1 <= len(level.anchors) <= MAX_ANCHORS:
            raise out_of_range(f"levels[{number}]", f"1 cell or more, and 1 to {MAX_ANCHORS} anchors", level)
        sizes = np.zeros((MAX_ANCHORS, 2), np.float32)
        sizes[: len(level.anchors)] = level.anchors
        table[number] = (level.pointer, height, width, first, len(level.anchors), level.stride, 0, sizes)
        first += height * width * len(level.anchors)
    return table


def pack_classes(allowed: Iterable[int], classes: int) -> npt.NDArray[np.uint32]:
    """The bit mask of allowed classes, ready to be copied to the device.

    Raises:
        InputError: the model does not have one of the class ids.
    """
    mask = np.zeros(-(-classes // 32), np.uint32)
    for class_id in allowed:
        if not 0 <= class_id < classes:
            raise out_of_range("classes", f"0 to {classes - 1}", class_id)
        mask[class_id // 32] |= np.uint32(1 << class_id % 32)
    return mask


def kept_words(max_detections: int) -> int:
    """What suppression hands on of an image, `struct Kept` of kernels/kept.cuh, in words of 4 bytes."""
    return 4 + 4 * max_detections + -(-max_detections // 4) * 4


def workspace_parts(batch: int, capacity: int, rotated: bool = False) -> dict[str, tuple[int, int]]:
    """Offset and size in bytes of each part of a workspace; `end` has the total as its offset."""
    sizes = {
        "counts": 4 * batch,
        "tickets": 4 * batch,
        "boxes": 16 * batch * capacity,
        "scores": 4 * batch * capacity,
        "class_ids": 4 * batch * capacity,
        "indices": 4 * batch * capacity,
        "angles": 4 * batch * capacity if rotated else 0,
        "matrix": batch * MAX_SELECTED * MAX_SELECTED // 8,
        "kept": 4 * batch * kept_words(MAX_DETECTIONS),
        "end": 0,
    }
    parts, offset = {}, 0
    for name, size in sizes.items():
        parts[name] = (offset, size)
        offset += -(-size // 256) * 256
    return parts


def workspace_bytes(batch: int, capacity: int, rotated: bool = False) -> int:
    """The size of a workspace in bytes."""
    return workspace_parts(batch, capacity, rotated)["end"][0]


def result_dtype(max_detections: int, extras: int = 0) -> np.dtype[np.void]:
    """The structure of one image's result, as the last kernels write it.

    Args:
        max_detections: The most detections.
        extras: Numbers of each detection behind its box, score and class: keypoints, or the angle of an oriented box.
    """
    return np.dtype(
        [
            ("kept", "<i4"),
            ("candidates", "<i4"),
            ("lost", "<i4"),
            ("passed_over", "<i4"),
            ("boxes_xyxy", "<f4", (max_detections, 4)),
            ("scores", "<f4", (max_detections,)),
            ("class_ids", "<i4", (max_detections,)),
            ("indices", "<i4", (max_detections,)),
            ("extras", "<f4", (max_detections, extras)),
        ]
    )


def clear(stream: Stream, workspace: Workspace) -> None:
    """Queue clearing a new workspace, which makes it ready for `launch_decode`."""
    for name in ("counts", "tickets"):
        fill_words(stream, workspace.part(name), 0, workspace.batch)


def launch_decode(
    kernels: Mapping[str, Launchable],
    stream: Stream,
    output: DecodeInput,
    score_filter: ScoreFilter,
    workspace: Workspace,
) -> None:
    """Queue decoding and filtering of a batch into a clear workspace. `clear` and `launch_nms` leave it clear.

    Args:
        kernels: A `KernelSet`.
        stream: The stream on which it runs.
        output: The output of the network.
        score_filter: Which candidates count.
        workspace: Overwritten with the candidates.

    Raises:
        CudaError: the launch failed.
    """
    grid = (-(-output.cells // output.block_cells), workspace.batch, 1)
    block = (_DECODE_THREADS, 1, 1)
    names = ("boxes", "scores", "class_ids", "indices", "counts")
    conditions = (score_filter.classes, score_filter.score_threshold, score_filter.allowed)
    angles = (workspace.part("angles"),) if output.is_rotated else ()
    rest = (*conditions, *map(workspace.part, names), workspace.capacity, *angles)
    kernels[typed(output.kernel, output.dtype)].launch(stream, grid, block, *output.arguments, *rest)


def launch_nms(
    kernels: Mapping[str, Launchable],
    stream: Stream,
    workspace: Workspace,
    suppression: Suppression,
    frame_table: int,
    results: Results,
) -> None:
    """Queue sorting, suppression and the way back to source pixels. Afterwards the workspace is clear again.

    Oriented boxes stay in model pixels: `boxes_xyxy` of the result has (cx, cy, w, h), and `extras` the angle.

    Args:
        kernels: A `KernelSet`.
        stream: The stream on which it runs.
        workspace: The workspace with the candidates from `launch_decode`.
        suppression: Which candidates are kept.
        frame_table: Device address of the table that the letterbox used.
        results: Where the results go. All of them except extras are written, even of places without a detection.

    Raises:
        CudaError: the launch failed.
    """
    part = workspace.part
    candidates = map(part, ("boxes", "scores", "class_ids", "indices", "counts"))
    limit = _NO_LIMIT if suppression.keeps_overlaps else suppression.iou_threshold
    last = part("angles") if workspace.rotated else part("kept") if results.hands_on else 0
    kernel = kernels["nms_rotated" if workspace.rotated else "nms"]
    kernel.launch_early(
        stream, (_NMS_SHARES, workspace.batch, 1), (_NMS_THREADS, 1, 1), *candidates, workspace.capacity,
        limit, int(suppression.class_agnostic), int(suppression.keeps_order), suppression.max_detections,
        part("matrix"), part("tickets"),
        frame_table, results.pointer, results.words, last,
    )  # fmt: skip


def typed(kernel: str, dtype: HeadDType) -> str:
    """The entry point of a kernel for an element type."""
    return f"{kernel}_{'f32' if dtype == 'float32' else 'f16'}"


def out_of_range(subject: str, expected: str, got: object) -> InputError:
    """The error for a number that a kernel cannot take."""
    return InputError("out of range", subject=subject, expected=expected, got=str(got))
