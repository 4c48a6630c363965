"""What TensorRT's real Python bindings cost over the stand-in library, against the stand-in in Python, on this GPU.

    PYTHONPATH=tests python -m helpers.tensorrt_library 10.13.0.35 python bench/gpu_bindings.py --out gpu_bindings.json

Both are **not TensorRT**: torch computes on the stream behind each of them (over the stand-in driver, ONNX Runtime on
the CPU). The same engine runs through both in one process, in turns, so their difference is what the calls cost.

- `queue`: one unrecorded run is queued (`execute_async_v3`), by the host's clock, without the wait for it.
- `run`: one unrecorded run, and the wait for it.
- `recorded`: one replay of the recorded run, and the wait for it.
- `context`: a context for a shape is made and closed: profile, shapes, addresses, a first run, a recording.
- `detect`: a frame in pinned memory to boxes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from helpers import tensorrt_standin as standin  # noqa: E402 - the path above leads to it
from helpers.device_sessions import SIDES, small  # noqa: E402
from helpers.tensorrt_library.wheels import chosen  # noqa: E402
from yoloship._util.cache import trusted_folder  # noqa: E402
from yoloship.checkpoint import read_checkpoint  # noqa: E402
from yoloship.cuda.compiler import KernelSet  # noqa: E402
from yoloship.cuda.device import Device  # noqa: E402
from yoloship.cuda.stream import Stream  # noqa: E402
from yoloship.demo.run import checkpoint_bytes  # noqa: E402
from yoloship.demo.scene import make_scene  # noqa: E402
from yoloship.detect.detector import Detector  # noqa: E402
from yoloship.detect.gpu.pipeline import CudaPipeline  # noqa: E402
from yoloship.detect.gpu.transfer import CudaTuning  # noqa: E402
from yoloship.detect.pipeline import ModelInput  # noqa: E402
from yoloship.graph import GraphConfig, build_graph, model_info  # noqa: E402
from yoloship.runtime.tensorrt import TensorRTSession  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.engine import Flavour

SHAPE = {"images": (1, 3, 32, 48)}


def in_turns(cases: dict[str, Callable[[], float]], blocks: int, block: int) -> dict[str, dict[str, float]]:
    """Microseconds that each case says, in blocks that take turns."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(blocks):
        for name, case in cases.items():
            for _ in range(min(5, block)):
                case()
            times[name] += [case() * 1e6 for _ in range(block)]
    return {
        name: {f"p{share}_us": round(float(np.percentile(values, share)), 1) for share in (10, 50, 90)}
        for name, values in times.items()
    }


def timed(work: Callable[[], object], after: Callable[[], object] = lambda: None) -> Callable[[], float]:
    """A function that gives the seconds of `work`, and then does what is not measured."""

    def measured() -> float:
        began = time.perf_counter()
        work()
        took = time.perf_counter() - began
        after()
        return took

    return measured


def cases_of(flavour: Flavour, folder: Path, device: Device, stack: ExitStack) -> dict[str, Callable[[], float]]:
    """The five cases with one flavour."""
    compiled = not device.name.startswith("stand-in")
    path = standin.write_plan(folder / "small.engine", small(), [{"images": SIDES}], compiled=compiled)
    stream = stack.enter_context(Stream(device))
    other = stack.enter_context(Stream(device))
    session = stack.enter_context(TensorRTSession.open(path, device, flavour=flavour))
    context = stack.enter_context(session.context(SHAPE, stream))
    assert context.capturable
    config = GraphConfig(input_hw=(640, 640), batch=None, input_form="image", output_form="heads")
    checkpoint = read_checkpoint(checkpoint_bytes())
    sides = [(1, 640, 640, 3)] * 3
    path = standin.write_plan(
        folder / "detect.engine", build_graph(checkpoint, config), [{"images": sides}], compiled=compiled,
        info=model_info(checkpoint, config),
    )  # fmt: skip
    kernels = stack.enter_context(KernelSet(device, trusted_folder("kernels")))
    model = ModelInput.checked(model_info(checkpoint, config), None, "square", "demo")
    tuning = CudaTuning(slots=1, max_batch=1)
    whole = TensorRTSession.open(path, device, flavour=flavour)
    detector = stack.enter_context(Detector.over(CudaPipeline(whole, kernels, model, tuning=tuning)))
    image = make_scene(1).image
    frame = detector.pinned_frame(image.shape[:2])
    frame[...] = image
    assert len(detector(frame)) > 5

    def both(work: Callable[[], object]) -> Callable[[], None]:
        def done() -> None:
            work()
            stream.sync()

        return done

    def remake() -> None:
        session.context({"images": (1, 3, 48, 32)}, other).close()

    return {
        "queue": timed(context._run, stream.sync),
        "run": timed(both(context._run)),
        "recorded": timed(both(context.enqueue)),
        "context": timed(remake),
        "detect": timed(lambda: detector(frame)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--block", type=int, default=50)
    arguments = parser.parse_args()
    if (version := chosen()) is None:
        parser.error("run it as its first lines say: python -m helpers.tensorrt_library VERSION python bench/…")
    real = standin.flavour()
    flavours = {"python": replace(standin.python_flavour(), version=real.version), "bindings": real}
    with tempfile.TemporaryDirectory() as folder, Device.open() as device, ExitStack() as stack:
        for name in flavours:
            Path(folder, name).mkdir()
        cases = {
            name: cases_of(flavour, Path(folder, name), device, stack) for name, flavour in flavours.items()
        }  # fmt: skip
        report: dict[str, Any] = {
            "what": "the real bindings over the stand-in library against the stand-in in Python; not TensorRT",
            "bindings": version,
            "device": device.name,
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "results": {},
        }
        print(f"bindings {version}, {device.name}; µs, p50 (p10, p90)", flush=True)
        for what in cases["python"]:
            count = arguments.blocks if what != "context" else max(1, arguments.blocks // 4)
            times = in_turns({name: cases[name][what] for name in flavours}, count, arguments.block)
            added = round(times["bindings"]["p50_us"] - times["python"]["p50_us"], 1)
            report["results"][what] = {**times, "added_us": added, "within_10_us": added <= 10}
            row = "  ".join(f"{name} {t['p50_us']} ({t['p10_us']}, {t['p90_us']})" for name, t in times.items())
            print(f"  {what:9s} {row}  added {added}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
