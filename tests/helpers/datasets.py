"""Small datasets on disk for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yoloship.model import ModelInfo

NAMES = ("cat", "dog", "owl")


def model_info(task: str = "detect", names: tuple[str, ...] = NAMES, **more: Any) -> ModelInfo:
    """The record of a model for that task."""
    return ModelInfo(task, "yolov5", names, (8, 16, 32), (), "float", "raw", (640, 640), 1, **more)


def write_image(path: Path, image_hw: tuple[int, int] = (40, 80), seed: int = 0) -> Path:
    """An image of noise, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*image_hw, 3), np.uint8)
    done, data = cv2.imencode(path.suffix.lower(), pixels)
    assert done
    path.write_bytes(data.tobytes())
    return path


def write_text(path: Path, text: str | bytes) -> Path:
    """A file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_yolo(
    root: Path, labels: Mapping[str, str | bytes | None], yaml: str = "val: images/val\nnames: [cat, dog, owl]\n"
) -> Path:
    """A YOLO dataset: a label file for each image, or None for none.

    Returns:
        Its ``data.yaml``.
    """
    for seed, (name, text) in enumerate(labels.items()):
        image = write_image(root / "images" / "val" / name, seed=seed)
        if text is not None:
            write_text((root / "labels" / "val" / name).with_suffix(".txt"), text)
        assert image.exists()
    return write_text(root / "data.yaml", yaml)
