"""Annotated pictures, one file for each input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship._util.writing import taken, write_bytes
from yoloship.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

KEPT_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Formats that are written as they came, in lower case; all others become JPEG."""

JPEG_QUALITY = 95


def plan_outputs(inputs: Sequence[Path], folder: Path, *, overwrite: bool) -> tuple[Path, ...]:
    """Choose the name of each annotated picture before any work is done.

    Args:
        inputs: In order.
        folder: Where they go; it need not exist yet.
        overwrite: Whether names that are taken may be replaced.

    Returns:
        A name in `folder` for each input: its own, its suffix kept where the format can be written, else ``.jpg``;
        where inputs of several folders share a name, the later ones get ``-2``, ``-3``, …

    Raises:
        OutputError: the folder is a file, a name is taken, or an output would replace an input.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError("is a file, not a folder", subject=str(folder), hint="give another folder with -o")
    sources = {_real(path) for path in inputs}
    used: set[str] = set()
    outputs = []
    for path in inputs:
        suffix = path.suffix if path.suffix.lower() in KEPT_SUFFIXES else ".jpg"
        name, count = f"{path.stem}{suffix}", 1
        while name.casefold() in used:  # file systems that ignore case would make one file of two
            count += 1
            name = f"{path.stem}-{count}{suffix}"
        used.add(name.casefold())
        output = folder / name
        if _real(output) in sources:
            raise OutputError("would replace an input picture", subject=str(output), hint="give another folder with -o")
        if not overwrite and output.exists():
            raise taken(output)
        outputs.append(output)
    return tuple(outputs)


def plan_file(path: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse a single output file that could not be written in the end.

    Args:
        path: Where it is to go.
        inputs: Files that it must not replace.
        overwrite: Whether it may exist.

    Raises:
        OutputError: its folder is missing, it is a folder or an input itself, or the name is taken.
    """
    if path.is_dir():
        raise OutputError("is a folder, not a file", subject=str(path), hint="give a file name")
    if not path.parent.is_dir():
        raise OutputError("folder does not exist", subject=str(path.parent), hint="make it first")
    if _real(path) in {_real(source) for source in inputs}:
        raise OutputError("would replace an input", subject=str(path), hint="give another name")
    if not overwrite and path.exists():
        raise taken(path)


def fresh_folder(parent: Path, stem: str) -> Path:
    """A folder name that is not taken: ``parent/stem``, ``parent/stem-2``, … It is not made."""
    folder, count = parent / stem, 1
    while folder.exists():
        count += 1
        folder = parent / f"{stem}-{count}"
    return folder


def write_picture(image: npt.NDArray[np.uint8], path: Path, *, overwrite: bool) -> None:
    """Encode a picture by the suffix of its path, and write it whole or not at all.

    Args:
        image: (height, width, 3) uint8 BGR; read only.
        path: Its folder is made where it is missing.
        overwrite: Whether a file of that name may be replaced.

    Raises:
        OutputError: it cannot be encoded or written.
    """
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix.lower() in {".jpg", ".jpeg"} else []
    try:
        encoded, data = cv2.imencode(path.suffix.lower(), image, options)
    except cv2.error as error:
        raise OutputError(f"cannot be encoded: {error.err or error}", subject=str(path)) from error
    if not encoded:
        raise OutputError("cannot be encoded in this format", subject=str(path), got=f"{image.shape}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder cannot be made: {error.strerror or error}", subject=str(path.parent)) from error
    write_bytes(path, data.tobytes(), overwrite=overwrite)


def _real(path: Path) -> str:
    try:
        return str(path.resolve())
    except (OSError, RuntimeError, ValueError):
        return str(path)
