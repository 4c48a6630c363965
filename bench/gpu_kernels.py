"""How long each kernel and copy around the network takes on this GPU.

    python bench/gpu_kernels.py --out gpu_kernels.json

Times are device times: a graph that repeats one step many times, between two events, divided by the repeats; the median
of many such runs with its 10th and 90th percentiles. `end_to_end` is the host's clock, from the launch of one graph
(upload, letterbox, decode, NMS, download; no network) until its result can be read.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from yoloship._util.cache import trusted_folder
from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer, download, fill_words, upload
from yoloship.cuda.compiler import KernelSet, nvrtc_version
from yoloship.cuda.device import Device
from yoloship.cuda.device_pixels import DevicePixels, PixelFormat
from yoloship.cuda.letterbox import (
    FRAME_DTYPE,
    Canvas,
    CanvasForm,
    FrameDescriptor,
    launch_letterbox,
    pack_frames,
)
from yoloship.cuda.postprocess import (
    HeadLevel,
    Heads,
    Raw,
    Results,
    ScoreFilter,
    Suppression,
    Workspace,
    clear,
    launch_decode,
    launch_nms,
    pack_levels,
    result_dtype,
    workspace_bytes,
)
from yoloship.cuda.stream import Event, Graph, Stream
from yoloship.letterbox import Letterbox

if TYPE_CHECKING:
    from collections.abc import Callable


STRIDES = (8, 16, 32)
ANCHORS = (
    ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
CLASSES = 80
WayIn: TypeAlias = Literal["upload", "zero-copy"]
WayOut: TypeAlias = Literal["download", "written by the kernel"]


class Bench:
    """What all measurements share."""

    def __init__(self, device: Device, stack: ExitStack, *, repeats: int, runs: int, warm_ups: int) -> None:
        self.device = device
        self.stream = stack.enter_context(Stream(device))
        self.kernels = stack.enter_context(KernelSet(device, trusted_folder("kernels")))
        self.start = stack.enter_context(Event(device, timing=True))
        self.end = stack.enter_context(Event(device, timing=True))
        self.repeats, self.runs, self.warm_ups = repeats, runs, warm_ups
        self.results: dict[str, dict[str, float]] = {}
        self._stack = stack

    def empty(self, size_bytes: int) -> int:
        return self._stack.enter_context(DeviceBuffer(self.device, size_bytes)).pointer

    def put(self, array: np.ndarray[Any, Any]) -> int:
        address = self.empty(array.nbytes)
        upload(self.stream, address, np.ascontiguousarray(array))
        self.stream.sync()
        return address

    def pinned(self, dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        return self._stack.enter_context(PinnedBuffer(self.device, size)).array(dtype, shape)

    def device_time(self, name: str, step: Callable[[], None], moved_bytes: int = 0) -> None:
        """Device microseconds of one step."""

        def work() -> None:
            for _ in range(self.repeats):
                step()

        self.stream.sync()
        with Graph(self.stream, work) as graph:
            times = []
            for run in range(self.warm_ups + self.runs):
                self.stream.record(self.start)
                graph.launch(self.stream)
                self.stream.record(self.end)
                self.stream.sync()
                if run >= self.warm_ups:
                    times.append(self.end.elapsed_ms(self.start) * 1e3 / self.repeats)
        self._keep(name, times, moved_bytes)

    def host_time(self, name: str, step: Callable[[], None]) -> None:
        """Host microseconds of one step that waits for its result."""
        times = []
        for run in range(self.warm_ups + 4 * self.runs):
            before = time.perf_counter()
            step()
            if run >= self.warm_ups:
                times.append((time.perf_counter() - before) * 1e6)
        self._keep(name, times, 0)

    def _keep(self, name: str, times_us: list[float], moved_bytes: int) -> None:
        low, middle, high = np.percentile(times_us, [10, 50, 90])
        row = {"p10_us": round(low, 3), "p50_us": round(middle, 3), "p90_us": round(high, 3)}
        if moved_bytes:
            row["gb_per_s"] = round(moved_bytes / middle / 1e3, 2)
        self.results[name] = row
        rate = f"{row['gb_per_s']:10.1f} GB/s" if moved_bytes else ""
        print(f"{name:58s} {middle:10.2f} µs  ({low:.2f} to {high:.2f}){rate}", flush=True)


def frame_on_device(
    bench: Bench, rng: np.random.Generator, box: Letterbox, pixel_format: PixelFormat
) -> FrameDescriptor:
    height, width = box.image_hw
    place = (box.resized_hw, (box.top, box.left))
    if pixel_format == "nv12":
        luma = bench.put(rng.integers(0, 256, (height, width), dtype=np.uint8))
        chroma = bench.put(rng.integers(0, 256, (height // 2, width), dtype=np.uint8))
        return FrameDescriptor(DevicePixels(luma, width, box.image_hw, "nv12", chroma, width), *place)
    data = bench.put(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return FrameDescriptor(DevicePixels(data, 3 * width, box.image_hw, pixel_format), *place)


def letterboxes(bench: Bench, side: int, batches: tuple[int, ...], big: bool) -> None:
    rng = np.random.default_rng(0)
    cases: list[tuple[tuple[int, int], PixelFormat]] = [((1080, 810), "bgr")]
    if big:
        cases += [
            ((1080, 1920), "bgr"),
            ((1080, 1920), "nv12"),
            ((2160, 3840), "bgr"),
        ]
    forms: tuple[CanvasForm, ...] = ("float32_rgb_chw", "float16_rgb_chw", "uint8_bgr_hwc")
    for hw, pixel_format in cases:
        height, width = hw
        box = Letterbox.fixed(hw, (side, side))
        for batch in batches:
            frames = [frame_on_device(bench, rng, box, pixel_format) for _ in range(batch)]
            table = bench.put(pack_frames(frames, (side, side)))
            for form in forms if hw == (1080, 810) else forms[:1]:
                canvas = Canvas(bench.empty(batch * 3 * side * side * 4), batch, (side, side), form)
                bench.device_time(
                    f"letterbox {width}x{height} {pixel_format} {form} batch {batch}",
                    lambda table=table, canvas=canvas: launch_letterbox(  # type: ignore[misc]
                        bench.kernels, bench.stream, table, canvas
                    ),
                )


def head_maps(rng: np.random.Generator, side: int, batch: int, passing: int) -> list[np.ndarray[Any, Any]]:
    """Undecoded maps on which about `passing` cells of an image exceed 0.25."""
    cells = sum(3 * (side // s) ** 2 for s in STRIDES)
    maps = []
    for stride in STRIDES:
        cell = side // stride
        level = rng.standard_normal((batch, 3, 5 + CLASSES, cell, cell), dtype=np.float32)
        passes = rng.random((batch, 3, cell, cell)) < passing / cells
        level[:, :, 4] = np.where(passes, 2.0, -6.0)
        level[:, :, 5] = np.where(passes, 3.0, level[:, :, 5])
        maps.append(level.reshape(batch, 3 * (5 + CLASSES), cell, cell))
    return maps


def postprocess(bench: Bench, side: int, batches: tuple[int, ...], crowds: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    suppression = Suppression()
    dtype = result_dtype(suppression.max_detections)
    hw = (1080, 810)
    box = Letterbox.fixed(hw, (side, side))
    for batch in batches:
        frame = FrameDescriptor(DevicePixels(1, 3 * hw[1], hw), box.resized_hw, (box.top, box.left))
        table = bench.put(pack_frames([frame] * batch, (side, side)))
        for passing in crowds:
            maps = head_maps(rng, side, batch, passing)
            outputs: dict[str, Heads | Raw] = {}
            for name, kind in (("float32", np.float32), ("float16", np.float16)):
                levels = tuple(
                    HeadLevel(bench.put(level.astype(kind)), (level.shape[2], level.shape[3]), stride, anchors)
                    for level, stride, anchors in zip(maps, STRIDES, ANCHORS, strict=True)
                )
                outputs[f"heads {name}"] = Heads(bench.put(pack_levels(levels)), levels, name)  # type: ignore[arg-type]
            cells = next(iter(outputs.values())).cells
            raw = rng.random((batch, cells, 5 + CLASSES), dtype=np.float32)
            raw[..., :4] *= side / 4
            raw[..., 4] = np.where(rng.random((batch, cells)) < passing / cells, 0.9, 0.01)
            outputs["raw float32"] = Raw(bench.put(raw), cells)
            del raw, maps
            workspace = Workspace(bench.empty(workspace_bytes(batch, cells)), batch, cells)
            results = bench.empty(dtype.itemsize * batch)
            label = f"{passing} candidates batch {batch}"

            def reset(workspace: Workspace = workspace) -> None:
                clear(bench.stream, workspace)

            if passing == crowds[0]:
                bench.device_time(f"reset of the counters batch {batch}", reset)
            for name, output in reversed(outputs.items()):

                def decode(output: Heads | Raw = output, workspace: Workspace = workspace) -> None:
                    reset(workspace)
                    launch_decode(bench.kernels, bench.stream, output, ScoreFilter(CLASSES), workspace)

                bench.device_time(f"reset and decode {name} {label}", decode)

            def both(
                output: Heads | Raw = outputs["heads float32"],
                workspace: Workspace = workspace,
                results: int = results,
                table: int = table,
            ) -> None:
                launch_decode(bench.kernels, bench.stream, output, ScoreFilter(CLASSES), workspace)
                launch_nms(
                    bench.kernels,
                    bench.stream,
                    workspace,
                    suppression,
                    table,
                    Results(results, suppression.max_detections),
                )

            reset()
            bench.device_time(f"decode heads float32 and nms {label}", both)
            found = np.zeros(batch, dtype)
            download(bench.stream, found, results)
            bench.stream.sync()
            print(f"  candidates {found['candidates'].tolist()[:4]}, kept {found['kept'].tolist()[:4]}", flush=True)


def copies(bench: Bench, sizes: tuple[tuple[int, int], ...]) -> None:
    for height, width in sizes:
        size = 3 * height * width
        target = bench.empty(size)
        pinned = bench.pinned(np.uint8, (size,))
        pinned[:] = 1
        pageable = np.ones(size, np.uint8)
        name = f"{width}x{height} ({size / 1e6:.1f} MB)"
        bench.device_time(f"upload {name} pinned", lambda t=target, p=pinned: upload(bench.stream, t, p), size)  # type: ignore[misc]
        bench.device_time(f"download {name} pinned", lambda t=target, p=pinned: download(bench.stream, p, t), size)  # type: ignore[misc]

        def pageable_upload(target: int = target, pageable: Any = pageable) -> None:
            upload(bench.stream, target, pageable)
            bench.stream.sync()

        def staged_upload(target: int = target, pageable: Any = pageable, pinned: Any = pinned) -> None:
            np.copyto(pinned, pageable)
            upload(bench.stream, target, pinned)
            bench.stream.sync()

        bench.host_time(f"host: upload {name} pageable, by the driver", pageable_upload)
        bench.host_time(f"host: upload {name} pageable, copied to pinned first", staged_upload)


def zero_copy(bench: Bench, side: int, sizes: tuple[tuple[int, int], ...]) -> None:
    """The letterbox reading the frame from pinned host memory itself, with no upload before it."""
    for hw in sizes:
        height, width = hw
        box = Letterbox.fixed(hw, (side, side))
        pinned = bench.pinned(np.uint8, (height, width, 3))
        pinned[:] = np.random.default_rng(3).integers(0, 256, (*hw, 3), dtype=np.uint8)
        pixels = DevicePixels(int(pinned.ctypes.data), 3 * width, hw)
        frame = FrameDescriptor(pixels, box.resized_hw, (box.top, box.left))
        table = bench.put(pack_frames([frame], (side, side)))
        canvas = Canvas(bench.empty(3 * side * side * 4), 1, (side, side))
        bench.device_time(
            f"letterbox {width}x{height} from pinned host memory",
            lambda table=table, canvas=canvas: launch_letterbox(bench.kernels, bench.stream, table, canvas),  # type: ignore[misc]
        )


def end_to_end(bench: Bench, side: int, passing: int, way_in: WayIn, way_out: WayOut) -> None:
    """One pinned frame to boxes, the network left out."""
    rng = np.random.default_rng(2)
    hw = (1080, 810)
    size = 3 * hw[0] * hw[1]
    box = Letterbox.fixed(hw, (side, side))
    staging = bench.pinned(np.uint8, (256 + size,))
    staging[:] = rng.integers(0, 256, staging.shape, dtype=np.uint8)
    source = bench.empty(256 + size) if way_in == "upload" else int(staging.ctypes.data)
    place = (box.resized_hw, (box.top, box.left))
    frame = FrameDescriptor(DevicePixels(source + 256, 3 * hw[1], hw), *place)
    pack_frames([frame], (side, side), staging[: FRAME_DTYPE.itemsize].view(FRAME_DTYPE))
    maps = head_maps(rng, side, 1, passing)
    levels = tuple(
        HeadLevel(bench.put(level), (level.shape[2], level.shape[3]), stride, anchors)
        for level, stride, anchors in zip(maps, STRIDES, ANCHORS, strict=True)
    )
    output = Heads(bench.put(pack_levels(levels)), levels)
    canvas = Canvas(bench.empty(4 * 3 * side * side), 1, (side, side))
    workspace = Workspace(bench.empty(workspace_bytes(1, output.cells)), 1, output.cells)
    suppression = Suppression()
    record = bench.pinned(result_dtype(suppression.max_detections), (1,))
    results = bench.empty(record.nbytes) if way_out == "download" else int(record.ctypes.data)
    clear(bench.stream, workspace)

    def work() -> None:
        if way_in == "upload":
            upload(bench.stream, source, staging)
        launch_letterbox(bench.kernels, bench.stream, source, canvas)
        launch_decode(bench.kernels, bench.stream, output, ScoreFilter(CLASSES), workspace)
        launch_nms(
            bench.kernels, bench.stream, workspace, suppression, source, Results(results, suppression.max_detections)
        )
        if way_out == "download":
            download(bench.stream, record, results)

    def queued() -> None:
        work()
        bench.stream.sync()

    label = f"810x1080 pinned ({way_in}, {way_out}), {passing} candidates"
    bench.host_time(f"end_to_end {label}, queued call by call", queued)
    with Graph(bench.stream, work) as graph:

        def replayed() -> None:
            graph.launch(bench.stream)
            bench.stream.sync()

        bench.host_time(f"end_to_end {label}, one graph", replayed)
    bench.device_time(f"device: all steps {label}", work)


def host_costs(bench: Bench) -> None:
    target = bench.empty(4)
    bench.host_time("host: queueing a fill of 4 bytes", lambda: fill_words(bench.stream, target, 0, 1))
    bench.stream.sync()
    bench.host_time("host: empty stream sync", bench.stream.sync)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="small and quick: whether it runs, not how fast")
    options = parser.parse_args()
    with ExitStack() as stack:
        device = stack.enter_context(Device.open(options.device))
        began = time.perf_counter()
        repeats, runs, warm_ups = (1, 1, 0) if options.smoke else (20, 50, 10)
        bench = Bench(device, stack, repeats=repeats, runs=runs, warm_ups=warm_ups)
        loading_s = time.perf_counter() - began
        print(f"{device.name}, kernels ready after {loading_s:.2f} s", flush=True)
        side = 64 if options.smoke else 640
        batches = (1, 2) if options.smoke else (1, 32)
        copies(bench, ((36, 27),) if options.smoke else ((1080, 810), (2160, 3840)))
        letterboxes(bench, side, batches, big=not options.smoke)
        postprocess(bench, side, batches, (5, 60) if options.smoke else (50, 300, 3000))
        zero_copy(bench, side, ((36, 27),) if options.smoke else ((1080, 810), (1080, 1920), (2160, 3840)))
        ways = [(way_in, way_out) for way_in in get_args(WayIn) for way_out in get_args(WayOut)]
        for way_in, way_out in ways[-1:] if options.smoke else ways:
            end_to_end(bench, side, 50, way_in, way_out)
        host_costs(bench)
        if options.out:
            facts = {
                "what": "device times of single steps; see bench/gpu_kernels.py",
                "device": device.name,
                "compute_capability": list(device.compute_capability),
                "cuda_driver": list(device.driver_version),
                "nvrtc": list(nvrtc_version()),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "kernels_ready_s": round(loading_s, 3),
                "repeats": bench.repeats,
                "runs": bench.runs,
                "results": bench.results,
            }
            options.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
