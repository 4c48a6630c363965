"""Many slots made at once, in one detector and in several, while others run and are closed: ONNX Runtime's provider.

Its libraries fail if two threads set up at the same time, now and then; ``YOLOSHIP_GPU_ROUNDS=200`` makes sure of it.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import yoloship.runtime.onnxruntime.cuda as module
from helpers.device_sessions import QUICK, ask, expected, is_stand_in, make_images, require_onnxruntime, small
from helpers.device_sessions import assert_same as assert_same_numbers
from helpers.modules import Maker, checkpoint
from yoloship.detect.detector import Defaults, Detector
from yoloship.detect.gpu.pipeline import CudaPipeline
from yoloship.detect.gpu.transfer import CudaTuning
from yoloship.detect.options import DetectOptions
from yoloship.detect.pipeline import ModelInput
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.model import METADATA_KEY, ModelInfo
from yoloship.models.loading import load
from yoloship.runtime.onnxruntime.cuda import CudaProviderOptions, OnnxRuntimeCudaSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.results.detections import Detections

ROUNDS = int(os.environ.get("YOLOSHIP_GPU_ROUNDS", "3"))
SLOTS = 4
OPTIONS = DetectOptions(score_threshold=0.2)


def graph() -> bytes:
    """A detector of a few convolutions, without a fixed size."""
    make = Maker(11)
    layers = [
        (make.conv(3, 16, 6, 2, padding=(2, 2)), -1),
        (make.conv(16, 32, 3, 2), -1),
        (make.conv(32, 32, 3, 2), -1),
    ]
    head = make.detect([32], [8])
    made = checkpoint([*layers, (head, [-1])], strides=(8,))
    config = GraphConfig(input_hw=None, batch=None, input_form="image", output_form="heads")
    return graph_bytes(build_graph(made, config))


def frames(count: int) -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(5)
    sizes = [(96, 128), (128, 96), (64, 128), (128, 128), (90, 40), (33, 111)]
    return [rng.integers(0, 256, (*sizes[n % len(sizes)], 3), dtype=np.uint8) for n in range(count)]


def assert_same(found: Detections, wanted: Detections) -> None:
    assert abs(len(found) - len(wanted)) <= 1 + len(wanted) // 20  # at the threshold the last bit decides
    near = np.abs(found.boxes_xyxy[:, None] - wanted.boxes_xyxy[None]).max(axis=2).min(axis=1, initial=np.inf)
    assert (near < 0.5).mean() > 0.9


@pytest.fixture
def opened(device: Device, kernels: KernelSet) -> Iterator[ExitStack]:
    require_onnxruntime(device)
    before = device.usage()
    with ExitStack() as stack:
        yield stack
    assert device.usage() == before


def test_slots_that_are_all_made_at_once_while_others_run_work(
    opened: ExitStack, device: Device, kernels: KernelSet
) -> None:
    model, images = graph(), frames(2 * SLOTS)
    with load(model, device="cpu", imgsz=128, options=OPTIONS, shape_mode="rect") as cpu:
        wanted = [cpu(image) for image in images]
    assert min(map(len, wanted)) > 3

    def detector() -> Detector:
        session = OnnxRuntimeCudaSession.open(model, device, QUICK)
        info = ModelInfo.from_json(session.metadata[METADATA_KEY])
        tuning = CudaTuning(slots=SLOTS, max_batch=4)
        meeting = ModelInput.checked(info, (128, 128), "rect", "model")
        return Detector.over(CudaPipeline(session, dict(kernels), meeting, tuning=tuning), Defaults(OPTIONS))

    steady, ended = opened.enter_context(detector()), threading.Event()

    def run_on() -> int:
        runs = 0
        while not ended.is_set():
            assert_same(steady(images[runs % len(images)]), wanted[runs % len(images)])
            runs += 1
        return runs

    def first_runs(made: Detector, numbers: Sequence[int], barrier: threading.Barrier) -> None:
        barrier.wait()
        for number in numbers:
            assert_same(made(images[number]), wanted[number])

    def round_of(pool: ThreadPoolExecutor) -> None:
        """Two detectors, all slots of both used for the first time at once; both closed at once."""
        with ExitStack() as stack:
            pair = [stack.enter_context(detector()) for _ in range(2)]
            barrier = threading.Barrier(2 * SLOTS)
            jobs = [
                pool.submit(first_runs, made, (number, number + SLOTS), barrier)
                for made in pair
                for number in range(SLOTS)
            ]
            for job in jobs:
                job.result()
            for job in [pool.submit(made.close) for made in pair]:
                job.result()

    with ThreadPoolExecutor(2) as runners, ThreadPoolExecutor(2 * SLOTS) as makers:
        running = [runners.submit(run_on) for _ in range(2)]
        try:
            for _ in range(ROUNDS):
                round_of(makers)
        finally:
            ended.set()
        assert all(job.result() > 0 for job in running)


class Watched:
    """A session of ONNX Runtime that tells whether this process's turn was held when it was made, run and let go."""

    def __init__(self, session: Any, held: list[tuple[str, bool]]) -> None:
        self._watched, self._held = session, held
        held.append(("made", is_held()))

    def __getattr__(self, name: str) -> Any:
        if name == "run_with_iobinding":
            self._held.append(("run", is_held()))
        return getattr(self._watched, name)

    def __del__(self) -> None:
        self._held.append(("closed", is_held()))


def is_held() -> bool:
    """Whether another thread would have to wait for its turn now."""
    with ThreadPoolExecutor(1) as other:
        return not other.submit(_can_be_taken).result()


def _can_be_taken() -> bool:
    if not module._TURN.acquire(blocking=False):
        return False
    module._TURN.release()
    return True


@pytest.mark.timeout(120)
def test_contexts_are_made_first_run_and_closed_in_turn_and_ready_ones_run_beside(
    device: Device, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = QUICK
    if is_stand_in(device):  # whose memory is the host's, so that the CPU provider can be bound to it
        monkeypatch.setattr(module, "PROVIDER", "CPUExecutionProvider")
        monkeypatch.setattr(module, "_MEMORY", "cpu")
        options = CudaProviderOptions(recorded=False)
    else:
        require_onnxruntime(device)
    held: list[tuple[str, bool]] = []
    opened = module._open_session
    monkeypatch.setattr(module, "_open_session", lambda *a, **how: Watched(opened(*a, **how), held))
    with OnnxRuntimeCudaSession.open(small().SerializeToString(), device, options) as session:
        assert held == [("made", True), ("closed", True)]
        context = session.context({"images": (1, 3, 32, 32)}, stream)
        context.rehearse()
        assert set(held) == {("made", True), ("run", True), ("closed", True)}
        images = make_images(1, 3, 32, 32)
        with ThreadPoolExecutor(1) as busy:
            busy.submit(module._TURN.acquire).result()
            assert_same_numbers(ask(context, images), expected(images))  # for ever, if it waits
            busy.submit(module._TURN.release).result()
        with session.making, session.making:
            assert is_held()
        context.close()
    assert held[-1] == ("closed", True)
    assert held.count(("closed", True)) == 2
