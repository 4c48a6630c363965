"""What a folder of JPEGs costs Python on its way through `stream`, on a GPU that only keeps its time.

    python3 bench/folder_flow.py [--photos FOLDER] [--files 2000] [--rounds 3] [--only files|arrays|bytes] [--gpus 2]

All of our code runs: readers, the queue of the decoder, batches, results. The driver and nvJPEG are the stand-ins of
the tests, which compute nothing, and sleep as long as was measured on an H100 (nvJPEG 5.2 ms for 32 files, yolov5n
10.7 ms). So what is seen is what Python costs and how often its lock passes from one thread to another. The host of
that H100 ran Python about three times as slowly as the machine that this was written on: `--slower 3` lets the GPU go
on three times as fast instead.

With `--python`, the GPU takes no time, and of the files' data only the beginning is left. On one core, nearly all that
is measured is then Python, and the same from round to round: `taskset -c 1 python3 bench/folder_flow.py --python`.

Prints for each round:

- files a second, as a share of the network alone in this run too;
- microseconds of this process's processor time for each file, in Python and in the system;
- how often a thread gave up its core to wait for something, for each file: nearly always for Python's lock;
- images of each run of the network, and files of each batch of the decoder;
- processor time and waits by thread.
"""

from __future__ import annotations

import argparse
import collections
import gc
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import numpy as np  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

_INSIDE = "YOLOSHIP_FOLDER_FLOW"
_SIDE = 640
_DISTINCT = 96
_BATCH_US, _IMAGE_US = 800, 310
"""Of yolov5n in float32 on an H100: microseconds of a batch, and of each of its images."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder with JPEGs; default: three that are made here")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("files", "bytes", "arrays"))
    parser.add_argument("--gpus", type=int, choices=(1, 2), default=1)
    parser.add_argument("--python", action="store_true", help="hardly any data, and a GPU that takes no time")
    parser.add_argument("--slower", type=float, default=1, help="how many times slower the host is: the GPU is faster")
    arguments = parser.parse_args()
    if _INSIDE in os.environ:
        _measure(arguments)
        return
    from helpers import nvjpeg_standin
    from helpers.cuda_emulator import with_stand_in_driver

    with tempfile.TemporaryDirectory() as cache:
        environment = {**with_stand_in_driver(Path(cache)), _INSIDE: "1"}
        slower = arguments.slower
        environment["STAND_IN_IDLE"] = f"{_BATCH_US / slower},{_IMAGE_US / slower},{25 * slower}"
        if arguments.gpus == 2:
            environment["STAND_IN_DEVICES"] = "2"
        environment["STAND_IN_JPEG_US"] = f"{900 / slower},{135 / slower}"
        if arguments.python:
            environment["STAND_IN_IDLE"], environment["STAND_IN_JPEG_US"] = "1,0.5,100000", "1,0.5"
        environment["LD_LIBRARY_PATH"] += f":{nvjpeg_standin.folder()}"
        sys.exit(subprocess.run([sys.executable, *sys.orig_argv[1:]], env=environment, check=False).returncode)


def _measure(arguments: argparse.Namespace) -> None:
    from helpers.kept import compiled_kernels
    from helpers.models import info
    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device
    from yoloship.detect.detector import Detector
    from yoloship.detect.gpu.pipeline import CudaPipeline
    from yoloship.detect.gpu.several import SeveralGpus
    from yoloship.detect.gpu.transfer import CudaTuning
    from yoloship.detect.pipeline import ModelInput

    record = info(batch=None, input_hw=(_SIDE, _SIDE))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        files = _folder(Path(folder), arguments)
        model = ModelInput.checked(record, None, "square", "model")
        pipelines = []
        for ordinal in range(arguments.gpus):
            device = stack.enter_context(Device.open(ordinal))
            kernels = stack.enter_context(KernelSet(device, compiled_kernels()))
            session = _session(device, record)
            pipelines.append(CudaPipeline(session, kernels, model, tuning=CudaTuning(max_batch=32), decode="gpu"))
        pipeline = pipelines[0] if len(pipelines) == 1 else SeveralGpus(pipelines)
        with Detector.over(pipeline) as detector:
            detector.prepare()
            batches = _counted(pipelines)
            sys.setswitchinterval(sys.getswitchinterval() / arguments.slower)
            alone = arguments.gpus * arguments.slower * 32e6 / (_BATCH_US + 32 * _IMAGE_US)
            print(f"network alone: {alone:.0f} images a second")
            frame = np.zeros((1080, 810, 3), np.uint8)
            kinds = {
                "files": files,
                "bytes": [Path(file).read_bytes() for file in files[:_DISTINCT]] * (len(files) // _DISTINCT + 1),
                "arrays": [frame] * len(files),
            }
            for _ in range(arguments.rounds):
                for kind, sources in kinds.items():
                    if arguments.only in {None, kind}:
                        _round(kind, detector, sources[: len(files)], alone, batches)


def _round(kind: str, detector: Any, sources: Sequence[Any], alone: float, batches: dict[str, Any]) -> None:
    for counts in batches.values():
        counts.clear()
    gc.collect()
    before, switches = _used(), resource.getrusage(resource.RUSAGE_SELF)
    began_s, count = time.perf_counter(), 0
    stream = detector.stream(sources)
    for outcome in stream:
        count += 1
        assert outcome.error is None, outcome.error
        if count == len(sources):
            after = _used()
    took_s = time.perf_counter() - began_s
    ended = resource.getrusage(resource.RUSAGE_SELF)
    user_us = (ended.ru_utime - switches.ru_utime) / count * 1e6
    system_us = (ended.ru_stime - switches.ru_stime) / count * 1e6
    waits = (ended.ru_nvcsw - switches.ru_nvcsw) / count
    print(
        f"{kind}: {count / took_s:.0f} a second = {count / took_s / alone:.2f}; "
        f"processor {user_us:.0f} + {system_us:.0f} us a file; {waits:.1f} waits a file; "
        + "; ".join(f"{name} {_sizes(counts)}" for name, counts in batches.items())
    )
    spent: collections.Counter[str] = collections.Counter()
    waited: collections.Counter[str] = collections.Counter()
    for thread, (used_ns, waits_then) in after.items():
        name, (used_before_ns, waits_before) = thread.rstrip("0123456789_-"), before.get(thread, (0, 0))
        spent[name] += used_ns - used_before_ns
        waited[name] += waits_then - waits_before
    each = [f"{name} {ns / count / 1e3:.0f} us, {waited[name] / count:.2f}" for name, ns in spent.most_common()]
    print("   ", "; ".join(each), flush=True)


def _sizes(counts: collections.Counter[int]) -> str:
    whole = sum(counts.values()) or 1
    return f"{sum(size * count for size, count in counts.items()) / whole:.1f} ({whole})"


def _used() -> dict[str, tuple[int, int]]:
    """Nanoseconds of processor time, and how often it gave up its core to wait, by thread."""
    found = {}
    for thread in threading.enumerate():
        try:
            task = Path(f"/proc/self/task/{thread.native_id}")
            used_ns, status = int((task / "schedstat").read_text().split()[0]), (task / "status").read_text()
        except OSError:
            continue
        found[thread.name] = used_ns, int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


def _counted(pipelines: Sequence[Any]) -> dict[str, collections.Counter[int]]:
    runs: collections.Counter[int] = collections.Counter()
    decoded: collections.Counter[int] = collections.Counter()
    for pipeline in pipelines:
        _count(pipeline, runs, decoded)
    return {"runs": runs, "decoded": decoded}


def _count(pipeline: Any, runs: collections.Counter[int], decoded: collections.Counter[int]) -> None:
    engine = pipeline._jpegs.queue().engine
    run, decode = pipeline._run, engine.decode

    def counted(slot: Any, frames: Any, batch: int, options: Any) -> Any:
        runs[len(frames)] += 1
        return run(slot, frames, batch, options)

    def counted_files(files: Any, blocks: Any) -> Any:
        decoded[len(files)] += 1
        return decode(files, blocks)

    pipeline._run, engine.decode = counted, counted_files


def _session(device: Any, record: Any) -> Any:
    """A network that takes its time, and whose answer nobody computes: no objects."""
    from helpers.canned_device import CannedContext, CannedSession
    from yoloship.cuda.jpeg_check import PendingCheck

    class Session(CannedSession):
        def context(self, input_shapes: Any, stream: Any) -> Any:
            return CannedContext(self, input_shapes["images"], stream)  # whatever its batch

    settle = PendingCheck.verdicts

    def sound(self: Any) -> list[bool]:  # no kernel writes verdicts
        return [True] * len(settle(self))

    PendingCheck.verdicts = sound  # type: ignore[method-assign]

    def answer(canvas_hw: tuple[int, int]) -> list[Any]:
        grids = [(canvas_hw[0] // stride, canvas_hw[1] // stride) for stride in (8, 16, 32)]
        return [np.zeros((3 * 8, *grid), np.float32) for grid in grids]

    return Session(device, record, answer)


def _folder(folder: Path, arguments: argparse.Namespace) -> list[str]:
    from helpers import jpegs

    if arguments.photos is None:
        sizes = ((1080, 810), (720, 1280), (1080, 1920))
        data = [jpegs.encoded(jpegs.picture(*hw)) for hw in sizes]
    else:
        data = [path.read_bytes() for path in sorted(arguments.photos.glob("*.jpg"))]
    if arguments.python:
        data = [_beginning(one) for one in data]
    names = [folder / f"{number:03}.jpg" for number in range(_DISTINCT)]
    for number, name in enumerate(names):
        name.write_bytes(data[number % len(data)])
    return [str(names[number % _DISTINCT]) for number in range(arguments.files)]


def _beginning(jpeg: bytes) -> bytes:
    """A file with the same header and little data. Nobody decodes it."""
    at = jpeg.rindex(b"\xff\xda") + 14
    return jpeg[:at] + jpeg[at : at + 6000].rstrip(b"\xff") + b"\xff\xd9"


if __name__ == "__main__":
    main()
