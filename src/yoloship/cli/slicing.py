"""The options ``--slice`` and ``--slice-…`` of ``yoloship predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from yoloship.detect.slicing import Slicing
    from yoloship.detect.slicing.tiles import Merge


def slicing_of(tile_hw: tuple[int, int] | None, overlap: float | None, merge: Merge | None, *, whole: bool) -> Slicing:
    """What the options ask for.

    Args:
        tile_hw: (height, width) of a tile in pixels of the image.
        overlap: The share that the next tile shows again; None takes the default.
        merge: How overlap is measured; None takes the default.
        whole: Whether the model also sees the whole image.

    Raises:
        UsageError: the size of the tiles is missing.
        InputError: a value is outside its range.
    """
    from yoloship.detect.slicing import Slicing

    if tile_hw is None:
        raise click.UsageError("--slice-overlap, --slice-merge and --no-slice-whole need --slice")
    changes: dict[str, Any] = {"overlap": overlap, "merge": merge}
    return Slicing(tile_hw, whole=whole, **{name: value for name, value in changes.items() if value is not None})
