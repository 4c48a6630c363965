"""What a frame costs Python between a call and its result on the GPU path, measured without a GPU.

    python bench/frame_cost.py                               # all ways, one and two devices
    python bench/frame_cost.py --ways stream --gpus 1 --profile

A stand-in for the driver does nothing and takes its time without a processor and without Python's lock: as long as an
H100 needs for a batch of yolov5n in float32 (0.85 ms and 0.31 for each image), and for a copy (55 GB/s). So the
processor time of this process is what Python and the bindings take. Frames are small, so that copying them counts for
little. Results have five boxes.

For each way: frames a second, the share of what the network alone would do, microseconds of processor time for each
frame (in the thread that calls, in those that run batches, in all), and how often a thread waited or lost the processor
(both per frame, as Linux counts them: a hand-over of Python's lock is one of them), and images in a run. Rounds
alternate between the ways.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "src")]

import numpy as np  # noqa: E402 - the path above comes first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAYS = ("stream", "stream pinned", "submit", "detect_batch", "threads", "threads pinned", "call", "call pinned")
SLOTS = 4
RUNS: list[int] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--gpus", default="1,2", help="how many devices, each in a process of its own")
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frame-hw", default="48x64")
    parser.add_argument("--run-us", default="850,310,55", help="of a batch, of an image in it; GB/s of copies")
    parser.add_argument("--profile", action="store_true", help="print where the time goes; distorts the figures")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        print(json.dumps(child(arguments)))
        return
    from helpers.cuda_emulator import with_stand_in_driver

    rows: list[dict[str, Any]] = []
    names = "frames/s share caller runs µs/frame waits taken a-run"
    print(f"{'':24}" + "".join(f"{name:>9}" for name in names.split()))
    for gpus in map(int, arguments.gpus.split(",")):
        with tempfile.TemporaryDirectory() as cache:
            environment = with_stand_in_driver(Path(cache))
            environment["STAND_IN_IDLE"] = arguments.run_us
            if gpus > 1:
                environment["STAND_IN_DEVICES"] = "2"
            command = [sys.executable, __file__, *sys.argv[1:], f"--child={gpus}"]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        for row in json.loads(done.stdout.splitlines()[-1]):
            rows.append(row)
            print(
                f"{row['gpus']} × {row['way']:20}{row['rate']:9.0f}{row['share']:9.2f}{row['caller_us']:9.1f}"
                f"{row['runs_us']:9.1f}{row['all_us']:9.1f}{row['waits']:9.2f}{row['taken']:9.2f}{row['images']:9.1f}",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


def child(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    height, width = map(int, arguments.frame_hw.split("x"))
    graph_us, image_us, _ = map(float, arguments.run_us.split(","))
    network = arguments.child * 32 / (graph_us + 32 * image_us) * 1e6
    rows: dict[str, list[dict[str, float]]] = {}
    with detector_on(arguments.child) as detector:
        frames = {
            "": [np.full((height, width, 3), n, np.uint8) for n in range(64)],
            "pinned": [detector.pinned_frame((height, width)) for _ in range(64)],
        }
        for round_number in range(arguments.rounds + 1):
            for name in arguments.ways.split(","):
                way, _, kind = name.partition(" ")
                given = [frames[kind][n % 64] for n in range(arguments.frames if way != "call" else 300)]
                if arguments.profile and round_number == arguments.rounds:
                    profiled(lambda given=given, way=way: run(detector, way, given), name)
                    continue
                row = measured(lambda given=given, way=way: run(detector, way, given), len(given))
                if round_number:
                    rows.setdefault(name, []).append(row)
    return [
        {
            "gpus": arguments.child,
            "way": name,
            "share": statistics.median(row["rate"] for row in found) / network,
            **{key: statistics.median(row[key] for row in found) for key in found[0]},
        }
        for name, found in rows.items()
    ]


def run(detector: Any, way: str, frames: list[Any]) -> None:
    if way == "stream":
        found = [outcome.unwrap() for outcome in detector.stream(frames)]
    elif way == "submit":
        found = [future.result() for future in [detector.submit(frame) for frame in frames]]
    elif way in {"detect_batch", "threads"}:
        lists = [frames[start : start + 32] for start in range(0, len(frames), 32)]
        if way == "threads":  # as many batches in flight as there are slots
            with ThreadPoolExecutor(SLOTS) as pool:
                found = list(chain.from_iterable(pool.map(detector.detect_batch, lists)))
        else:
            found = list(chain.from_iterable(map(detector.detect_batch, lists)))
    else:
        found = [detector(frame) for frame in frames]
    assert len(found) == len(frames)
    assert all(len(one) == 5 for one in found)


def measured(work: Callable[[], None], frames: int) -> dict[str, float]:
    before, began = getrusage(RUSAGE_SELF), time.perf_counter()
    caller, process = time.thread_time(), time.process_time()
    RUNS.clear()
    work()
    took = time.perf_counter() - began
    caller, process = time.thread_time() - caller, time.process_time() - process
    after = getrusage(RUSAGE_SELF)
    return {
        "rate": frames / took,
        "caller_us": caller / frames * 1e6,
        "runs_us": (process - caller) / frames * 1e6,
        "all_us": process / frames * 1e6,
        "waits": (after.ru_nvcsw - before.ru_nvcsw) / frames,
        "taken": (after.ru_nivcsw - before.ru_nivcsw) / frames,
        "images": statistics.mean(RUNS) if RUNS else 0.0,  # decoders alone run nothing
    }


def profiled(work: Callable[[], None], name: str) -> None:
    """Print where the caller's thread and one that runs batches spend their time."""
    from yoloship.detect.batching import Batcher

    profiles: dict[str, cProfile.Profile] = {}
    original = Batcher._next

    def watched(self: Any) -> Any:
        profile = profiles.setdefault(threading.current_thread().name, cProfile.Profile(time.thread_time))
        profile.disable()
        profile.enable()
        return original(self)

    Batcher._next = watched  # type: ignore[method-assign]
    own = profiles["MainThread"] = cProfile.Profile(time.thread_time)
    own.runcall(work)
    Batcher._next = original  # type: ignore[method-assign]
    for thread, profile in sorted(profiles.items())[:2]:
        print(f"--- {name}: {thread}", file=sys.stderr)
        profile.create_stats()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(22)


@contextmanager
def detector_on(gpus: int) -> Iterator[Any]:
    """A detector over stand-in devices, ready for all batches."""
    from helpers.kept import compiled_kernels
    from helpers.models import info
    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device
    from yoloship.detect.detector import Detector
    from yoloship.detect.gpu.finishing import KernelFinish
    from yoloship.detect.gpu.pipeline import CudaPipeline
    from yoloship.detect.gpu.several import SeveralGpus
    from yoloship.detect.gpu.slots import Slot
    from yoloship.detect.gpu.transfer import CudaTuning
    from yoloship.detect.pipeline import ModelInput

    record = info("raw", batch=None, input_form="float", input_hw=(640, 640))
    with ExitStack() as stack:
        parts = []
        for number in range(gpus):
            device = stack.enter_context(Device.open(number))
            kernels = stack.enter_context(KernelSet(device, compiled_kernels()))
            model = ModelInput.checked(record, None, "square", "model")
            tuning = CudaTuning(slots=SLOTS, max_batch=32)
            parts.append(CudaPipeline(still_session(device, record), dict(kernels), model, tuning=tuning))
        made = KernelFinish.__init__

        def five(self: Any, *given: Any) -> None:
            made(self, *given)
            self._heads[:] = 5, 5, 0, 0

        KernelFinish.__init__ = five  # type: ignore[method-assign]
        stack.callback(setattr, KernelFinish, "__init__", made)
        run = Slot.run

        def counted(self: Any, frames: Any, *given: Any) -> Any:
            RUNS.append(len(frames))
            return run(self, frames, *given)

        Slot.run = counted  # type: ignore[method-assign]
        stack.callback(setattr, Slot, "run", run)
        detector = stack.enter_context(Detector.over(parts[0] if gpus == 1 else SeveralGpus(parts)))
        detector.prepare()
        yield detector


def still_session(device: Any, record: Any) -> Any:
    """A network on a stand-in device, which leaves its output as it is."""
    from yoloship.cuda.buffers import DeviceBuffer
    from yoloship.model import METADATA_KEY, TensorSpec
    from yoloship.runtime.session import DeviceContext, DeviceSession, DeviceTensor

    class Still(DeviceContext):
        capturable = True

        def __init__(self, shape: tuple[int, ...], stream: Any) -> None:
            cells = shape[2] * shape[3] * 63 // 1024
            out = (shape[0], cells, 5 + len(record.class_names))
            self._owned = [DeviceBuffer(stream.device, 4 * int(np.prod(one))) for one in (shape, out)]
            super().__init__(
                stream,
                [DeviceTensor("images", "float32", shape, self._owned[0].pointer)],
                [DeviceTensor("output", "float32", out, self._owned[1].pointer)],
            )

        def enqueue(self) -> None:
            pass

        def rehearse(self) -> None:
            pass

        def close(self) -> None:
            for buffer in self._owned:
                buffer.close()

    class StillSession(DeviceSession):
        name = "still"

        def context(self, input_shapes: Any, stream: Any) -> Still:
            return Still(input_shapes["images"], stream)

        def close(self) -> None:
            pass

    inputs = (TensorSpec("images", "float32", ("batch", 3, "height", "width")),)
    outputs = (TensorSpec("output", "float32", ("batch", "cells", "values")),)
    return StillSession(device, inputs, outputs, {METADATA_KEY: record.to_json()})


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
