"""The images that a command is given, found and told of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.cli.output import print_err

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def named_images(sources: Sequence[str], *, recursive: bool = False) -> tuple[Path, ...]:
    """Expand files, folders and patterns; a line on stderr says what was left out of each folder or pattern."""
    from yoloship.sources import find_images

    found = find_images(sources, recursive=recursive)
    for skipped in found.skipped:
        print_err(str(skipped))
    return found.paths
