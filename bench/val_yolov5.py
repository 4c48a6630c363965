"""Our validation by YOLOv5's rules against the 28 official runs in ../shared/val: how far each number is off.

    python bench/val_yolov5.py [--runs NAME …]

Each run goes all the way, from the files to the figures. Those of checkpoints go twice: once in our own order of
images with equal aspect ratios, and once in the order of the official run, which its processor decided.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from _timing import conditions

from helpers.official_val import REFUSED, REWRITTEN, Difference, OfficialRun, run_names
from yoloship.errors import InputError

HEAD = "| run | images | inputs differ | P | R | mAP50 | mAP50-95 | AP of a class | matrix cells | detections | s |"


def row(name: str, images: int, inputs: str, off: Difference, seconds: float) -> str:
    shares = " | ".join(f"{value:.1e}" for value in (off.precision, off.recall, off.map50, off.map50_95, off.class_ap))
    return f"| {name} | {images} | {inputs} | {shares} | {off.confusion} | {off.detections:+d} | {seconds:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", nargs="*", default=run_names())
    given = parser.parse_args()
    print(conditions("opencv-python-headless", "onnxruntime", "simplejpeg", "numpy"))
    print(f"\n{HEAD}\n| {' | '.join(['---'] * (HEAD.count('|') - 1))} |")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in given.runs:
            run = OfficialRun(name)
            if name in REFUSED:
                try:
                    run.dataset(folder)
                except InputError as error:
                    print(f"| {name} | refused: {str(error).replace(str(folder), '…')} |")
                continue
            dataset = run.dataset(folder)
            wrong = run.differing_inputs(dataset)
            inputs = f"{len(wrong)}" + (" (rewritten by it)" if wrong == [REWRITTEN] else "")
            started = time.perf_counter()
            own = run.validated(folder)
            print(row(name, own.images, inputs, Difference.of(own, run), time.perf_counter() - started), flush=True)
            if run.is_checkpoint:
                started = time.perf_counter()
                same = run.validated_in_official_order(folder)
                off = Difference.of(same, run)
                print(
                    row(f"{name}, official order", same.images, inputs, off, time.perf_counter() - started), flush=True
                )


if __name__ == "__main__":
    main()
