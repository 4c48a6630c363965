"""A folder of photos: images per second of a plain loop, of the usual ways, and of `Detector.stream`.

    python bench/bench_folder.py best.pt photo.jpg [photo.jpg …] [--count 200] [--rounds 3]

The folder is made at run time from the photos given (mirrored, cut and scaled, so that no two are alike) and removed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import cv2
import numpy as np
from _peers import official_like
from _photos import copies_of
from _real_peers import PACKAGES as PEER_PACKAGES
from _real_peers import official, ultralytics
from _timing import conditions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yoloship.results.detections import Detections

TARGETS = "square stream at least 1.3 × the plain loop over the same session and 1.6 × the official loop"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    from yoloship import load
    from yoloship.checkpoint import read_checkpoint
    from yoloship.graph import GraphConfig, build_graph, graph_bytes
    from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

    standard_bytes = graph_bytes(build_graph(read_checkpoint(arguments.model), GraphConfig()))
    standard = OnnxRuntimeSession.open(standard_bytes)
    with (
        tempfile.TemporaryDirectory() as folder,
        load(arguments.model) as one,
        load(arguments.model, tuned_for="throughput") as many,
        load(arguments.model, tuned_for="throughput", shape_mode="rect") as rect,
    ):
        paths = copies_of(arguments.photos, arguments.count, Path(folder))
        cases: dict[str, Callable[[], object]] = {
            "official-like loop": lambda: [official_like(standard, cv2.imread(str(path))) for path in paths],
            "plain loop, tuned for latency": lambda: [one(path) for path in paths],
            "plain loop, tuned for throughput": lambda: [many(path) for path in paths],
            "stream, tuned for latency": lambda: _drain(one.stream(paths)),
            "stream, tuned for throughput": lambda: _drain(many.stream(paths)),
            "stream, throughput, rect": lambda: _drain(rect.stream(paths)),
        }
        onnx = Path(folder) / "standard.onnx"
        onnx.write_bytes(standard_bytes)
        for name, peer in (("official code, torch", official(onnx)), ("Ultralytics", ultralytics(onnx))):
            if peer is not None:
                cases[name] = lambda run=peer: [run(cv2.imread(str(path))) for path in paths]  # type: ignore[misc]
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(arguments.rounds):
            for name, case in cases.items():
                time.sleep(0.5)
                start = time.perf_counter()
                case()
                seconds[name].append(time.perf_counter() - start)
        print(conditions("onnxruntime", "opencv-python-headless", "numpy", "yoloship", *PEER_PACKAGES))
        print(f"{arguments.model.name}, {len(paths)} JPEGs, {arguments.rounds} rounds; target: {TARGETS}\n")
        bases = ("official-like loop", "plain loop, tuned for latency", "plain loop, tuned for throughput")
        print(f"{'case':34s} {'per second':>10s}   ratio to: official-like, plain latency, plain throughput")
        for name, values in seconds.items():
            ratios = [_ratio(seconds[base], values) for base in bases]
            print(
                f"{name:34s} {len(paths) / statistics.median(values):10.1f}   {'  '.join(f'{r:5.2f}' for r in ratios)}"
            )
        plain = [one(path) for path in paths]
        for name, detector in (("latency", one), ("throughput", many)):
            streamed = [outcome.unwrap() for outcome in detector.stream(paths)]
            print(f"stream tuned for {name}: {_same(plain, streamed)} of {len(paths)} images with the same detections")


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """How many times as fast: the median of the ratios of all rounds."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def _drain(outcomes: object) -> int:
    return sum(1 for outcome in outcomes if outcome.unwrap() is not None)  # type: ignore[attr-defined]


def _same(first: Sequence[Detections], second: Sequence[Detections]) -> int:
    return sum(
        len(a) == len(b)
        and np.array_equal(a.class_ids, b.class_ids)
        and np.allclose(a.scores, b.scores, atol=1e-5)
        and np.allclose(a.boxes_xyxy, b.boxes_xyxy, atol=0.01)
        for a, b in zip(first, second, strict=True)
    )


if __name__ == "__main__":
    main()
