"""The accuracy fixture: held-out scenes with their truth, made once and kept on disk for the next run.

scenes = held_out_scenes()
for image, boxes_xyxy, class_ids in scenes: ...
mean_average_precision(detections, truths(scenes), CLASS_NAMES)
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from yoloship.demo.scene import CLASS_NAMES, HELD_OUT_SEED, make_scene
from yoloship.evaluate.coco import Truth

__all__ = ["CLASS_NAMES", "MODEL", "LabelledImage", "held_out_scenes", "truths"]

MODEL = Path(str(files("yoloship.demo") / "codes-yolov5n.pt"))
"""The checkpoint in the package."""
_KEPT = Path(__file__).resolve().parents[2] / ".pytest_cache" / "held-out-scenes"


class LabelledImage(NamedTuple):
    """(640, 640, 3) uint8 BGR, read-only; (n, 4) float32 pixels; (n,) int64 into `CLASS_NAMES`."""

    image: npt.NDArray[np.uint8]
    boxes_xyxy: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]


@lru_cache(maxsize=2)
def held_out_scenes(count: int = 300) -> tuple[LabelledImage, ...]:
    """The first scenes that training never saw. The pictures lie in a file that processes share."""
    folder = _KEPT / f"{_version()}-{count}"
    with _locked():
        if not folder.exists():
            _make(folder, count)
    pictures = np.load(folder / "pictures.npy", mmap_mode="r")
    ends = np.cumsum(np.load(folder / "counts.npy"))[:-1]
    boxes = np.split(np.load(folder / "boxes.npy"), ends)
    class_ids = np.split(np.load(folder / "class_ids.npy"), ends)
    return tuple(LabelledImage(*row) for row in zip(pictures, boxes, class_ids, strict=True))


def truths(scenes: Sequence[LabelledImage]) -> list[Truth]:
    """Their truth as `mean_average_precision` takes it."""
    return [Truth(scene.boxes_xyxy, scene.class_ids) for scene in scenes]


def _version() -> str:
    """Changes with whatever could change a scene: how they are painted, and with what."""
    digest = hashlib.sha256(f"{cv2.__version__} {np.__version__}".encode())
    for path in sorted(MODEL.parent.glob("*.py")):
        if path.name.startswith("_") or path.name in {"scene.py", "codes.py"}:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _make(folder: Path, count: int) -> None:
    part = folder.with_name(f"part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    pictures = np.lib.format.open_memmap(part / "pictures.npy", "w+", np.uint8, (count, 640, 640, 3))
    scenes = []
    for index in range(count):
        scene = make_scene(HELD_OUT_SEED + index)
        pictures[index] = scene.picture
        scenes.append((scene.boxes_xyxy, scene.class_ids))
    pictures.flush()
    np.save(part / "boxes.npy", np.concatenate([boxes for boxes, _ in scenes]))
    np.save(part / "class_ids.npy", np.concatenate([ids for _, ids in scenes]))
    np.save(part / "counts.npy", np.array([len(ids) for _, ids in scenes]))
    for older in folder.parent.glob(f"*-{count}"):  # of another version: 370 MB that nobody will ask for
        shutil.rmtree(older, ignore_errors=True)
    part.rename(folder)


@contextmanager
def _locked() -> Iterator[None]:
    """One process at a time: of several test workers, one makes the scenes and the others wait."""
    _KEPT.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no such thing on Windows; run there with -n0
        yield
        return
    with (_KEPT / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
