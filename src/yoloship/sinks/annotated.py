"""The sink that draws boxes on images and writes one file for each input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yoloship._util.writing import free_name, fresh_folder, name_key, replacing, sync_folder
from yoloship.errors import OutputError
from yoloship.sinks.folder import OutputFolder
from yoloship.sinks.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.results import Result
    from yoloship.sinks.sink import Entry


KEPT_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Suffixes of formats that are written as they came, in lower case; all other formats become JPEG."""

JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class DrawStyle:
    """How annotated images look: the arguments of `Result.draw`."""

    hide_labels: bool = False
    hide_scores: bool = False
    line_width_px: int | None = None


DEFAULT_STYLE = DrawStyle()
RUNS = Path("runs")
"""Where new folders for annotated images are made."""


class AnnotatedImages(Sink):
    """Draws results on their images and writes the images into a folder, which is made for the first image.

    Args:
        names: The file name of each annotated image, by the index of its input; None takes the stems of the entries.
        folder: The folder for the images; None makes a new folder in `runs`, with an unused name.
        runs: The folder in which new folders are made.
        style: How the images look.
        overwrite: Whether files of those names may be replaced.
        stem: What new folders are called.
    """

    option = ("-o", "--output-dir")
    metavar = "DIR"
    help = "Folder for annotated images. Default: a new folder runs/predict-N, or with the name of the task."
    target = "folder"
    needs_images = True
    resumes = True

    def __init__(
        self,
        names: Sequence[str] | None,
        folder: Path | None,
        runs: Path = RUNS,
        style: DrawStyle = DEFAULT_STYLE,
        *,
        overwrite: bool,
        stem: str = "predict",
    ) -> None:
        self._names, self._runs, self._style, self._overwrite, self._stem = names, runs, style, overwrite, stem
        self._wanted = None if folder is None else OutputFolder(folder, "images")
        self.folder: Path | None = None

    @classmethod
    def open(cls, path: Path, *, overwrite: bool = False, inputs: Sequence[Path] | None = None) -> Self:
        """Write into a folder, which is made if it does not exist. `Sink.open` explains the arguments."""
        return cls(None if inputs is None else annotated_names(inputs), path, overwrite=overwrite)

    @classmethod
    def file_names(cls, inputs: Sequence[Path]) -> Sequence[str]:
        """The file name of each annotated image, from `annotated_names`."""
        return annotated_names(inputs)

    def write(self, entry: Entry) -> None:
        """Draw an image and write it. An image that failed, or that is not there, is skipped.

        Raises:
            OutputError: it cannot be encoded or written.
        """
        if entry.result is not None and entry.image is not None:
            self.draw(entry.index, entry.result, entry.image, entry.stem)
        self.count += 1

    def flush(self) -> int:
        """Make the names of the files safe on the disk, as their content is."""
        if self.folder is not None:
            sync_folder(self.folder)
        return 0

    def close(self) -> None:
        """Finish; every file is complete already."""
        if self._wanted is not None:
            self._wanted.close()
        self.is_finished = True

    def draw(self, index: int, found: Result, image: npt.NDArray[np.uint8], stem: str | None = None) -> Path:
        """Draw what was found on a copy of an image, and write it.

        Args:
            index: The place of the image among the inputs.
            found: What to draw.
            image: (height, width, 3) uint8 BGR; read only.
            stem: The stem of its file if the sink was given no names; None numbers it.

        Returns:
            The file.

        Raises:
            OutputError: it cannot be encoded or written.
        """
        style = self._style
        drawn = found.draw(
            image, hide_labels=style.hide_labels, hide_scores=style.hide_scores, line_width_px=style.line_width_px
        )
        if self.folder is None:
            self.folder = fresh_folder(self._runs, self._stem) if self._wanted is None else self._wanted.ready()
        path = self.folder / (f"{stem or f'{index + 1:06}'}.jpg" if self._names is None else self._names[index])
        write_image(drawn, path, overwrite=self._overwrite)
        return path


def annotated_names(inputs: Sequence[Path]) -> tuple[str, ...]:
    """Choose the file name of each annotated image.

    An input keeps its name if its format can be written and no earlier input has the same name. All others get the next
    free name: ``.jpg`` replaces a suffix that cannot be written, and ``-2``, ``-3``, … are added to the stem.

    Args:
        inputs: The inputs in order.

    Returns:
        A name for each input. All names differ, even on file systems that ignore case or normalise accents.
    """
    names: dict[int, str] = {}
    taken: dict[str, int] = {}
    for index, path in enumerate(inputs):
        if path.suffix.lower() in KEPT_SUFFIXES and (key := name_key(path.name)) not in taken:
            names[index] = path.name
            taken[key] = 1
    for index, path in enumerate(inputs):
        if index not in names:
            suffix = path.suffix if path.suffix.lower() in KEPT_SUFFIXES else ".jpg"
            names[index] = free_name(path.stem, suffix, taken)
    return tuple(names[index] for index in range(len(inputs)))


def write_image(image: npt.NDArray[np.uint8], path: Path, *, overwrite: bool) -> None:
    """Encode an image by the suffix of its path, and write it whole or not at all.

    Args:
        image: (height, width, 3) uint8 BGR; read only.
        path: Its folder must exist.
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
    with replacing(path, overwrite=overwrite) as file:
        file.write(data.tobytes())
