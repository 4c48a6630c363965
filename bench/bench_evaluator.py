"""Average precision: processor time of our evaluator and of pycocotools on the same boxes, and the largest difference.

    python bench/bench_evaluator.py [--images 1000] [--labels 12000] [--detections 48000] [--rounds 5]

pycocotools reads records, as from its JSON files; ours reads the arrays of results. The time of both begins with what
they read and ends with the twelve numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from dataclasses import astuple
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from _timing import conditions, interleaved

from yoloship.evaluate.coco import Scored, Truth, coco_dataset, coco_results
from yoloship.evaluate.evaluator import Evaluation, evaluate
from yoloship.validate.coco_numbers import coco_figures

CLASSES, SIDE = 80, 640
NAMES = tuple(f"class {number}" for number in range(CLASSES))


def scenes(images: int, labels: int, detections: int) -> tuple[list[Scored], list[Truth]]:
    """Objects with a crowd now and then, and detections near to them and elsewhere."""
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 500, (labels, 2)), rng.uniform(5, 140, (labels, 2))
    boxes, ids = np.hstack([corner, corner + size]), rng.integers(0, CLASSES, labels)
    of_image, crowd = rng.integers(0, images, labels), rng.random(labels) < 0.02
    picked = rng.integers(0, labels, detections)
    near = (boxes[picked] + rng.normal(0, 6, (detections, 4))).astype(np.float32)
    where = np.where(rng.random(detections) < 0.6, of_image[picked], rng.integers(0, images, detections))
    scores = np.sort(rng.random(detections))[::-1].astype(np.float32)
    truths = [Truth(boxes[own], ids[own], crowd=crowd[own]) for own in (of_image == one for one in range(images))]
    found = [
        Scored(near[own], scores[own], ids[picked[own]].astype(np.int32), (SIDE, SIDE))
        for own in (where == one for one in range(images))
    ]
    return found, truths


def by_pycocotools(dataset: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    numbers: list[float] = judge.stats.tolist()
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("images", 1000), ("labels", 12_000), ("detections", 48_000), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    found, truths = scenes(given.images, given.labels, given.detections)
    dataset, results = (
        coco_dataset([""] * len(truths), [(SIDE, SIDE)] * len(truths), truths, NAMES),
        coco_results(found),
    )
    made: list[Evaluation] = []
    cases = {
        "pycocotools": lambda: by_pycocotools(dataset, results),
        "ours": lambda: coco_figures(evaluate(found, truths, NAMES)),
        "ours, with every match": lambda: made.append(evaluate(found, truths, NAMES)) or made.pop().matches(),
    }
    times = interleaved(cases, given.rounds, clock=time.process_time)
    theirs, ours = by_pycocotools(dataset, results), astuple(coco_figures(evaluate(found, truths, NAMES)))
    print(conditions())
    print(f"{given.images} images, {given.labels} labels, {given.detections} detections, {CLASSES} classes")
    base = times["pycocotools"].median
    for name, timing in times.items():
        low, high = timing.quartiles
        print(f"{name:24} {timing.median:8.3f} s  [{low:.3f}, {high:.3f}]  {timing.median / base:.4f}")
    print(f"largest difference of the twelve numbers: {max(abs(a - b) for a, b in zip(theirs, ours, strict=True)):.2e}")


if __name__ == "__main__":
    main()
