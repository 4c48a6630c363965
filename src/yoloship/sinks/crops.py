"""Each object cut out of its image, as a JPEG in the folder of its class: ``DIR/person/photo-1.jpg``.

The number is the object's place in the record of its image, from 1, best first. So a crop can be found in the JSON, and
no two crops have one name. As the official tools do, a box is first enlarged by 2 % and then by 10 pixels, 5 on each
side, and clipped to the image. An oriented box is enlarged in the same way and turned upright, with its longer side as
it is in ``w`` and ``h`` of its answer; what lies outside the image is black.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from yoloship._util.writing import made_folder, remove_stale, sync_folder
from yoloship.sinks.annotated import write_image
from yoloship.sinks.folder import OutputFolder, stem_for
from yoloship.sinks.naming import class_folders
from yoloship.sinks.sink import Sink, boxes_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.results.detection import Detection
    from yoloship.sinks.sink import Entry

    Image = npt.NDArray[np.uint8]

GAIN: Final = 1.02
PAD_PX: Final = 10


class Crops(Sink):
    """Writes each object into a folder for its class; the folders are made when they are needed.

    Args:
        folder: The folder of the folders.
        stems: The stem of each image's crops, by the index of its input; None takes the stems of the entries.
        overwrite: Whether files of those names may be replaced.
    """

    option = ("--crops",)
    metavar = "DIR"
    help = "Folder for crops of the objects, in a subfolder for each class."
    suffix = ".jpg"
    target = "folder"
    needs_images = True
    needs_boxes = True
    resumes = True

    def __init__(self, folder: Path, stems: Sequence[str] | None, *, overwrite: bool) -> None:
        self._folder, self._stems, self._overwrite = OutputFolder(folder, "crops"), stems, overwrite
        self._class_names: tuple[str, ...] = ()
        self._class_folders: tuple[str, ...] = ()
        self._used: set[str] = set()  # folders with files that may not be safe on the disk yet
        self._swept: set[str] = set()  # folders without what killed runs have left

    @classmethod
    def open(cls, path: Path, *, overwrite: bool = False, inputs: Sequence[Path] | None = None) -> Self:
        """Write into folders below a folder, which is made if it does not exist. `Sink.open` explains the arguments."""
        from yoloship.sinks.yolo_labels import label_names

        stems = None if inputs is None else [name.removesuffix(".txt") for name in label_names(inputs)]
        return cls(path, stems, overwrite=overwrite)

    def protect(self, inputs: Sequence[Path]) -> None:
        """Name files that no crop replaces."""
        self._folder.protect(inputs)

    def write(self, entry: Entry) -> None:
        """Write the objects of an image. An image that failed, or that is not there, is skipped.

        Raises:
            OutputError: they cannot be written.
        """
        found = boxes_of(entry)
        if found is not None and entry.image is not None:
            if found.class_names is not self._class_names:
                self._class_names, self._class_folders = found.class_names, class_folders(found.class_names)
            stem = stem_for(entry) if self._stems is None else self._stems[entry.index]
            for number, detection in enumerate(found, 1):
                name = self._folder_of(detection.class_id)
                folder = made_folder(self._folder.ready() / name)
                if name not in self._swept:
                    self._swept.add(name)
                    remove_stale(folder, after_s=0)  # this run alone writes crops here
                self._used.add(name)
                path = self._folder.checked(folder / f"{stem}-{number}.jpg")
                write_image(cut_out(detection, entry.image), path, overwrite=self._overwrite)
        self.count += 1

    def flush(self) -> int:
        """Make the names of the files safe on the disk, as their content is."""
        for name in self._used:
            sync_folder(self._folder.path / name)
        self._used.clear()
        self._folder.sync()
        return 0

    def close(self) -> None:
        """Finish; every file is complete already."""
        self._folder.close()
        self.is_finished = True

    def _folder_of(self, class_id: int) -> str:
        return self._class_folders[class_id] if class_id < len(self._class_folders) else f"class {class_id}"


def cut_out(detection: Detection, image: Image) -> Image:
    """The pixels of an object, with a margin.

    Args:
        detection: The object.
        image: (height, width, 3) uint8: the image that was searched; read only.

    Returns:
        (height, width, 3) uint8, at least one pixel; the caller owns it.
    """
    if detection.box_xywhr is not None and all(map(math.isfinite, detection.box_xywhr)):
        return _turned(detection.box_xywhr, image)
    x1, y1, x2, y2 = (value if math.isfinite(value) else 0.0 for value in detection.box_xyxy)
    height, width = image.shape[:2]
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    half_w, half_h = ((x2 - x1) * GAIN + PAD_PX) / 2, ((y2 - y1) * GAIN + PAD_PX) / 2
    left, top = min(max(math.floor(cx - half_w), 0), width - 1), min(max(math.floor(cy - half_h), 0), height - 1)
    right, bottom = max(min(math.ceil(cx + half_w), width), left + 1), max(min(math.ceil(cy + half_h), height), top + 1)
    cut: Image = image[top:bottom, left:right].copy()
    return cut


def _turned(box_xywhr: tuple[float, float, float, float, float], image: Image) -> Image:
    """An oriented box turned upright: its width along the x axis."""
    import cv2
    import numpy as np

    cx, cy, box_w, box_h, angle = box_xywhr
    most = max(image.shape[:2])
    width = min(max(round(box_w * GAIN + PAD_PX), 1), 2 * most)
    height = min(max(round(box_h * GAIN + PAD_PX), 1), 2 * most)
    cos, sin = math.cos(angle), math.sin(angle)
    # Where a pixel of the crop lies in the image, for its centre: x and y from the middle of the box, then turned.
    offset_x, offset_y = (width - 1) / 2, (height - 1) / 2
    matrix = np.array(
        [
            [cos, -sin, cx - 0.5 - cos * offset_x + sin * offset_y],
            [sin, cos, cy - 0.5 - sin * offset_x - cos * offset_y],
        ]
    )
    turned = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return turned.astype(np.uint8, copy=False)
