"""Inputs of the decoding kernels for heads without anchors: `FreeHeads` and `Chosen`.

`FreeHeads` describes undecoded maps as well as decoded columns: what differs is where each group of values lies, and
whether the sides of a box are distributions (DFL), distances, or decoded already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from yoloship.cuda.postprocess import MAX_LEVELS, UNLIMITED, HeadDType, out_of_range
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

MAX_BINS: Final = 16

_SPAN_DTYPE: Final = np.dtype([("data", "<u8"), ("image_step", "<i8"), ("value_step", "<i4"), ("cell_step", "<i4")])
FREE_LEVEL_DTYPE: Final = np.dtype(
    [
        ("boxes", _SPAN_DTYPE),
        ("classes", _SPAN_DTYPE),
        ("angles", _SPAN_DTYPE),
        ("first", "<i4"),
        ("width", "<i4"),
        ("stride", "<f4"),
        ("reserved", "<i4"),
    ]
)
"""`struct FreeLevel` of kernels/decode_free.cu, byte for byte."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a group of values of each cell lies.

    Value v of cell c of image i is `image_step`·i + `value_step`·v + `cell_step`·c elements behind `pointer`.

    Attributes:
        pointer: Device address of the first value.
        image_step: Elements from one image to the next.
        value_step: Elements from one value of a cell to the next.
        cell_step: Elements from one cell to the next.
    """

    pointer: int
    image_step: int
    value_step: int
    cell_step: int = 1

    @classmethod
    def of_map(cls, pointer: int, channels: int, cells: int, first: int = 0, item_bytes: int = 4) -> Span:
        """The channels from `first` on of a map (B, channels, cells), whose rows and columns are one axis.

        Args:
            pointer: Device address of the map.
            channels: Of the whole map.
            cells: h·w, or N.
            first: The first channel of the group.
            item_bytes: Size of an element.
        """
        return cls(pointer + first * cells * item_bytes, channels * cells, cells)


_NO_SPAN: Final = Span(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class FreeLevel:
    """One level of a head without anchors.

    Attributes:
        grid_hw: (h, w) in cells. Decoded columns are one level of (1, N).
        stride: Model pixels per cell.
        boxes: 4·bins values: the logits or the distances of left, top, right, bottom. Decoded: cx, cy, w, h.
        classes: The class logits. Decoded: the class scores.
        angles: The angle of oriented boxes, in radians; None for others.
    """

    grid_hw: tuple[int, int]
    stride: float
    boxes: Span
    classes: Span
    angles: Span | None = None

    @property
    def cells(self) -> int:
        """How many cells it has."""
        return self.grid_hw[0] * self.grid_hw[1]


@dataclass(frozen=True, slots=True)
class FreeHeads:
    """The output of a head without anchors, as `decode_free` and `decode_rotated` read it.

    Attributes:
        table: Device address of the table that `pack_free_levels` made from `levels`.
        levels: The levels, in the order of the candidates.
        bins: Of the distribution of each side: 2 to 16; 1 for distances, 0 for decoded columns.
        dtype: The element type of the values.
        is_rotated: Whether the boxes are oriented.
        pairs: Of a head without suppression: how many boxes it gives at most. Each class of a cell is then a candidate
            of its own, index i being cell i // C with class i % C. 0 for heads whose boxes are suppressed.

    Raises:
        InputError: `bins` is outside its range.
    """

    block_cells: ClassVar[int] = 32
    is_ordered: ClassVar[bool] = False

    table: int
    levels: tuple[FreeLevel, ...]
    bins: int
    dtype: HeadDType = "float32"
    is_rotated: bool = False
    pairs: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.bins <= MAX_BINS:
            raise out_of_range("bins", f"0 to {MAX_BINS}", self.bins)

    @property
    def is_chosen(self) -> bool:
        """Whether the network has chosen among overlapping boxes itself."""
        return self.pairs > 0

    @property
    def most(self) -> int:
        """The most boxes that the network gives for an image."""
        return self.pairs or UNLIMITED

    @property
    def kernel(self) -> str:
        """The kernel that decodes them."""
        return "decode_rotated" if self.is_rotated else "decode_free"

    @property
    def arguments(self) -> tuple[int, ...]:
        """The table, its length, the bins, whether pairs count, and the number of cells."""
        return self.table, len(self.levels), self.bins, int(self.is_chosen), self.cells

    @property
    def cells(self) -> int:
        """Cells of an image: N. With `pairs`, each has as many candidates as classes."""
        return sum(level.cells for level in self.levels)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows that a head has chosen itself, so that nothing is suppressed.

    Attributes:
        pointer: Device address of (B, k, 6 + E): x1, y1, x2, y2 in model pixels, score, class id, and E more values. Of
            oriented boxes: cx, cy, w, h, score, class id, and the angle.
        cells: The number of rows k.
        columns: 6 + E.
        dtype: The element type of the values.
        is_rotated: Whether the boxes are oriented.
    """

    block_cells: ClassVar[int] = 128
    is_chosen: ClassVar[bool] = True
    is_ordered: ClassVar[bool] = True
    most: ClassVar[int] = UNLIMITED

    pointer: int
    cells: int
    columns: int
    dtype: HeadDType = "float32"
    is_rotated: bool = False

    def __post_init__(self) -> None:
        if self.columns < 6 + self.is_rotated:
            raise InputError(
                "too few columns", subject="columns", expected=f"{6 + self.is_rotated} or more", got=str(self.columns)
            )

    @property
    def kernel(self) -> str:
        """The kernel that reads them."""
        return "decode_chosen_rotated" if self.is_rotated else "decode_chosen"

    @property
    def arguments(self) -> tuple[int, ...]:
        """The address of the rows, their length, and their number."""
        return self.pointer, self.columns, self.cells


def pack_free_levels(levels: Sequence[FreeLevel]) -> npt.NDArray[np.void]:
    """The table that `decode_free` and `decode_rotated` read, ready to be copied to the device.

    Raises:
        InputError: there are no levels or more than 8, or a level has no cells.
    """
    if not 1 <= len(levels) <= MAX_LEVELS:
        raise out_of_range("levels", f"1 to {MAX_LEVELS}", len(levels))
    table = np.zeros(len(levels), FREE_LEVEL_DTYPE)
    first = 0
    for number, level in enumerate(levels):
        if min(level.grid_hw) < 1:
            raise out_of_range(f"levels[{number}]", "1 cell or more", level.grid_hw)
        spans = (level.boxes, level.classes, level.angles or _NO_SPAN)
        packed = [(span.pointer, span.image_step, span.value_step, span.cell_step) for span in spans]
        table[number] = (*packed, first, level.grid_hw[1], level.stride, 0)
        first += level.cells
    return table
