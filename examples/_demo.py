"""The demo model and generated scenes: every example uses them, so nothing needs to be downloaded.

In your own program, replace `demo_model()` with the path of your checkpoint and `demo_images(…)` with your images.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import cv2

from yoloship.demo.scene import make_scene


def demo_model() -> Path:
    """The path of the bundled checkpoint, a YOLOv5n that finds QR codes, markers and barcodes."""
    return Path(str(files("yoloship.demo") / "codes-yolov5n.pt"))


def demo_images(count: int, folder: str = "images") -> list[Path]:
    """Write generated scenes with codes on them, 1280×720, into a folder.

    Args:
        count: How many.
        folder: Where they go; it is made if it does not exist.

    Returns:
        The paths of the JPEG files, in order.
    """
    Path(folder).mkdir(exist_ok=True)
    paths = [Path(folder) / f"scene-{number}.jpg" for number in range(count)]
    for seed, path in enumerate(paths):
        if not cv2.imwrite(str(path), make_scene(seed, (720, 1280)).image):
            raise OSError(f"{path}: cannot be written")
    return paths
