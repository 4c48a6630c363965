"""Results as YOLO label files: a text file for each image, a line for each object, everything divided by its size.

- a box: ``class cx cy w h``;
- a mask: ``class x1 y1 x2 y2 …``, the outline of its largest part; a mask without area has no line;
- keypoints: ``class cx cy w h x1 y1 v1 x2 …``, the visibility v only if the model gives it;
- an oriented box: ``class x1 y1 x2 y2 x3 y3 x4 y4``.

The score follows if it is asked for, and then the id of the track if objects are tracked: -1 while it is not sure. An
image has the file of its name, a frame of a video that of the video and its number: ``clip_17.txt``.

An image without objects has an empty file, which means background in a training. An image that failed has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from yoloship._util.writing import free_name, replacing
from yoloship.sinks.folder import OutputFolder
from yoloship.sinks.sink import Sink, boxes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Self

    from yoloship.results.detection import Detection
    from yoloship.sinks.sink import Entry


class YoloLabels(Sink):
    """Writes a label file for each image into a folder, which is made for the first image.

    Args:
        names: The file name for each image, by the index of its input; None takes the stems of the entries.
        folder: The folder.
        overwrite: Whether files of those names may be replaced.
    """

    option = ("--txt",)
    metavar = "DIR"
    help = "Folder for YOLO label files, one per image: boxes, masks, keypoints or corners from 0 to 1."
    suffix = ".txt"
    target = "folder"
    needs_boxes = True
    resumes = True
    has_scores: ClassVar[bool] = False

    def __init__(self, names: Sequence[str] | None, folder: Path, *, overwrite: bool) -> None:
        self._folder, self._overwrite = OutputFolder(folder, "labels", names), overwrite

    @classmethod
    def open(cls, path: Path, *, overwrite: bool = False, inputs: Sequence[Path] | None = None) -> Self:
        """Write into a folder, which is made if it does not exist. `Sink.open` explains the arguments."""
        return cls(None if inputs is None else label_names(inputs), path, overwrite=overwrite)

    @classmethod
    def file_names(cls, inputs: Sequence[Path]) -> Sequence[str]:
        """The file name for each image, from `label_names`."""
        return label_names(inputs)

    def protect(self, inputs: Sequence[Path]) -> None:
        """Name files that no label file replaces."""
        self._folder.protect(inputs)

    def write(self, entry: Entry) -> None:
        """Write the labels of an image. An image that failed is skipped.

        Raises:
            OutputError: they cannot be written.
        """
        found = boxes_of(entry)
        if found is not None:
            lines = [line for detection in found if (line := self._line(detection, found.image_hw)) is not None]
            with replacing(self._folder.file(entry, self.suffix), overwrite=self._overwrite) as file:
                file.write("".join(f"{line}\n" for line in lines).encode())
        self.count += 1

    def flush(self) -> int:
        """Make the names of the files safe on the disk, as their content is."""
        self._folder.sync()
        return 0

    def close(self) -> None:
        """Finish; every file is complete already."""
        self._folder.close()
        self.is_finished = True

    def _line(self, detection: Detection, image_hw: tuple[int, int]) -> str | None:
        numbers = list(_numbers(detection, image_hw))
        if not numbers:
            return None
        if self.has_scores:
            numbers.append(detection.score)
        track = detection.track_id
        texts = [f"{number:.6g}" for number in numbers]
        return " ".join((str(detection.class_id), *texts, *([] if track is None else [str(track)])))


class ScoredLabels(YoloLabels):
    """The same files with the score at the end of each line."""

    option = ("--txt-conf",)
    help = "Like --txt, with the score at the end of each line."
    has_scores = True


def label_names(inputs: Sequence[Path]) -> tuple[str, ...]:
    """The file name of each image's labels: ``a.txt`` for ``a.jpg``, ``a-2.txt`` for the next ``a.png``.

    All names differ, even on file systems that ignore case or normalise accents.
    """
    taken: dict[str, int] = {}
    return tuple(free_name(path.stem, ".txt", taken) for path in inputs)


def _numbers(detection: Detection, image_hw: tuple[int, int]) -> Iterator[float]:
    """What follows the class id, without the score; nothing for a mask without area."""
    height, width = image_hw
    if detection.masks is not None:
        (parts,) = detection.masks.polygons()
        for x, y in parts[0].tolist() if parts else ():
            yield from (x / width, y / height)
        return
    if detection.corners_xy is not None:
        for x, y in detection.corners_xy:
            yield from (x / width, y / height)
        return
    x1, y1, x2, y2 = detection.box_xyxy
    yield from ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    for x, y, *visibility in detection.keypoints or ():
        yield from (x / width, y / height, *visibility)
