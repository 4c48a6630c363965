"""Sources of images: `SOURCES` is the table of what `yoloship detect` can read. A new source is one file and one line.

Other packages add sources by entry points of the group ``yoloship.sources``.
"""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from yoloship._util.tables import Table
from yoloship.errors import InputError
from yoloship.sources.finding import IMAGE_SUFFIXES, FoundImages, ImageFiles, Skipped, find_images
from yoloship.sources.source import Frame, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES: Table[Source] = Table(
    "yoloship.sources",
    "source",
    MappingProxyType({"images": "yoloship.sources.finding:ImageFiles"}),
    base="yoloship.sources.source:Source",
)
"""Name of a source → its class."""
UNNAMED: Final = "images"
"""The source of a text without the name of a source."""


def open_source(texts: Sequence[str], *, recursive: bool = False) -> Source:
    """Open what the user named on the command line.

    Args:
        texts: Files, folders and patterns; or ``NAME:TEXT``, which gives TEXT to the source of that name, unless a file
            has exactly that name.
        recursive: Whether a folder includes the images in all folders inside it.

    Raises:
        InputError: nothing can be read there, or sources of different kinds are mixed.
        DependencyError: a third party's source cannot be loaded.
    """
    chosen = []
    for text in texts:
        name, colon, rest = str(text).partition(":")
        if not (colon and _is_name(name) and not _exists(text) and name in SOURCES):
            name, rest = UNNAMED, text
        chosen.append((name, rest))
    names = list(dict.fromkeys(name for name, _ in chosen))
    if len(names) > 1:
        raise InputError(
            "sources of different kinds cannot be used in one run", subject=", ".join(names), hint="give one kind"
        )
    return SOURCES.load(names[0]).open([rest for _, rest in chosen], recursive=recursive)


def _is_name(text: str) -> bool:
    """Whether a text can be the name of a source; a single letter is a drive on Windows."""
    return len(text) > 1 and text.replace("-", "_").isidentifier()


def _exists(text: str) -> bool:
    try:
        return os.path.lexists(text)
    except ValueError:  # a name that no system takes
        return False


__all__ = [
    "IMAGE_SUFFIXES",
    "SOURCES",
    "FoundImages",
    "Frame",
    "ImageFiles",
    "Skipped",
    "Source",
    "find_images",
    "open_source",
]
