"""After the README's first command: what it left is there, can be opened, and holds what it should.

Runs in the environment that the command made, so it also checks that a plain install, without the development tools,
detects on a real photograph.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from yoloship.images import read_image

DEMO = Path("yoloship-demo")
SHARED = Path("../shared")
MODEL = SHARED / "checkpoints" / "trained" / "coco-yolov5n.pt"
PHOTO = SHARED / "photos" / "bus.jpg"


def main() -> None:
    """Check the demonstration's folder, then a detection on a photograph."""
    check_drawn(DEMO / "scene.png", DEMO / "found.jpg")
    assert {"qr_code", "marker", "barcode"} >= set(classes(DEMO / "found.json")) != set()

    program = Path(sys.executable).with_name("yoloship")
    subprocess.run([program, "detect", MODEL, PHOTO, "-o", "found", "--json", "found.json"], check=True)
    check_drawn(PHOTO, Path("found") / PHOTO.name)
    assert classes(Path("found.json")) == ["bus", "person", "person", "person", "person"]


def check_drawn(before: Path, after: Path) -> None:
    """Boxes were drawn on an image that is otherwise the same."""
    images = read_image(before), read_image(after)
    assert images[0].shape == images[1].shape
    changed = (np.abs(np.subtract(*images, dtype=int)).max(axis=2) > 60).mean()
    assert 0.002 < changed < 0.5, f"{after}: {changed:.1%} of the pixels differ from {before}"
    print(f"{after}: {images[1].shape[1]}×{images[1].shape[0]}, {changed:.1%} drawn on")


def classes(path: Path) -> list[str]:
    """The class names in a JSON of results, sorted."""
    document: list[dict[str, Any]] = json.loads(path.read_bytes())
    return sorted(found["class_name"] for entry in document for found in entry["detections"])


main()
