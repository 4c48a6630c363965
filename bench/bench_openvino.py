"""ONNX Runtime beside OpenVINO on the CPU: one image from memory, and a folder of JPEG files by `Detector.stream`.

    python bench/bench_openvino.py best.pt photo.jpg [photo.jpg …] --json out.json [--count 120] [--rounds 15]

All cases take turns in one run, so the ratios hold even if the machine is not quiet. If the `onnx` package is not
installed, give graphs that were exported on another machine instead of the checkpoint:

    yoloship export best.pt -o square.onnx --input image --output heads --imgsz 640
    yoloship export best.pt -o rect.onnx --input image --output heads --imgsz dynamic
    python bench/bench_openvino.py square.onnx photo.jpg --rect-model rect.onnx --json out.json

It needs NumPy, OpenCV, ONNX Runtime (with protobuf, which comes with it), OpenVINO, click and simplejpeg. The file is
not called ``openvino.py`` because Python would then import it instead of the library.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

import cv2
import numpy as np
from _photos import copies_of
from _timing import conditions, interleaved

import yoloship
from yoloship.errors import YoloshipError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from yoloship import Detections, Detector

RUNTIMES: dict[str, dict[str, Any]] = {
    "onnxruntime float32": {"runtime": "onnxruntime"},
    "openvino float32": {"runtime": "openvino", "runtime_precision": "float32"},
    "openvino bfloat16": {"runtime": "openvino", "runtime_precision": "bfloat16"},
}
BASE = "onnxruntime float32"
SHAPES = ("square", "rect")
TARGETS: dict[str, float] = {
    "latency of openvino bfloat16, at most": 0.65,
    "images a second of openvino bfloat16, at least": 2.0,
}
PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "simplejpeg", "click", "yoloship")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a checkpoint, or an ONNX file of a fixed size")
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--rect-model", type=Path, help="an ONNX file of dynamic size; not needed with a checkpoint")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--count", type=int, default=120, help="files in the folder")
    parser.add_argument("--rounds", type=int, default=15, help="of the latency")
    parser.add_argument("--folder-rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    arguments = parser.parse_args()

    report: dict[str, Any] = {"targets": TARGETS, "model": arguments.model.name, "conditions": _conditions()}
    print(report["conditions"]["line"])
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("YOLOSHIP_CACHE", str(Path(folder) / "cache"))
        paths = copies_of(arguments.photos, arguments.count, Path(folder))
        for shape in arguments.shapes:
            model = arguments.model if shape == "square" else arguments.rect_model or arguments.model
            try:
                report[shape] = _measured(model, shape, paths, arguments.rounds, arguments.folder_rounds)
            except YoloshipError as error:
                report[shape] = {"failed": str(error)}
            print(json.dumps(report[shape], indent=1))
    report["load_afterwards"] = _load()
    report["met"] = {shape: _met(report[shape]) for shape in arguments.shapes}
    print(json.dumps(report["met"], indent=1))
    arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _measured(model: Path, shape: str, paths: Sequence[Path], rounds: int, folder_rounds: int) -> dict[str, Any]:
    frame = cv2.imread(str(paths[0]))
    with ExitStack() as stack:
        one: dict[str, Detector] = {}
        many: dict[str, Detector] = {}
        refused: dict[str, str] = {}
        for name, how in RUNTIMES.items():
            try:
                one[name] = stack.enter_context(yoloship.load(model, shape_mode=shape, device="cpu", **how))  # type: ignore[arg-type]
                many[name] = stack.enter_context(
                    yoloship.load(model, shape_mode=shape, device="cpu", tuned_for="throughput", **how)  # type: ignore[arg-type]
                )
            except YoloshipError as error:  # noqa: PERF203 - each may be refused
                one.pop(name, None)
                refused[name] = str(error)
        timings = interleaved({name: _detect(detector, frame) for name, detector in one.items()}, rounds)
        folder: dict[str, list[float]] = {name: [] for name in many}
        for _ in range(folder_rounds):
            for name, detector in many.items():
                time.sleep(0.5)
                start = time.perf_counter()
                _drain(detector.stream(paths))
                folder[name].append(time.perf_counter() - start)
        found = {name: [outcome.unwrap() for outcome in detector.stream(paths)] for name, detector in many.items()}
        return {
            "refused": refused,
            "latency_ms": {name: round(timing.median * 1e3, 2) for name, timing in timings.items()},
            "latency_quartiles_ms": {
                name: [round(value * 1e3, 2) for value in timing.quartiles] for name, timing in timings.items()
            },
            "latency_ratio": {name: _ratio(timing.seconds, timings[BASE].seconds) for name, timing in timings.items()},
            "images_per_s": {name: round(len(paths) / statistics.median(spent), 1) for name, spent in folder.items()},
            "images_per_s_of_rounds": {
                name: [round(len(paths) / seconds, 1) for seconds in spent] for name, spent in folder.items()
            },
            "images_per_s_ratio": {name: _ratio(folder[BASE], spent) for name, spent in folder.items()},
            "agreement": {name: _agreement(found[BASE], other) for name, other in found.items() if name != BASE},
        }


def _met(found: Mapping[str, Any]) -> dict[str, bool] | str:
    """Whether each target was met; a reason if it could not be measured."""
    name, (latency, folder) = "openvino bfloat16", TARGETS
    if name not in found.get("latency_ratio", {}):
        return str(found.get("failed") or found["refused"].get(name, "not measured"))
    return {
        latency: found["latency_ratio"][name] <= TARGETS[latency],
        folder: found["images_per_s_ratio"].get(name, 0.0) >= TARGETS[folder],
    }


def _detect(detector: Detector, frame: Any) -> Callable[[], object]:
    return lambda: detector(frame)


def _drain(outcomes: Iterable[Any]) -> None:
    for outcome in outcomes:
        outcome.unwrap()


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of all rounds."""
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def _agreement(right: Sequence[Detections], other: Sequence[Detections]) -> Mapping[str, object]:
    """How many detections of ONNX Runtime the other runtime has too (same class, IoU from 0.5), and how far off."""
    pairs, worst_iou, worst_score = 0, 1.0, 0.0
    for want, have in zip(right, other, strict=True):
        free = set(range(len(have)))
        for row in range(len(want)):
            ious = {k: _iou(want.boxes_xyxy[row], have.boxes_xyxy[k]) for k in free}
            same = {k: iou for k, iou in ious.items() if iou >= 0.5 and have.class_ids[k] == want.class_ids[row]}
            if same:
                best = max(same, key=lambda k: same[k])
                free.remove(best)
                pairs += 1
                worst_iou = min(worst_iou, same[best])
                worst_score = max(worst_score, abs(float(want.scores[row]) - float(have.scores[best])))
    return {
        "detections_of_onnxruntime": sum(map(len, right)),
        "detections": sum(map(len, other)),
        "in_both": pairs,
        "worst_iou": round(worst_iou, 4),
        "worst_score_difference": round(worst_score, 4),
    }


def _iou(a: Any, b: Any) -> float:
    left, top = np.maximum(a[:2], b[:2])
    right, bottom = np.minimum(a[2:], b[2:])
    inside = max(0.0, float(right - left)) * max(0.0, float(bottom - top))
    areas = float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]))
    return inside / (areas - inside) if areas > inside else 0.0


def _conditions() -> dict[str, Any]:
    flags: set[str] = set()
    if (info := Path("/proc/cpuinfo")).exists():
        line = next((line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("flags")), "")
        flags = set(line.split())
    return {
        "line": conditions(*PACKAGES),
        "processor_flags": {flag: flag in flags for flag in FLAGS},
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "load_before": _load(),
    }


def _load() -> list[float]:
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else []


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed as a package"


if __name__ == "__main__":
    main()
