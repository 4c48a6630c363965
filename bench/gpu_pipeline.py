"""From a frame on the host to boxes, against the network alone, on this GPU: the figures that the pipeline must show.

    python bench/gpu_pipeline.py --data runs/gpu-data --out gpu_pipeline.json

Engines: `onnxruntime` (its CUDA provider), `stand-in` (TensorRT's API over torch; tests/helpers/tensorrt_standin.py)
and `stand-in-compiled` (the same over kernels that torch's compiler makes, which is as fast as a network gets here).
Every figure is the host's clock; what is compared is measured in turns, a block of one after a block of the other. The
file is written after each section, so a run that is cut short leaves what it has.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import threading
import time
import traceback
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from _article_gpu import article_detect  # noqa: E402 - the path above leads to it

from yoloship._util.cache import trusted_folder  # noqa: E402
from yoloship.checkpoint import read_checkpoint  # noqa: E402
from yoloship.cuda.compiler import KernelSet, nvrtc_version  # noqa: E402
from yoloship.cuda.device import Device  # noqa: E402
from yoloship.detect.detector import Detector  # noqa: E402
from yoloship.detect.gpu.pipeline import CudaPipeline  # noqa: E402
from yoloship.detect.gpu.staging import Frame  # noqa: E402
from yoloship.detect.gpu.transfer import CudaTuning, RowPick  # noqa: E402
from yoloship.detect.pipeline import ModelInput  # noqa: E402
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info  # noqa: E402
from yoloship.images import read_image  # noqa: E402
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yoloship.results.detections import Detections

PHOTOS = ("bus.jpg", "zidane.jpg", "street.jpg")


class Run:
    """What one engine's sections share."""

    def __init__(self, arguments: argparse.Namespace, device: Device, engine: str, precision: str) -> None:
        self.arguments, self.device, self.engine, self.precision = arguments, device, engine, precision
        self.side = arguments.side
        self.checkpoint = read_checkpoint(arguments.data / "coco-yolov5n.pt")
        self.photos = {name: read_image(arguments.data / name) for name in PHOTOS}
        self.results: dict[str, Any] = {}
        self.folder = Path()

    def session(self, config: GraphConfig) -> Any:
        model = build_graph(self.checkpoint, config)
        if self.engine == "onnxruntime":
            from yoloship.runtime.onnxruntime.cuda import CudaProviderOptions, OnnxRuntimeCudaSession

            options = CudaProviderOptions(convolution_search=self.arguments.search)
            return OnnxRuntimeCudaSession.open(graph_bytes(model), self.device, options)
        from helpers import tensorrt_standin as standin
        from yoloship.runtime.tensorrt import TensorRTSession

        path = self.folder / f"{len(list(self.folder.iterdir()))}.engine"
        channels = (3,) if config.input_form == "image" else ()
        front = () if config.input_form == "image" else (3,)
        sides = [(batch, *front, self.side, self.side, *channels) for batch in (1, 1, self.arguments.batch)]
        profiles = [{"images": sides}] if config.batch is None else ()
        compiled = self.engine == "stand-in-compiled"
        standin.write_plan(path, model, profiles, info=model_info(self.checkpoint, config), compiled=compiled)
        return TensorRTSession.open(path, self.device, flavour=standin.flavour())

    def config(self, **changes: Any) -> GraphConfig:
        settings = {"input_hw": (self.side, self.side), "batch": None, "input_form": "image", "output_form": "heads"}
        if self.precision == "float16":
            settings["precision"] = "float16"
        return GraphConfig(**{**settings, **changes})  # type: ignore[arg-type]  # named above

    def pinned(self, detector: Detector, image: Any) -> Any:
        frame = detector.pinned_frame(image.shape[:2])
        frame[...] = image
        return frame


def summary(microseconds: list[float]) -> dict[str, float]:
    p50, p90, p99 = (round(float(value), 1) for value in np.percentile(microseconds, [50, 90, 99]))
    return {"p50_us": p50, "p90_us": p90, "p99_us": p99, "runs": len(microseconds)}


def in_turns(cases: dict[str, Callable[[], object]], blocks: int, block: int) -> dict[str, dict[str, float]]:
    """Microseconds of every case, in blocks that take turns."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(blocks):
        for name, case in cases.items():
            for _ in range(min(5, block)):
                case()
            for _ in range(block):
                began = time.perf_counter()
                case()
                times[name].append((time.perf_counter() - began) * 1e6)
    return {name: summary(values) for name, values in times.items()}


def rate(work: Callable[[], object], threads: int, images: int, seconds: float) -> float:
    """Images a second of several threads that each repeat `work`, which takes `images`."""
    counts = [0] * threads
    stop = threading.Event()
    ready = threading.Barrier(threads + 1)

    failures: list[BaseException] = []

    def loop(number: int) -> None:
        try:
            work()
            ready.wait()
            while not stop.is_set():
                work()
                counts[number] += 1
        except threading.BrokenBarrierError:
            return
        except BaseException as error:
            failures.append(error)
            stop.set()
            ready.abort()

    pool = [threading.Thread(target=loop, args=(number,)) for number in range(threads)]
    for thread in pool:
        thread.start()
    began = time.perf_counter()
    try:
        ready.wait()
        began = time.perf_counter()
        stop.wait(seconds)
    except threading.BrokenBarrierError:
        pass
    stop.set()
    for thread in pool:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) * images / (time.perf_counter() - began)


def agreement(run: Run, detector: Detector) -> dict[str, Any]:
    """Boxes on the photos against the CPU pipeline in float32."""
    config = GraphConfig(input_hw=(run.side, run.side), batch=1, input_form="image", output_form="heads")
    least = 0.99 if run.precision == "float32" else 0.97
    report: dict[str, Any] = {"least_iou_wanted": least}
    with Detector(OnnxRuntimeSession.open(graph_bytes(build_graph(run.checkpoint, config)))) as cpu:
        for name, photo in run.photos.items():
            wanted, found = cpu(photo), detector(photo)
            report[name] = match(wanted, found)
    print(f"  {report}", flush=True)
    report["passed"] = all(
        row["unmatched"] == 0 and row["worst_iou"] >= least for row in report.values() if isinstance(row, dict)
    )
    return report


def cuda(detector: Detector) -> CudaPipeline:
    """What runs behind a detector on a GPU: some of what is measured here is not for users."""
    assert isinstance(detector._pipeline, CudaPipeline)
    return detector._pipeline


def match(wanted: Detections, found: Detections) -> dict[str, Any]:
    """Each box wanted with the best one found of its class; boxes near the threshold may be missing on one side."""
    worst, unmatched, score_gap = 1.0, 0, 0.0
    for one, other in ((wanted, found), (found, wanted)):
        for box, score, class_id in zip(one.boxes_xyxy, one.scores, one.class_ids, strict=True):
            rivals = np.flatnonzero(other.class_ids == class_id)
            ious = [iou(box, other.boxes_xyxy[index]) for index in rivals]
            best = max(ious, default=0.0)
            if best < 0.5:
                unmatched += int(score > 0.27)
                continue
            worst = min(worst, best)
            score_gap = max(score_gap, abs(float(score - other.scores[rivals[int(np.argmax(ious))]])))
    return {
        "boxes_cpu": len(wanted), "boxes_gpu": len(found), "worst_iou": round(worst, 5),
        "unmatched": unmatched, "largest_score_difference": round(score_gap, 6),
    }  # fmt: skip


def iou(a: Any, b: Any) -> float:
    width = max(0.0, float(min(a[2], b[2]) - max(a[0], b[0])))
    height = max(0.0, float(min(a[3], b[3]) - max(a[1], b[1])))
    union = float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])) - width * height
    return width * height / union if union > 0 else 0.0


def latency(run: Run, detector: Detector) -> dict[str, Any]:
    """One frame at a time: overhead over the network alone, for frames of usual sizes, and every way up."""
    arguments = run.arguments
    usual = cv2.resize(run.photos["bus.jpg"], (810, 1080))
    report: dict[str, Any] = {}
    with detector.network(1) as network:
        alone = in_turns({"network": network}, 2, arguments.block)["network"]
    print(f"  network alone {alone['p50_us']} µs", flush=True)
    for size in ((810, 1080), (1920, 1080), (3840, 2160)):
        name, image = f"{size[0]}x{size[1]}", cv2.resize(run.photos["bus.jpg"], size)
        pinned = run.pinned(detector, image)
        cases: dict[str, Callable[[], object]] = {
            "pinned": lambda pinned=pinned: detector(pinned),  # type: ignore[misc]
            "pageable": lambda image=image: detector(image),  # type: ignore[misc]
        }
        pool = cuda(detector)._pool
        slot = pool.take()
        cases = {"network": slot.network(1, detector.input_hw), **cases}
        pool.give(slot)  # a lone thread gets the same slot for all cases
        times = in_turns(cases, arguments.blocks, arguments.block)
        base = times["network"]["p50_us"]
        for case in ("pinned", "pageable"):
            times[case]["overhead_us"] = round(times[case]["p50_us"] - base, 1)
            times[case]["ratio"] = round(times[case]["p50_us"] / base, 3)
        modes = {
            case: cuda(detector).place(pinned if case == "pinned" else image, "bgr").mode
            for case in ("pinned", "pageable")
        }
        print(f"  {name}: {times}", flush=True)
        report[name] = {"times": times, "modes": modes, "all_modes": all_modes(run, detector, image, pinned)}
    usual_pinned = run.pinned(detector, usual)
    for name, frames in (("batch 1", [usual_pinned]), (f"batch {arguments.batch}", [usual_pinned] * arguments.batch)):
        measured = [detector.profile(frames) for _ in range(arguments.block + 2)][2:]
        rows = [{**one.stages_ms, "total": one.total_ms} for one in measured]
        stages = {stage: round(float(np.median([row[stage] for row in rows])) * 1e3, 1) for stage in rows[0]}
        report[f"stages_us {name}"] = stages
        print(f"  stages {name}: {stages}", flush=True)
    return report


def all_modes(run: Run, detector: Detector, image: Any, pinned: Any) -> dict[str, Any]:
    """Every kind of upload for one frame, not only the one that the policy would choose."""
    box = detector.letterbox(image.shape[:2])
    options = detector.options

    def go(frame: Frame) -> Callable[[], object]:
        return lambda: cuda(detector).run((frame,), options)

    cases = {
        "pinned": go(Frame(pinned, box, "pinned", pinned.ctypes.data)),
        "mapped": go(Frame(pinned, box, "mapped", pinned.ctypes.data)),
        "copied": go(Frame(image, box, "copied", 0, RowPick.of(box))),
        "resized": go(Frame(image, box, "resized")),
    }
    if (tensor := on_device(image)) is not None:
        cases["resident"] = go(Frame(tensor, box, "resident"))
    report = in_turns(cases, 2, max(1, run.arguments.block // 2))
    for label, row in report.items():
        print(f"    {label:10s} {row['p50_us']:9.1f} µs (p90 {row['p90_us']})", flush=True)
    return report


def on_device(image: Any) -> Any:
    """The image as a torch tensor on the GPU; None if torch cannot do that."""
    try:
        import torch
    except ImportError:
        return None
    return torch.from_numpy(image).cuda() if torch.cuda.is_available() else None


def throughput(run: Run, detector: Detector) -> dict[str, Any]:
    """Batches by several threads, each with a stream, against as many threads that run the network alone."""
    batch, streams, seconds = run.arguments.batch, run.arguments.streams, run.arguments.seconds
    usual = cv2.resize(run.photos["bus.jpg"], (810, 1080))
    report: dict[str, Any] = {}
    for size in (batch, 1):
        pageable = [usual.copy() for _ in range(size)]
        pinned = [[run.pinned(detector, usual) for _ in range(size)] for _ in range(streams)]
        by_pinned = [partial(detector.detect_batch, frames) for frames in pinned]

        def detect_pageable(pageable: Any = pageable) -> None:
            detector.detect_batch(pageable)

        rows: dict[str, list[float]] = {"network": [], "pinned": [], "pageable": []}
        for _ in range(run.arguments.rounds):
            rows["network"].append(network_rate(detector, size, streams, seconds))
            rows["pinned"].append(rate(one_each(by_pinned), streams, size, seconds))
            rows["pageable"].append(rate(detect_pageable, streams, size, seconds))
        row: dict[str, Any] = {name: round(float(np.median(values)), 1) for name, values in rows.items()}
        row["all_rounds"] = {name: [round(value, 1) for value in values] for name, values in rows.items()}
        for name in ("pinned", "pageable"):
            row[f"{name}_share"] = round(row[name] / row["network"], 3)
        report[f"batch {size}, {streams} streams"] = row
        print(f"  images a second, batch {size}, {streams} streams: {row}", flush=True)
    detector.prepare()
    futures_rate = submitted_rate(detector, usual, seconds)
    report["submit, images a second"] = round(futures_rate, 1)
    print(f"  submit: {futures_rate:.0f} images a second", flush=True)
    return report


def network_rate(detector: Detector, batch: int, streams: int, seconds: float) -> float:
    with ExitStack() as stack:
        functions = [stack.enter_context(detector.network(batch)) for _ in range(streams)]
        return rate(one_each(functions), streams, batch, seconds)


def one_each(functions: Sequence[Callable[[], object]]) -> Callable[[], None]:
    """Calls one of them in each thread, always the same one there."""
    left, mine, lock = list(functions), threading.local(), threading.Lock()

    def work() -> None:
        if not hasattr(mine, "run"):
            with lock:
                mine.run = left.pop()
        mine.run()

    return work


def submitted_rate(detector: Detector, image: Any, seconds: float) -> float:
    pending: list[Any] = []
    done = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        pending.append(detector.submit(image))
        if len(pending) >= 256:
            for future in pending[:128]:
                future.result()
            done += 128
            del pending[:128]
    for future in pending:
        future.result()
    return (done + len(pending)) / (time.perf_counter() - began)


def article(run: Run, detector: Detector) -> dict[str, Any]:
    """The article's way on the same engine, in turns with ours, on every photo as it is."""
    config = run.config(batch=1, input_form="float", output_form="raw")
    report: dict[str, Any] = {}
    with run.session(config) as on_device, on_device.as_host_session() as session:
        for name, photo in run.photos.items():
            pinned = run.pinned(detector, photo)
            cases: dict[str, Callable[[], object]] = {
                "article": lambda photo=photo: article_detect(session, photo, run.side),  # type: ignore[misc]
                "ours, pageable": lambda photo=photo: detector(photo),  # type: ignore[misc]
                "ours, pinned": lambda pinned=pinned: detector(pinned),  # type: ignore[misc]
            }
            times = in_turns(cases, run.arguments.blocks, max(3, run.arguments.block // 10))
            usual = times["article"]["p50_us"]
            report[name] = {
                "size": f"{photo.shape[1]}x{photo.shape[0]}",
                "boxes": len(article_detect(session, photo, run.side)),
                **times,
                "times_faster": {case: round(usual / times[case]["p50_us"], 2) for case in cases if case != "article"},
            }
            print(f"  {name}: {report[name]}", flush=True)
    return report


def soak(run: Run, detector: Detector) -> dict[str, Any]:
    """Thousands of frames by 8 threads through one detector: every result right, memory flat."""
    frames = [*run.photos.values(), cv2.resize(run.photos["bus.jpg"], (1920, 1080)), run.photos["bus.jpg"][::2, ::2]]
    pinned = [run.pinned(detector, frame) for frame in frames[:2]]
    frames += pinned
    total, threads = run.arguments.frames, 8
    expected = [detector(frame) for frame in frames]
    marks: list[tuple[int, int, int]] = []
    wrong = [0] * threads
    counter = iter(range(total))
    lock = threading.Lock()

    def mark(done: int) -> None:
        free, _ = run.device.memory()
        marks.append((done, free, rss_bytes()))

    def work(number: int) -> None:
        while True:
            with lock:
                step = next(counter, None)
            if step is None:
                return
            if step % max(1, total // 10) == 0:
                mark(step)
            try:
                wrong[number] += detector(frames[step % len(frames)]) != expected[step % len(frames)]
            except Exception as error:
                wrong[number] += 1
                print(f"  {error}", flush=True)

    began = time.perf_counter()
    pool = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    seconds = time.perf_counter() - began
    mark(total)
    middle = marks[len(marks) // 3]
    report = {
        "frames": total, "threads": threads, "seconds": round(seconds, 2), "per_second": round(total / seconds, 1),
        "wrong": sum(wrong), "device_bytes_grown_after_a_third": middle[1] - marks[-1][1],
        "host_bytes_grown_after_a_third": marks[-1][2] - middle[2], "marks": marks,
        "open": run.device.usage().counts,
    }  # fmt: skip
    print(f"  {report}", flush=True)
    return report


def rss_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(run: Run, write: Callable[[], None]) -> None:
    began = time.perf_counter()
    with ExitStack() as stack:
        run.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yoloship-bench-")))
        kernels = stack.enter_context(KernelSet(run.device, trusted_folder("kernels")))
        config = run.config()
        tuning = CudaTuning(slots=max(4, run.arguments.streams), max_batch=run.arguments.batch)
        session = run.session(config)
        model = ModelInput.checked(model_info(run.checkpoint, config), None, "square", "coco-yolov5n")
        detector = stack.enter_context(Detector.over(CudaPipeline(session, kernels, model, tuning=tuning)))
        detector(run.photos["bus.jpg"])
        run.results["network"] = session.name
        run.results["first_boxes_s"] = round(time.perf_counter() - began, 2)
        slot = cuda(detector)._pool._idle[-1]
        run.results["one_graph_for_the_whole_run"] = next(iter(slot._plans.values())).context.capturable
        print(
            f"  {session.name}, first boxes after {run.results['first_boxes_s']} s, "
            f"one graph: {run.results['one_graph_for_the_whole_run']}",
            flush=True,
        )
        for section in (agreement, latency, article, throughput, soak):
            if section.__name__ in run.arguments.skip:
                continue
            print(f" {section.__name__}", flush=True)
            started = time.perf_counter()
            run.results[section.__name__] = section(run, detector)
            run.results[f"{section.__name__}_took_s"] = round(time.perf_counter() - started, 1)
            write()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="coco-yolov5n.pt and the photos")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    parser.add_argument("--engines", default="onnxruntime,stand-in")
    parser.add_argument("--precisions", default="float32")
    parser.add_argument("--search", default="heuristic", choices=("exhaustive", "heuristic", "default"))
    parser.add_argument("--skip", default="", help="sections to leave out: agreement,latency,article,throughput,soak")
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--block", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--smoke", action="store_true", help="small and quick: whether it runs, not how fast")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.side, arguments.batch, arguments.streams, arguments.frames = 64, 2, 2, 16
        arguments.blocks, arguments.block, arguments.rounds, arguments.seconds = 1, 1, 1, 0.05
    arguments.skip = arguments.skip.split(",")
    with Device.open() as device:
        report: dict[str, Any] = {
            "what": "from a host frame to boxes against the network alone; see bench/gpu_pipeline.py",
            "device": device.name,
            "cuda_driver": list(device.driver_version),
            "nvrtc": list(nvrtc_version()),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "versions": {name: installed(name) for name in (
                "yoloship", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "torch",
                "cuda-bindings", "onnx",
            )},
            "settings": {name: str(value) for name, value in vars(arguments).items()},
            "results": {},
        }  # fmt: skip

        def write() -> None:
            if arguments.out:
                arguments.out.write_text(json.dumps(report, indent=1, default=str) + "\n")

        for engine in arguments.engines.split(","):
            for precision in arguments.precisions.split(","):
                print(f"{engine} {precision}", flush=True)
                run = Run(arguments, device, engine, precision)
                report["results"][f"{engine} {precision}"] = run.results
                try:
                    measure(run, write)
                except Exception as error:
                    run.results["failed"] = f"{type(error).__name__}: {error}"
                    print(f"  FAILED: {type(error).__name__}: {error}", flush=True)
                    traceback.print_exc()
                write()


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    main()
