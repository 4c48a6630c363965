"""Small datasets and what was found in them, for tests of a validation; no model runs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from yoloship.datasets.dataset import Dataset, Fault, Sample
from yoloship.evaluate.coco import Scored, Truth

__all__ = ["BOX", "FAR", "NAMES", "OTHER", "dataset", "found", "sample"]

NAMES = ("cat", "dog", "owl")
BOX, OTHER, FAR = [10.0, 10, 30, 30], [50.0, 50, 90, 80], [5.0, 60, 25, 95]
"""Boxes of an image of 100×100 pixels that do not touch."""


def sample(name: str, boxes: list[list[float]], class_ids: list[int], folder: Path | None = None) -> Sample:
    """An image; with a folder it is written there."""
    path = (folder or Path("images")) / name
    if folder is not None:
        image = np.full((100, 100, 3), 90, np.uint8)
        assert cv2.imwrite(str(path), image)
    return Sample(path, name, (100, 100), Truth(np.array(boxes, float).reshape(-1, 4), np.array(class_ids, int)))


def found(boxes: list[list[float]], scores: list[float], class_ids: list[int]) -> Scored:
    """What a model found in an image, the best first."""
    return Scored(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(class_ids, np.int32),
        (100, 100),
    )


def dataset(samples: list[Sample], names: tuple[str, ...] = NAMES, faults: tuple[Fault, ...] = ()) -> Dataset:
    """A dataset of boxes."""
    return Dataset("zoo.yaml, val", "yolo", "detect", names, tuple(samples), faults)
