"""One image end to end, from a decoded frame, against a bare run of the field's standard ONNX.

    python bench/bench_pipeline.py best.pt photo.jpg [--rounds 40] [--json FILE]

Everything is interleaved in one process, with an idle gap before each case. Peak memory is measured in a new process
for each case. The official code and Ultralytics join the run if they are installed (see `_real_peers.py`).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from _peers import article_like, official_like
from _real_peers import PACKAGES as PEER_PACKAGES
from _real_peers import official, ultralytics
from _timing import conditions, interleaved, table

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = ("onnxruntime", "opencv-python-headless", "numpy", "yoloship", *PEER_PACKAGES)
TARGETS = {"ours, square": 1.02, "ours, rect": 0.85}
MEMORY_TARGET_MB = 180


def main() -> None:
    arguments = _arguments()
    if arguments.peak_of:
        _one_image(arguments.model, arguments.photo, arguments.peak_of)
        return

    import numpy as np

    from yoloship.checkpoint import read_checkpoint
    from yoloship.detect.detector import Detector
    from yoloship.graph import GraphConfig, build_graph, graph_bytes
    from yoloship.images import read_image
    from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

    checkpoint = read_checkpoint(arguments.model)

    def opened(config: GraphConfig) -> OnnxRuntimeSession:
        return OnnxRuntimeSession.open(graph_bytes(build_graph(checkpoint, config)))

    standard_bytes = graph_bytes(build_graph(checkpoint, GraphConfig()))
    standard = OnnxRuntimeSession.open(standard_bytes)
    undecoded = opened(GraphConfig(input_form="image", output_form="heads"))
    dynamic = opened(GraphConfig(input_hw=None, input_form="image", output_form="heads"))
    image = read_image(arguments.photo)
    square, rect, plain = Detector(undecoded), Detector(dynamic, shape_mode="rect"), Detector(standard)
    feed = np.random.default_rng(0).random((1, 3, 640, 640), np.float32)
    canvas = square.letterbox(image.shape[:2]).apply(image)[None]
    base = "bare run, standard ONNX"
    cases: dict[str, Callable[[], object]] = {
        base: lambda: standard.run({"images": feed}),
        "bare run, our graph": lambda: undecoded.run({"images": canvas}),
        "ours, square": lambda: square(image),
        "ours, rect": lambda: rect(image),
        "ours, standard ONNX": lambda: plain(image),
        "official-like loop": lambda: official_like(standard, image),
        "article-like loop": lambda: article_like(standard, image),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "standard.onnx"
        path.write_bytes(standard_bytes)
        for name, peer in (("official code, torch", official(path)), ("Ultralytics", ultralytics(path))):
            if peer is not None:
                cases[name] = lambda run=peer: run(image)  # type: ignore[misc]
        timings = interleaved(cases, arguments.rounds)
    print(conditions(*PACKAGES))
    height, width = image.shape[:2]
    print(f"{arguments.model.name}, {arguments.photo.name} {width}×{height}, {arguments.rounds} rounds")
    print(f"rect canvas {rect.letterbox(image.shape[:2]).input_hw}, found {square(image)!r}\n")
    print(table(timings, base))
    peaks = {case: _peak_mb(arguments, case) for case in ("imports and a bare run", "ours, square")}
    print("\npeak memory of a process, one image: " + ", ".join(f"{case} {mb:.0f} MB" for case, mb in peaks.items()))
    print(f"targets: {TARGETS}, memory at most {MEMORY_TARGET_MB} MB")
    if arguments.json:
        record = {
            "conditions": conditions(*PACKAGES),
            "seconds": {name: timing.seconds for name, timing in timings.items()},
            "peak_mb": peaks,
        }
        arguments.json.write_text(json.dumps(record, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def _peak_mb(arguments: argparse.Namespace, case: str) -> float:
    command = [sys.executable, __file__, str(arguments.model), str(arguments.photo), "--peak-of", case]
    for _ in range(2):  # the first run fills the cache of graphs
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _one_image(model: Path, photo: Path, case: str) -> None:
    """Detect on one image in this process, and print the peak memory."""
    import yoloship

    with yoloship.load(model) as detector:
        if case == "ours, square":
            detector(photo)
        else:
            import numpy as np

            detector.session.run({"images": np.zeros((1, 640, 640, 3), np.uint8)})
    print(_own_peak_mb())


def _own_peak_mb() -> float:
    """The peak memory of this process in MB. `ru_maxrss` would include the parent's memory at the fork."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
