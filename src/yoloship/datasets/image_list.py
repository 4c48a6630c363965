"""The images that a dataset names: folders, list files, or several of them; sorted by their paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship._util.reading import read_text
from yoloship.datasets.dataset import Fault
from yoloship.datasets.pictures import SUFFIXES
from yoloship.errors import InputError
from yoloship.sources.finding import MAX_IMAGES, walk_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_MAX_LIST_BYTES: Final = 1 << 28
_MAX_PATH_CHARS: Final = 4096


def images_of(places: Iterable[Path], root: Path) -> tuple[list[Path], list[Fault]]:
    """Find the images of folders and list files.

    Args:
        places: Folders, whose images are taken with those of all folders inside; and list files with a path on each
            line. A path that begins with ``./`` is taken from the list's folder. Any other one is taken from there, or
            if there is no such file, from `root`.
        root: The dataset's own folder.

    Returns:
        Absolute paths, sorted, each once; and what is wrong with the lists.

    Raises:
        InputError: a place does not exist or cannot be read, there are no images, or too many.
    """
    found: dict[str, None] = {}
    faults: list[Fault] = []
    for place in places:
        if place.is_dir():
            names: Iterable[str] = _in_folder(place)
        else:
            names = _in_list(place, root, faults)
        for name in names:
            found[os.path.abspath(name)] = None  # noqa: PTH100 - links stay as they are
            if len(found) > MAX_IMAGES:
                raise InputError("has too many images", subject=str(place), expected=f"at most {MAX_IMAGES:,}")
    if not found:
        raise InputError(
            "has no images",
            subject=", ".join(map(str, places)),
            expected=f"files such as {', '.join(sorted(SUFFIXES))}",
        )
    return [Path(name) for name in sorted(found)], faults


def is_image(name: str) -> bool:
    """Whether a file in a folder is one of the dataset's images, by its suffix."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


def _in_folder(folder: Path) -> Iterator[str]:
    try:
        for entry in walk_folder(folder):
            if entry.kind == "file" and is_image(entry.name) and not entry.name.startswith("."):
                yield entry.path
    except OSError as error:
        raise InputError(f"cannot be listed: {error.strerror or error}", subject=str(folder)) from error


def _in_list(path: Path, root: Path, faults: list[Fault]) -> Iterator[str]:
    text = read_text(path, _MAX_LIST_BYTES, error=InputError, wanted="a list of images")
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        if len(name) > _MAX_PATH_CHARS or "\0" in name:
            raise InputError("is not a path", subject=f"{path}, line {number}", got=repr(name[:60]))
        if not is_image(name):
            faults.append(Fault(path, number, f"{name[:120]} does not have the suffix of an image", "row dropped"))
            continue
        full = _place_of(name, path.parent, root)
        if full in seen:
            faults.append(Fault(path, number, f"repeats line {seen[full]}", "row dropped"))
            continue
        seen[full] = number
        yield full


def _place_of(name: str, folder: Path, root: Path) -> str:
    own = os.path.join(folder, name)  # noqa: PTH118 - a list may have a million lines
    if name.startswith("./") or os.path.exists(own):  # noqa: PTH110
        return os.path.normpath(own)
    other = os.path.join(root, name)  # noqa: PTH118
    return os.path.normpath(other if os.path.exists(other) else own)  # noqa: PTH110
