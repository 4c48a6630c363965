"""Cut codes, and places without a code, out of the demo's scenes: one folder for each class, as ImageFolder reads them.

``python tools/train_resnet/crops.py --out kinds --scenes 400`` writes kinds/train and kinds/val. The scenes of val are
among those that no training sees. The same options give the same images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "src")]

import cv2  # noqa: E402 - after the path
import numpy as np  # noqa: E402

from yoloship.demo.scene import CLASS_NAMES, HELD_OUT_SEED, Scene, make_scene  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Image = npt.NDArray[np.uint8]

NONE = "none"
MARGIN = (0.1, 0.45)
"""How much of its longer side a crop adds to a code on each side."""
SMALLEST_PX = 28
TRIES = 20
BARE_A_SCENE = 2


def crops(scene: Scene) -> Iterator[tuple[str, Image]]:
    """Square cut-outs of a scene, each with its class: every code, and a few places without one."""
    rng = np.random.default_rng(scene.seed)
    for class_id, (x1, y1, x2, y2) in zip(scene.class_ids.tolist(), scene.boxes_xyxy.tolist(), strict=True):
        side = max(x2 - x1, y2 - y1) * (1 + 2 * rng.uniform(*MARGIN))
        centre = ((x1 + x2) / 2 + rng.uniform(-0.08, 0.08) * side, (y1 + y2) / 2 + rng.uniform(-0.08, 0.08) * side)
        image = _cut(scene.image, centre, side)
        if min(image.shape[:2]) >= SMALLEST_PX:
            yield CLASS_NAMES[class_id], image
    height, width = scene.image.shape[:2]
    for _ in range(BARE_A_SCENE):
        for _ in range(TRIES):
            side = float(np.exp(rng.uniform(np.log(40), np.log(240))))
            centre = (rng.uniform(0, width), rng.uniform(0, height))
            if not _touches(scene, centre, side):
                image = _cut(scene.image, centre, side)
                if min(image.shape[:2]) >= SMALLEST_PX:
                    yield NONE, image
                    break


def _cut(image: Image, centre: tuple[float, float], side: float) -> Image:
    height, width = image.shape[:2]
    x1, y1 = (max(0, round(middle - side / 2)) for middle in centre)
    x2, y2 = min(width, round(centre[0] + side / 2)), min(height, round(centre[1] + side / 2))
    return image[y1:y2, x1:x2]


def _touches(scene: Scene, centre: tuple[float, float], side: float) -> bool:
    half = side / 2
    x1, y1, x2, y2 = scene.boxes_xyxy.T
    apart = (x2 < centre[0] - half) | (x1 > centre[0] + half) | (y2 < centre[1] - half) | (y1 > centre[1] + half)
    return not bool(apart.all())


def main() -> None:
    """Write the two folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=400, help="scenes to cut up for training")
    parser.add_argument("--val-scenes", type=int, default=None, help="for measuring; default: a third of --scenes")
    options = parser.parse_args()
    held_out = options.scenes // 3 if options.val_scenes is None else options.val_scenes
    for part, first, count in (("train", 0, options.scenes), ("val", HELD_OUT_SEED, held_out)):
        written = 0
        for name in (*CLASS_NAMES, NONE):
            (options.out / part / name).mkdir(parents=True, exist_ok=True)
        for seed in range(first, first + count):
            for number, (name, image) in enumerate(crops(make_scene(seed))):
                cv2.imwrite(str(options.out / part / name / f"{seed:010d}-{number}.png"), image)
                written += 1
        print(f"{options.out / part}: {written} crops of {count} scenes")


if __name__ == "__main__":
    main()
