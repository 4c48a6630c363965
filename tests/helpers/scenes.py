"""The accuracy fixture: held-out scenes with their truth, made once and kept on disk for the next run.

scenes = held_out_scenes()
for image, boxes_xyxy, class_ids in scenes: ...
mean_average_precision(detections, truths(scenes), CLASS_NAMES)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from helpers.kept import kept
from yoloship.demo.scene import CLASS_NAMES, HELD_OUT_SEED, make_scene
from yoloship.evaluate.coco import Truth

__all__ = ["CLASS_NAMES", "MODEL", "LabelledImage", "held_out_scenes", "truths"]

MODEL = Path(str(files("yoloship.demo") / "codes-yolov5n.pt"))
"""The checkpoint in the package."""


class LabelledImage(NamedTuple):
    """(640, 640, 3) uint8 BGR, read-only; (n, 4) float32 pixels; (n,) int64 into `CLASS_NAMES`."""

    image: npt.NDArray[np.uint8]
    boxes_xyxy: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]


@lru_cache(maxsize=2)
def held_out_scenes(count: int = 120) -> tuple[LabelledImage, ...]:
    """The first scenes that training never saw. The images lie in a file that processes share."""
    folder = kept(f"held-out-scenes-{count}", _version(), lambda empty: _make(empty, count))
    images = np.load(folder / "images.npy", mmap_mode="r")
    ends = np.cumsum(np.load(folder / "counts.npy"))[:-1]
    boxes = np.split(np.load(folder / "boxes.npy"), ends)
    class_ids = np.split(np.load(folder / "class_ids.npy"), ends)
    return tuple(LabelledImage(*row) for row in zip(images, boxes, class_ids, strict=True))


def truths(scenes: Sequence[LabelledImage]) -> list[Truth]:
    """Their truth as `mean_average_precision` takes it."""
    return [Truth(scene.boxes_xyxy, scene.class_ids) for scene in scenes]


def _version() -> str:
    """A key that changes with everything that could change a scene."""
    digest = hashlib.sha256(f"{cv2.__version__} {np.__version__}".encode())
    for path in sorted(MODEL.parent.glob("*.py")):
        if path.name.startswith("_") or path.name in {"scene.py", "codes.py"}:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _make(folder: Path, count: int) -> None:
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, 640, 640, 3))
    scenes = []
    for index in range(count):
        scene = make_scene(HELD_OUT_SEED + index)
        images[index] = scene.image
        scenes.append((scene.boxes_xyxy, scene.class_ids))
    images.flush()
    np.save(folder / "boxes.npy", np.concatenate([boxes for boxes, _ in scenes]))
    np.save(folder / "class_ids.npy", np.concatenate([ids for _, ids in scenes]))
    np.save(folder / "counts.npy", np.array([len(ids) for _, ids in scenes]))
