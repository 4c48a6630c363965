"""Parts of `gpu_media.py` about frames in memory: how many threads should copy, and what a batch waits for."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.device_images import OnDevice
from yoloship import CudaTuning
from yoloship.models.loading import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _media_parts import Setting


def some_images(count: int, hw: tuple[int, int] = (810, 1080)) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*hw, 3), np.uint8) for _ in range(count)]


def copies(setting: Setting) -> None:
    """Batches from ordinary memory by the threads that copy, and from pinned memory with and without Python's lock."""
    setting.need_gpu("batches in flight")
    from yoloship.detect.gpu.filling import Copiers, Piece
    from yoloship.detect.gpu.staging import Frame
    from yoloship.letterbox import Letterbox

    batch = setting.pick(32, 4)
    hw = (810, 1080) if not setting.smoke else (81, 108)
    images = some_images(3 * batch, hw)
    box = Letterbox.fixed(hw, (640, 640))
    frames = [Frame(image, box, "copied") for image in images]
    pinned = np.zeros(batch * images[0].nbytes, np.uint8)
    threads = [n for n in (1, 2, 4, 8, 16) if n <= (os.cpu_count() or 1)]
    for number in threads:
        with Copiers(number) as copiers:
            times = []
            for turn in range(setting.pick(15, 2)):
                some = frames[turn % 3 * batch :][:batch]
                pieces: list[Piece] = copiers.pieces([(frame, frame.pixels.nbytes) for frame in some], 0)
                began = time.perf_counter()
                copiers.copy(pieces, pinned, lambda _: None)
                times.append(1e3 * (time.perf_counter() - began))
            setting.row(f"the host copies a batch, {number} threads", statistics.median(times), "ms")
    for number in threads:
        with _loaded(setting, CudaTuning(max_batch=batch, copy_threads=number)) as detector:
            setting.row(f"pageable, {number} threads copy", _rate(setting, detector, images, batch), "images/s")
    with _loaded(setting, CudaTuning(max_batch=batch)) as detector:
        held = [detector.pinned_frame(hw) for _ in images]
        for frame, image in zip(held, images, strict=True):
            frame[...] = image
        device = detector.session.device
        on_gpu = [OnDevice(device, image) for image in images]
        for turn in range(setting.pick(2, 1)):
            setting.row(f"pinned ({turn})", _rate(setting, detector, held, batch), "images/s")
            with _letting_go():
                setting.row(
                    f"pinned, lock let go in each call ({turn})", _rate(setting, detector, held, batch), "images/s"
                )
            setting.row(f"on the GPU ({turn})", _rate(setting, detector, on_gpu, batch), "images/s")
        for one in on_gpu:
            one.buffer.close()


def waits(setting: Setting) -> None:
    """What a batch on one of four streams waits for on the GPU: its upload, its turn, or the network."""
    setting.need_gpu("batches in flight")
    from yoloship.cuda.stream import Event
    from yoloship.detect.gpu.staging import Staging
    from yoloship.detect.gpu.turns import Turns

    batch = setting.pick(32, 4)
    hw = (810, 1080) if not setting.smoke else (81, 108)
    images = some_images(2 * batch, hw)
    with _loaded(setting, CudaTuning(max_batch=batch)) as detector, ExitStack() as stack:
        held = [detector.pinned_frame(hw) for _ in images]
        for frame, image in zip(held, images, strict=True):
            frame[...] = image
        device = detector.session.device
        base = stack.enter_context(Event(device, timing=True))
        marks: dict[int, list[Event]] = defaultdict(list)  # of each thread: four for each batch
        send, turn = Staging.send, Turns.turn

        def mark(stream: Any) -> None:
            event = stack.enter_context(Event(device, timing=True))
            stream.record(event)
            marks[threading.get_ident()].append(event)

        def sending(self: Any, *given: Any) -> None:
            stream = self._calls.stream
            mark(stream)
            send(self, *given)
            mark(stream)

        @contextmanager
        def turning(self: Any, calls: Any) -> Iterator[None]:
            with turn(self, calls):
                mark(calls.stream)
                yield
                mark(calls.stream)

        for kind, sources in (("pinned", held), ("pageable", images)):
            _rate(setting, detector, sources, batch)
            marks.clear()
            Staging.send, Turns.turn = sending, turning  # type: ignore[method-assign]
            try:
                with Event(device, timing=True) as _, device.current():
                    _first_mark(device, base)
                _rate(setting, detector, sources, batch, runs=setting.pick(40, 4))
            finally:
                Staging.send, Turns.turn = send, turn  # type: ignore[method-assign]
            device.sync()
            rows = [
                [event.elapsed_ms(base) for event in some[place : place + 4]]
                for some in marks.values()
                for place in range(0, len(some) - 3, 4)
            ]
            for name, first, second in (("upload", 0, 1), ("turn", 1, 2), ("network", 2, 3)):
                times = [row[second] - row[first] for row in rows]
                setting.row(f"{kind}: {name}", statistics.median(times), "ms", most=round(max(times), 2))
            setting.row(f"{kind}: share of the time in which a network ran", _covered([row[2:] for row in rows]))
            setting.row(f"{kind}: share in which an upload was under way", _covered([row[:2] for row in rows]))


def _first_mark(device: Any, base: Any) -> None:
    from yoloship.cuda.stream import Stream

    with Stream(device) as stream:
        stream.record(base)
        stream.sync()


def _loaded(setting: Setting, tuning: CudaTuning) -> Any:
    how: dict[str, Any] = {"imgsz": 160} if setting.smoke else {}
    if setting.smoke:
        tuning = replace(tuning, slots=2)
    detector = load(setting.model, device=setting.device, cuda_tuning=tuning, **how)
    detector.prepare([tuning.max_batch])
    return detector


def _rate(setting: Setting, detector: Any, sources: list[Any], batch: int, runs: int | None = None) -> float:
    """Images a second in full batches, as many in flight as there are slots."""
    lists = [sources[start : start + batch] for start in range(0, len(sources) - batch + 1, batch)]
    runs = runs or setting.pick(60, 4)
    with ThreadPoolExecutor(detector.parallel_runs) as pool:
        list(pool.map(detector.detect_batch, lists * 2))
        began = time.perf_counter()
        list(pool.map(detector.detect_batch, [lists[n % len(lists)] for n in range(runs)]))
        return runs * batch / (time.perf_counter() - began)


@contextmanager
def _letting_go() -> Iterator[None]:
    """Queue copies as the bindings do, which let go of Python's lock in every call."""
    from yoloship.cuda.device import driver
    from yoloship.cuda.stream import StreamCalls

    original, copy = StreamCalls.upload, driver().cuMemcpyHtoDAsync

    def upload(self: Any, target: int, source: int, size_bytes: int) -> None:
        (status,) = copy(target, source, size_bytes, self._stream)
        assert int(status) == 0, status

    StreamCalls.upload = upload  # type: ignore[method-assign]
    try:
        yield
    finally:
        StreamCalls.upload = original  # type: ignore[method-assign]


def _covered(spans: list[list[float]]) -> float:
    """The share of the time between the first and the last mark that lies in some span."""
    spans = sorted(spans)
    covered, end = 0.0, spans[0][0]
    for first, last in spans:
        covered += max(0.0, last - max(first, end))
        end = max(end, last)
    return covered / max(end - spans[0][0], 1e-9)


PARTS = (
    ("copies", copies, 60, 3),
    ("waits", waits, 30, 3),
)
