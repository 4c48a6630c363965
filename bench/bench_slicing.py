"""Objects found with and without slicing on a mosaic of photos, against one run over the whole at full resolution.

    python bench/bench_slicing.py yolov5n.pt photo.jpg ... [--size 6000x4000] [--seed 0] [--save mosaic.jpg]

The photos are scaled to heights of 200 to 520 pixels and laid in rows. The judge is the same model with a canvas of the
mosaic's size. Its objects above 0.4 are looked for: same class, IoU of 0.5 or more. Boxes above 0.4 that the judge does
not have even above 0.15 are parts and doubles, or other opinions.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

from _timing import conditions

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship import Detections

PACKAGES = ("onnxruntime", "opencv-python-headless", "numpy", "yoloship")


def main() -> None:
    arguments = _arguments()

    import cv2
    import numpy as np

    import yoloship
    from yoloship.detect.slicing import SlicedDetector, Slicing
    from yoloship.results.boxes import box_ious

    width, height = map(int, arguments.size.split("x"))
    image = _mosaic([cv2.imread(str(photo)) for photo in arguments.photos], height, width, arguments.seed)
    print(conditions(*PACKAGES))
    print(f"{arguments.model.name}, mosaic of {width}×{height}")

    def pairs(first: Detections, second: Detections) -> int:
        """How many objects of the first are in the second, each for one only."""
        alike = (box_ious(first.boxes_xyxy, second.boxes_xyxy) >= 0.5) & (first.class_ids[:, None] == second.class_ids)
        free = np.ones(len(second), bool)
        for row in alike:
            free[np.flatnonzero(row & free)[:1]] = False
        return int(np.count_nonzero(~free))

    canvas = (-(-height // 32) * 32, -(-width // 32) * 32)
    with yoloship.load(arguments.model, imgsz=canvas) as judge:
        everything = judge(image, options=yoloship.DetectOptions(score_threshold=0.15, max_detections=10_000))
    truth = everything.filter(min_score=0.4)
    print(f"the judge finds {len(truth)} objects above 0.4\n")
    print(f"{'how':34s} {'boxes':>6s} {'of the judge':>13s} {'others above 0.4':>17s} {'seconds':>8s}")

    def report(how: str, find: Callable[[Any], Detections]) -> None:
        start = time.perf_counter()
        found = find(image)
        took = time.perf_counter() - start
        sure = found.filter(min_score=0.4)
        others = len(sure) - pairs(sure, everything)
        print(f"{how:34s} {len(found):6d} {pairs(truth, found):6d}/{len(truth)} {others:17d} {took:8.2f}")

    with yoloship.load(arguments.model, tuned_for="throughput") as detector:
        report("the whole image alone", detector)
        for changes in (
            {},
            {"merge": "ios"},
            {"whole": False},
            {"overlap": 0.0},
            {"overlap": 0.1},
            {"overlap": 0.4},
        ):
            slicing = Slicing(**changes)
            how = ", ".join(f"{name} {value}" for name, value in changes.items()) or "tiles, as it is by default"
            report(how, SlicedDetector(detector, slicing))
        if arguments.save:
            cv2.imwrite(str(arguments.save), SlicedDetector(detector)(image).draw(image))
    print(f"\npeak memory, the judge included: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def _mosaic(photos: list[Any], height: int, width: int, seed: int) -> Any:
    import cv2
    import numpy as np

    rng = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), 114, np.uint8)
    top = 0
    while top < height - 100:
        tall, left = min(int(rng.integers(200, 520)), height - top), 0
        while True:
            photo = photos[int(rng.integers(len(photos)))]
            wide = photo.shape[1] * tall // photo.shape[0]
            if left + wide > width:
                break
            piece = cv2.resize(photo, (wide, tall), interpolation=cv2.INTER_AREA)
            canvas[top : top + tall, left : left + wide] = piece
            left += wide
        top += tall
    return canvas


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--size", default="6000x4000", help="width and height of the mosaic")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="write the mosaic with the boxes here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
