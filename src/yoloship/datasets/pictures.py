"""The images of a dataset, looked at without decoding them: their sizes, and whether a training would take them.

What a training leaves out is what YOLOv5's data loader leaves out: files that are not images, formats that it does not
know (a GIF, whatever its name), images with a side below 10 pixels, and JPEGs that end too early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yoloship._util.reading import read_bounded
from yoloship.errors import ImageError, YoloshipError
from yoloship.images import DEFAULT_LIMITS, image_size, read_header, read_image

if TYPE_CHECKING:
    from pathlib import Path


SUFFIXES: Final = frozenset({".bmp", ".dng", ".jpeg", ".jpg", ".mpo", ".pfm", ".png", ".tif", ".tiff", ".webp"})
"""Files of a dataset's folder that are its images, in lower case: those that YOLOv5 lists. Some of them cannot be
decoded here; they are left out by name."""
_FORMATS: Final = frozenset({"BMP", "JPEG", "PNG", "TIFF", "WebP"})
LEAST_SIDE_PX: Final = 10
_JPEG_END: Final = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Picture:
    """What an image file is.

    Attributes:
        image_hw: (height, width) in pixels, turned upright as Exif says; (0, 0) if it is not usable.
        problem: Why it is left out; empty if it is not.
        remark: What is wrong with a file that is kept; empty if nothing is.
    """

    image_hw: tuple[int, int]
    problem: str = ""
    remark: str = ""


def look_at(path: Path) -> Picture:
    """Look at an image file: its header, and its end if it is a JPEG. Nothing is raised for what is in it."""
    try:
        data = read_bounded(path, DEFAULT_LIMITS.max_file_bytes, error=ImageError, wanted="an image")
        height, width = image_size(data)
        header = read_header(data)
        assert header is not None  # `image_size` has read it
        if header.format not in _FORMATS:
            return Picture((0, 0), f"is a {header.format} image, which training tools do not accept")
        if min(height, width) < LEAST_SIDE_PX:
            return Picture((0, 0), f"has {width}×{height} pixels; trainings leave out sides below {LEAST_SIDE_PX}")
        if header.format == "JPEG" and not data.endswith(_JPEG_END):
            read_image(data)
            return Picture(
                (height, width), remark="the JPEG does not end with its end marker; YOLOv5 would rewrite it in place"
            )
    except YoloshipError as error:
        facts = [error.problem, *(() if error.got is None else (f"got {error.got}",))]
        return Picture((0, 0), ": ".join(facts))
    return Picture((height, width))
