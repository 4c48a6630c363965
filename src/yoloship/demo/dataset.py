"""Scenes as a dataset on disk, in COCO's form or in YOLO's."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import cv2
import numpy as np

from yoloship._util.writing import part_name, write_bytes, write_error
from yoloship.demo.scene import CLASS_NAMES, HELD_OUT_SEED, make_scene
from yoloship.errors import InputError, OutputError
from yoloship.evaluate.coco import Truth, coco_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from yoloship.demo.scene import Scene

DatasetFormat: TypeAlias = Literal["coco", "yolo"]
"""``coco``: ``images/`` and ``annotations.json``. ``yolo``: ``images/``, ``labels/`` with a text file a picture, and
``data.yaml``."""

MAX_SCENES = 1_000_000
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)


@dataclass(frozen=True, slots=True)
class DatasetOrder:
    """Which scenes to write, and how.

    Attributes:
        count: Scenes, one a seed.
        first_seed: Seed of the first. Training of the bundled model used seeds below `HELD_OUT_SEED`.
        format: See `DatasetFormat`.
        size_hw: Height and width of each in pixels.

    Raises:
        InputError: a value is outside its range, or the seeds reach from those for training into the held-out ones.
    """

    count: int
    first_seed: int = 0
    format: DatasetFormat = "coco"
    size_hw: tuple[int, int] = (640, 640)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_SCENES:
            raise InputError("out of range", subject="count", expected=f"1 to {MAX_SCENES}", got=str(self.count))
        if self.format not in get_args(DatasetFormat):
            raise InputError(
                "no such format", subject="format", expected=" or ".join(get_args(DatasetFormat)), got=repr(self.format)
            )
        if self.first_seed < HELD_OUT_SEED < self.first_seed + self.count:
            raise InputError(
                "the seeds reach from those for training into those held out",
                subject="first_seed",
                expected=f"all below {HELD_OUT_SEED}, or none",
                got=f"{self.first_seed} to {self.first_seed + self.count - 1}",
            )


def write_dataset(folder: Path, order: DatasetOrder, told: Callable[[int], None] | None = None) -> int:
    """Make scenes and write them with their labels; the same order gives the same bytes.

    Args:
        folder: Takes shape beside its final name, and bears that name only when it is whole. Must not exist yet.
        order: What to write.
        told: Called after each scene with how many are done; what it raises ends the work and leaves nothing.

    Returns:
        How many codes the scenes show.

    Raises:
        OutputError: the folder exists, or cannot be written.
        InputError: a seed or size that no scene has.
    """
    if folder.exists() or folder.is_symlink():
        raise OutputError("exists already", subject=str(folder), hint="give the name of a new folder")
    part = folder.with_name(part_name())
    try:
        (part / "images").mkdir(parents=True)
        codes = _fill(part, order, told)
        part.rename(folder)
    except OSError as error:
        raise write_error(error, folder) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return codes


def _fill(folder: Path, order: DatasetOrder, told: Callable[[int], None] | None) -> int:
    names: list[str] = []
    truths: list[Truth] = []
    if order.format == "yolo":
        (folder / "labels").mkdir()
    for done, seed in enumerate(range(order.first_seed, order.first_seed + order.count), 1):
        scene = make_scene(seed, order.size_hw)
        names.append(f"{seed:010d}.jpg")
        truths.append(Truth(scene.boxes_xyxy, scene.class_ids))
        (folder / "images" / names[-1]).write_bytes(_jpeg(scene))
        if order.format == "yolo":
            (folder / "labels" / f"{seed:010d}.txt").write_text(yolo_labels(scene), encoding="utf-8")
        if told is not None:
            told(done)
    if order.format == "coco":
        document = coco_dataset(names, [order.size_hw] * order.count, truths, CLASS_NAMES)
        document["info"] = {"description": "Scenes of machine-readable codes", "first_seed": order.first_seed}
        write_bytes(folder / "annotations.json", (json.dumps(document) + "\n").encode())
    else:
        lines = ["train: images", "val: images", "names:", *(f"  {i}: {name}" for i, name in enumerate(CLASS_NAMES))]
        write_bytes(folder / "data.yaml", ("\n".join(lines) + "\n").encode())
    return sum(len(truth.class_ids) for truth in truths)


def yolo_labels(scene: Scene) -> str:
    """A line a code: class id, then centre x, centre y, width and height as shares of the picture's sides."""
    height, width = scene.picture.shape[:2]
    boxes = scene.boxes_xyxy.astype(np.float64) / (width, height, width, height)
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return "".join(
        f"{class_id} {cx:.7f} {cy:.7f} {w:.7f} {h:.7f}\n"
        for class_id, (cx, cy), (w, h) in zip(scene.class_ids, centres, sizes, strict=True)
    )


def _jpeg(scene: Scene) -> bytes:
    done, data = cv2.imencode(".jpg", scene.picture, _JPEG)
    assert done, "OpenCV encodes every picture of a legal size"
    return data.tobytes()
