"""Which image files a list of files, folders and patterns stands for: `find_images`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship._util.names import refuse_address
from yoloship.errors import InputError
from yoloship.sources.skipped import HIDDEN_IMAGE, Skipped, SkippedCounter, unreadable_suffixes
from yoloship.sources.walking import Entry, glob_entries, has_magic, list_folder, walk_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff"}
    | {".gif", ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpc", ".pgm", ".ppm", ".pbm", ".pnm"}
)
"""What counts as an image inside a folder or a pattern, in lower case. A file that is named itself may have any."""

MAX_IMAGES: Final = 2_000_000
"""Of one command: the list of their names is held in memory."""


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The images that were found, and what was left out.

    Attributes:
        paths: In the order of the sources; within a folder or a pattern by name, ``img2`` before ``img10``.
        skipped: For each folder or pattern in which something was left out, what that was.
    """

    paths: tuple[Path, ...]
    skipped: tuple[Skipped, ...]


def find_images(sources: Sequence[str | Path], *, recursive: bool = False) -> FoundImages:
    """Expand files, folders and patterns to image files.

    Args:
        sources: A file stands for itself, whatever its suffix, and even if it is missing: reading it reports that. A
            folder stands for its images. A pattern (``cams/**/*.jpg``) stands for the images that it matches; ``**``
            goes through all folders below. A name that exists is never taken for a pattern.
        recursive: Whether a folder also stands for the images in all folders below it.

    Returns:
        Each image once, at its first place, however many links and sources lead to it.

    Raises:
        InputError: a source is empty or an address on the network, a folder or a pattern has no images, a folder cannot
            be listed, or there are more than `MAX_IMAGES`.
    """
    paths: dict[str, str | Path] = {}
    skipped = []
    for source in sources:
        refuse_address(source, error=InputError)
        if not str(source):
            raise InputError("the name of an image or a folder is empty", hint="give '.' for the current folder")
        counter = SkippedCounter(str(source))
        for identity, path in _expand(source, counter, recursive=recursive):
            paths.setdefault(identity, path)
            if len(paths) > MAX_IMAGES:
                raise InputError(
                    "too many images for one run", subject=str(source), expected=f"at most {MAX_IMAGES:,}",
                    hint="name the folders below it one at a time",
                )  # fmt: skip
        if counter.total:
            skipped.append(counter.result())
    return FoundImages(tuple(map(Path, paths.values())), tuple(skipped))


def natural_key(path: str) -> tuple[str, str]:
    """Sorts paths folder by folder, names before their suffixes, and numbers in them by their value."""
    stem, suffix = os.path.splitext(path)
    numbered = _DIGITS.sub(_by_value, stem.replace(os.sep, "\0"))
    return f"{numbered}\1{suffix}", path


def _by_value(digits: re.Match[str]) -> str:
    """Numbers sort like their texts if longer ones, which are larger, begin with a larger length."""
    value = digits[0].lstrip("0")
    return f"{len(value):03}{value}"


_DIGITS: Final = re.compile("[0-9]+")


def _expand(source: str | Path, counter: SkippedCounter, *, recursive: bool) -> Iterable[tuple[str, str | Path]]:
    """The identity and the path of each image that a source stands for."""
    path = Path(source)
    try:
        if path.is_dir():
            return _in_folder(path, counter, recursive=recursive)
        if os.path.lexists(path) or not has_magic(str(source)):
            return [(_identity(path), path)]
    except (OSError, ValueError):  # a name that the system cannot even look up: reading it gives the clear line
        return [(str(path), path)]
    images = _chosen(glob_entries(str(source)), counter)
    if not images:
        raise InputError(
            "matches no images",
            subject=str(source),
            got=counter.result().kinds_text() or None,
            hint="quote the pattern, and check its folder",
        )
    return images


def _in_folder(folder: Path, counter: SkippedCounter, *, recursive: bool) -> list[tuple[str, str]]:
    try:
        images = _chosen(walk_folder(folder) if recursive else list_folder(folder), counter)
    except OSError as error:
        raise InputError(f"cannot be listed: {error.strerror or error}", subject=str(folder)) from error
    if not images:
        raise InputError(
            "folder without images",
            subject=str(folder),
            expected="files such as .jpg, .png or .webp",
            got=counter.result().kinds_text() or "an empty folder",
        )
    return images


def _chosen(entries: Iterable[Entry], counter: SkippedCounter) -> list[tuple[str, str]]:
    """The images among some entries, sorted; the rest is counted."""
    images = []
    unreadable = unreadable_suffixes()
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix not in IMAGE_SUFFIXES or entry.kind != "file":
            counter.add(entry)
        elif entry.name.startswith("."):
            counter.add_kind(HIDDEN_IMAGE)
        elif suffix in unreadable:
            counter.add_kind(suffix)
        else:
            images.append((entry.identity, entry.path))
    return sorted(images, key=lambda image: natural_key(image[1]))


def _identity(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a loop of links, or a name that the system does not take
        return str(path)
