"""Which picture files a list of files, folders and patterns stands for."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".avif", ".jp2"}
    | {".pgm", ".ppm", ".pbm", ".pnm"}
)
"""What counts as a picture inside a folder or a pattern, in lower case; a file that is named itself may have any."""


def find_pictures(sources: Sequence[str | Path]) -> tuple[Path, ...]:
    """Expand files, folders and patterns to picture files.

    Args:
        sources: A file stands for itself, whatever its suffix and even if it is missing (reading it says so). A folder
            stands for its pictures, sorted by name, not for those in folders below. A pattern (``cams/**/*.jpg``)
            stands for what it matches, sorted; ``**`` goes through folders.

    Returns:
        Paths in the order of the sources; a file that is reached twice comes once, at its first place.

    Raises:
        InputError: a folder without pictures, or one that cannot be listed; a pattern that matches none.
    """
    found: dict[str, Path] = {}
    for source in sources:
        for path in _expand(source):
            found.setdefault(_identity(path), path)
    return tuple(found.values())


def _expand(source: str | Path) -> Iterable[Path]:
    path = Path(source)
    try:
        if path.is_dir():
            return _in_folder(path)
        if path.exists() or not glob.has_magic(str(source)):
            return [path]
    except (OSError, ValueError):  # a name that the system cannot even look up: reading it gives the clear line
        return [path]
    matches = sorted(Path(match) for match in glob.glob(str(source), recursive=True))  # noqa: PTH207 - may be absolute
    pictures = [match for match in matches if _is_picture(match)]
    if not pictures:
        raise InputError("matches no pictures", subject=str(source), hint="quote the pattern, and check its folder")
    return pictures


def _in_folder(folder: Path) -> Iterable[Path]:
    try:
        pictures = sorted(entry for entry in folder.iterdir() if _is_picture(entry))
    except OSError as error:
        raise InputError(f"cannot be listed: {error.strerror or error}", subject=str(folder)) from error
    if not pictures:
        below = any(_is_picture(entry) for entry in folder.glob("*/*"))
        raise InputError(
            "folder without pictures",
            subject=str(folder),
            expected="files such as .jpg, .png or .webp",
            hint=f"for the folders below it, give '{folder}/**/*'" if below else None,
        )
    return pictures


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _identity(path: Path) -> str:
    try:
        return str(path.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, or no name that the system takes
        return str(path)
