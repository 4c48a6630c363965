"""Where the tiles of a large image lie: `Slicing` and `Tile`.

Tiles lie in rows and columns, and each overlaps the next by the same share. The last one of a row or column is moved
back inside the image; it does not get smaller. So an object that is no wider and no higher than the overlap lies whole
in at least one tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from yoloship._util.fields import is_int
from yoloship.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self

Merge: TypeAlias = Literal["iou", "ios"]
"""How much two boxes overlap, when it is decided whether they are of one object: their intersection divided by their
union, or by the smaller of the two."""

MIN_TILE: Final = 32
MAX_TILE: Final = 65_535
MAX_OVERLAP: Final = 0.9
MAX_TILES: Final = 65_536
"""Of one image. 200 megapixels are 761 tiles of 640×640 with an overlap of 0.2."""


@dataclass(frozen=True, slots=True)
class Slicing:
    """How an image is cut into tiles, and how the objects in them are merged.

    Attributes:
        tile_hw: (height, width) of a tile in source pixels; None takes the size of the model's input.
        overlap: The share of a tile that overlaps the next one, in [0, 0.9].
        whole: Whether the model also sees the whole image, scaled down, to find objects larger than a tile.
        merge: How the overlap is measured that is compared with `match_threshold`: ``iou``, or ``ios``, the
            intersection over the smaller box. ``ios`` also drops a small box inside a large one, such as a part of an
            object; if objects of one class hide each other, it also drops some of them.
        match_threshold: Two boxes of one class belong to one object if they overlap by more than this, in [0, 1].
        class_agnostic: Whether boxes of different classes can belong to one object.

    Raises:
        InputError: a value is outside its range.
    """

    tile_hw: tuple[int, int] | None = None
    overlap: float = 0.2
    whole: bool = True
    merge: Merge = "iou"
    match_threshold: float = 0.5
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        sides: Any = self.tile_hw
        is_size = isinstance(sides, tuple) and len(sides) == 2 and all(is_int(s, MIN_TILE, MAX_TILE) for s in sides)
        for name, fits, expected in (
            ("tile_hw", sides is None or is_size, f"None or (height, width), each {MIN_TILE} to {MAX_TILE}"),
            ("overlap", _is_share(self.overlap, MAX_OVERLAP), f"a number from 0 to {MAX_OVERLAP}"),
            ("whole", isinstance(self.whole, bool), "True or False"),
            ("merge", self.merge in get_args(Merge), " or ".join(get_args(Merge))),
            ("match_threshold", _is_share(self.match_threshold, 1), "a number from 0 to 1"),
            ("class_agnostic", isinstance(self.class_agnostic, bool), "True or False"),
        ):
            if not fits:
                raise InputError(
                    "cannot have this value", subject=f"slicing: {name}", expected=expected,
                    got=repr(getattr(self, name))[:60],
                )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image, which a model sees as an image of its own.

    Attributes:
        top: Its first row, in source pixels.
        left: Its first column.
        bottom: The row after its last one.
        right: The column after its last one.
    """

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def whole(cls, image_hw: tuple[int, int]) -> Self:
        """The tile that is the image itself.

        Args:
            image_hw: (height, width) of the image in pixels.
        """
        return cls(0, 0, *image_hw)


def tiles_of(image_hw: tuple[int, int], tile_hw: tuple[int, int], overlap: float) -> tuple[Tile, ...]:
    """The tiles of an image, row by row.

    Args:
        image_hw: (height, width) of the image in pixels.
        tile_hw: (height, width) of a tile; a side is cut to that of the image.
        overlap: The share of a tile that overlaps the next one, in [0, 0.9].

    Raises:
        InputError: there are more than `MAX_TILES`.
    """
    rows, columns = (_starts(side, tile, overlap) for side, tile in zip(image_hw, tile_hw, strict=True))
    if len(rows) * len(columns) > MAX_TILES:
        raise InputError(
            "gives too many tiles", subject="slicing", expected=f"at most {MAX_TILES}",
            got=f"{len(rows) * len(columns)} of {tile_hw[0]}×{tile_hw[1]} for an image of {image_hw[0]}×{image_hw[1]}",
            hint="use larger tiles or less overlap",
        )  # fmt: skip
    height, width = min(tile_hw[0], image_hw[0]), min(tile_hw[1], image_hw[1])
    return tuple(Tile(top, left, top + height, left + width) for top in rows for left in columns)


def _starts(side: int, tile: int, overlap: float) -> tuple[int, ...]:
    """Where the tiles of one axis begin."""
    if side <= tile:
        return (0,)
    step = max(1, tile - round(tile * overlap))
    return (*range(0, side - tile, step), side - tile)


def _is_share(value: Any, most: float) -> bool:
    is_number: bool = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and 0 <= value <= most  # NaN fails too
