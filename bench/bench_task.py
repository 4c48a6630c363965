"""One image end to end for a model of any task, from a decoded frame, against a bare run of its standard ONNX.

    python bench/bench_task.py best.pt photo.jpg [--widen 4] [--transform torchvision-v1] [--score 0.25] [--cpu-time]
        [--rounds 40] [--json FILE]

Everything is interleaved in one process, with an idle gap before each case. `--widen` makes a narrow reference network
as wide as a real one (see `_widened.py`). `--cpu-time` is for a busy machine: one thread, and the time of the process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from _timing import conditions, interleaved, table
from _widened import widened

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = ("onnxruntime", "opencv-python-headless", "numpy", "yoloship")


def main() -> None:
    arguments = _arguments()

    import numpy as np

    from yoloship.checkpoint import read_checkpoint
    from yoloship.detect.detector import Detector
    from yoloship.detect.options import DetectOptions
    from yoloship.graph import GraphConfig, build_graph, graph_bytes
    from yoloship.images import read_image
    from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

    checkpoint = widened(read_checkpoint(arguments.model), arguments.widen)

    def opened(config: GraphConfig) -> OnnxRuntimeSession:
        threads = 1 if arguments.cpu_time else None
        return OnnxRuntimeSession.open(graph_bytes(build_graph(checkpoint, config)), intra_op_threads=threads)

    standard = opened(GraphConfig(input_hw="usual", transform=arguments.transform))
    fastest = opened(
        GraphConfig(input_form="image", output_form="fastest", input_hw="usual", transform=arguments.transform)
    )
    image = read_image(arguments.photo)
    ours, plain = Detector(fastest), Detector(standard)
    has_boxes = ours.info.task != "classify"
    options = DetectOptions(score_threshold=arguments.score, iou_threshold=0.7) if has_boxes else None
    feed = np.random.default_rng(0).random((1, 3, *plain.input_hw), np.float32)
    canvas = ours.placement(image.shape[:2]).apply(image)[None]
    base = "bare run, standard ONNX"
    cases: dict[str, Callable[[], object]] = {
        base: lambda: standard.run({"images": feed}),
        "bare run, our graph": lambda: fastest.run({"images": canvas}),
        "ours": lambda: ours(image, options=options),
        "ours, standard ONNX": lambda: plain(image, options=options),
    }
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    timings = interleaved(cases, arguments.rounds, clock=clock)
    height, width = image.shape[:2]
    print(conditions(*PACKAGES))
    what = "CPU time of one thread" if arguments.cpu_time else "wall time"
    print(f"{arguments.model.name} × {arguments.widen}, {arguments.photo.name} {width}×{height}, {what}")
    print(f"{arguments.rounds} rounds, found: {ours(image, options=options)}\n")
    print(table(timings, base))
    if arguments.json:
        record = {"conditions": conditions(*PACKAGES), "seconds": {n: t.seconds for n, t in timings.items()}}
        arguments.json.write_text(json.dumps(record, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--widen", type=int, default=1, help="how many copies of each channel; 1 changes nothing")
    parser.add_argument("--transform", help="of a classification model whose file does not say it")
    parser.add_argument("--score", type=float, default=0.25, help="score threshold")
    parser.add_argument("--cpu-time", action="store_true", help="one thread, and the time of the process")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
