"""The sink that draws answers on images, and writes one file for each image and each video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yoloship._util.writing import free_name, fresh_folder, name_key, replacing, sync_folder
from yoloship.errors import OutputError
from yoloship.sinks.folder import OutputFolder, stem_for
from yoloship.sinks.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.sinks.annotated_videos import AnnotatedVideos
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
    """Draws results on their images and writes these into a folder, which is made for the first image.

    An image becomes an image. The frames of a video become a video.

    Args:
        names: The file name of each annotated image, by the index of its input; None takes the stems of the entries.
        folder: The folder for the images; None makes a new folder in `runs`, with an unused name.
        runs: The folder in which new folders are made.
        style: How the images look.
        overwrite: Whether files of those names may be replaced.
        stem: What new folders are called.

    Attributes:
        folder: The folder, as soon as something is written into it.
    """

    option = ("-o", "--output-dir")
    metavar = "DIR"
    help = "Folder for annotated images and videos. Default: a new folder runs/predict-N, or named after the task."
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
        self._videos: AnnotatedVideos | None = None
        self.folder: Path | None = None
        self._protected: Sequence[Path] = ()

    @classmethod
    def open(cls, path: Path, *, overwrite: bool = False, inputs: Sequence[Path] | None = None) -> Self:
        """Write into a folder, which is made if it does not exist. `Sink.open` explains the arguments."""
        return cls(None if inputs is None else annotated_names(inputs), path, overwrite=overwrite)

    @classmethod
    def file_names(cls, inputs: Sequence[Path]) -> Sequence[str]:
        """The file name of each annotated image, from `annotated_names`."""
        return annotated_names(inputs)

    def protect(self, inputs: Sequence[Path]) -> None:
        """Name files that no annotated image or video replaces."""
        self._protected = inputs
        if self._wanted is not None:
            self._wanted.protect(inputs)

    def write(self, entry: Entry) -> None:
        """Draw an image and write it. An image that failed, or that is not there, is skipped.

        Raises:
            OutputError: it cannot be encoded or written.
        """
        self.draw(entry)
        self.count += 1

    def flush(self) -> int:
        """Make the names of the files safe on the disk, as their content is."""
        if self.folder is not None:
            sync_folder(self.folder)
        return 0

    def close(self) -> None:
        """Finish: every image is complete already, and videos are now. It may be called twice.

        Raises:
            OutputError: a video cannot be finished.
        """
        try:
            if self._videos is not None:
                self._videos.close()
        finally:
            if self._wanted is not None:
                self._wanted.close()
            self.is_finished = True

    def abort(self) -> None:
        """Finish early: videos hold the frames so far, and no sound after them."""
        try:
            if self._videos is not None:
                self._videos.abort()
        finally:
            self.close()

    def draw(self, entry: Entry) -> Path | None:
        """Draw what was found on a copy of an image, and write it.

        Args:
            entry: The image and what was found. Its stem names the file if the sink was given no names.

        Returns:
            The file; None if nothing was written, because the image is not there or its video has failed before. A
            video has this name once it is finished.

        Raises:
            OutputError: it cannot be encoded or written.
        """
        image = drawn(entry, self._style)
        if image is None:
            return None
        if self.folder is None:
            self.folder = fresh_folder(self._runs, self._stem) if self._wanted is None else self._wanted.ready()
        if entry.frame is not None and entry.frame.stream is not None:
            return self._video_writer().write(self.folder, image, entry.frame)
        if self._videos is not None:
            self._videos.finish()
        path = self.folder / (f"{stem_for(entry)}.jpg" if self._names is None else self._names[entry.index])
        if self._wanted is not None:
            path = self._wanted.checked(path)
        write_image(image, path, overwrite=self._overwrite)
        return path

    def _video_writer(self) -> AnnotatedVideos:
        if self._videos is None:
            from yoloship.sinks.annotated_videos import AnnotatedVideos

            self._videos = AnnotatedVideos(overwrite=self._overwrite, protected=self._protected)
        return self._videos


def drawn(entry: Entry, style: DrawStyle) -> npt.NDArray[np.uint8] | None:
    """Draw what was found on a copy of an image, above the zones and lines of its scene.

    Args:
        entry: The image and what was found.
        style: How it looks.

    Returns:
        (height, width, 3) uint8 BGR; the caller owns it. None if the image failed, or is not there.

    Raises:
        InputError: the line width is out of range.
    """
    if entry.result is None or entry.image is None:
        return None
    line_px = style.line_width_px
    image = entry.image if entry.scene is None else entry.scene.draw(entry.image, line_px)
    return entry.result.draw(image, hide_labels=style.hide_labels, hide_scores=style.hide_scores, line_width_px=line_px)


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
