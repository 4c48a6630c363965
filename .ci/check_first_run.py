"""After the README's first command: what it left is there, can be opened, and holds what it should.

Runs in the environment that the command made, so also checks that a plain install, without the development tools,
detects on real photographs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from yoloship.images import read_image

PICTURES = {".jpg", ".png"}
SHARED = Path("../shared")
MODEL = SHARED / "checkpoints" / "trained" / "coco-yolov5n.pt"
PHOTO = SHARED / "photos" / "bus.jpg"


def main() -> None:
    """Check the demonstration's folder, then a detection on a photograph."""
    made = [path for path in Path("yoloship-demo").rglob("*") if path.suffix in PICTURES]
    assert made, "the first command left no picture"
    for path in made:
        picture = read_image(path)
        assert picture.std() > 5, f"{path} is blank"
        print(f"{path}: {picture.shape[1]}×{picture.shape[0]}")

    program = Path(sys.executable).with_name("yoloship")
    subprocess.run([program, "detect", MODEL, PHOTO, "-o", "found", "--json", "found.json"], check=True)
    before, after = read_image(PHOTO), read_image("found/bus.jpg")
    assert before.shape == after.shape
    assert (np.abs(before.astype(int) - after).max(axis=2) > 60).mean() > 0.005, "nothing was drawn"
    (entry,) = json.loads(Path("found.json").read_bytes())
    classes = sorted(found["class_name"] for found in entry["detections"])
    assert classes == ["bus", "person", "person", "person", "person"], classes


main()
