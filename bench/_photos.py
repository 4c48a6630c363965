"""A folder of different photos made of a few, for benchmarks that read files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def copies_of(sources: Sequence[Path], count: int, folder: Path) -> list[Path]:
    """Mirrored, cut and scaled copies of the sources, about a megapixel each."""
    rng = np.random.default_rng(0)
    images = [cv2.imread(str(source)) for source in sources]
    paths = []
    for index in range(count):
        image = images[index % len(images)]
        height, width = image.shape[:2]
        top, left = rng.integers(0, height // 8 + 1), rng.integers(0, width // 8 + 1)
        image = image[top:, left:]
        image = image[:, ::-1] if rng.random() < 0.5 else image
        scale = float(np.sqrt(0.9e6 * rng.uniform(0.8, 1.25) / (image.shape[0] * image.shape[1])))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        path = folder / f"{index:04d}.jpg"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        paths.append(path)
    return paths
