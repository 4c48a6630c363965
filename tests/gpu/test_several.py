"""One detector on two GPUs, with a network that answers by copying, against the CPU pipeline with the same answers."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest

from helpers import jpegs, nvjpeg_standin
from helpers.canned_device import CannedSession, slow
from helpers.device_detectors import closed_without_a_trace, some_heads
from helpers.device_images import OnDevice
from helpers.kept import compiled_kernels
from helpers.models import ANCHORS, STRIDES, image_session, info
from helpers.shared import TRAINED, require
from yoloship.cuda.compiler import KernelSet
from yoloship.cuda.device import Device, driver, find_gpus
from yoloship.cuda.interop import ordinal_of
from yoloship.cuda.jpeg_check import JpegCheck
from yoloship.detect.cpu import CpuPipeline
from yoloship.detect.detector import Detector
from yoloship.detect.gpu.jpeg_queue import QueuedJpeg
from yoloship.detect.gpu.pipeline import CudaPipeline
from yoloship.detect.gpu.several import SeveralGpus
from yoloship.detect.gpu.transfer import CudaTuning
from yoloship.detect.pipeline import ModelInput
from yoloship.errors import CudaError, ImageError, InputError, SessionError
from yoloship.images import read_image
from yoloship.models import gpu_loading
from yoloship.models.loading import load
from yoloship.tasks.decode import heads_to_raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from helpers.nvjpeg_standin import StandInNvJpeg
    from yoloship.cuda.compiler import Launchable
    from yoloship.results.detections import Detections

    Image = npt.NDArray[np.uint8]
    Kernels = dict[str, Launchable]

SIZES = ((50, 120), (200, 130), (64, 96), (300, 420), (7, 5))
RECORD = info("raw", batch=None)
SMALL = CudaTuning(slots=2, max_batch=4)

pytestmark = pytest.mark.timeout(120)


def answer(canvas_hw: tuple[int, int]) -> list[npt.NDArray[np.float32]]:
    return [heads_to_raw([head[None] for head in some_heads(canvas_hw)], STRIDES, ANCHORS)[0]]


def make_images(count: int) -> list[Image]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (*SIZES[n % len(SIZES)], 3), dtype=np.uint8) for n in range(count)]


def expected(images: list[Image]) -> list[Detections]:
    def script(feeds: Any) -> list[Any]:
        shape = feeds["images"].shape
        return [np.repeat(array[None], shape[0], axis=0) for array in answer(shape[1:3])]

    with Detector(image_session(info("raw", batch=None), script)) as on_cpu:
        found: list[Detections] = on_cpu.detect_batch(images)
        return found


def assert_same(found: list[Detections], wanted: list[Detections]) -> None:
    """Equal but for the last bits of exp()."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.image_hw == other.image_hw
        np.testing.assert_array_equal(one.class_ids, other.class_ids)
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=2e-6)
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, rtol=1e-5, atol=2e-3)


class Elsewhere:
    """An image on a device that the detector does not use."""

    shape = (4, 5, 3)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 7

    def __dlpack__(self, **_: object) -> object:
        raise AssertionError("it was asked for its memory")


class Rig:
    """Two devices with their kernels, and detectors over both."""

    def __init__(self, devices: list[Device], kernels: list[Kernels], made: list[Detector]) -> None:
        self.devices = devices
        self._kernels = kernels
        self.sessions: list[CannedSession] = []
        self.made = made

    def detector(self, *fails: Callable[[], None], tuning: CudaTuning = SMALL) -> Detector:
        """A detector whose session on each device does the first or second of these at each run."""
        each = fails or (lambda: None, lambda: None)
        self.sessions = [
            CannedSession(device, RECORD, answer, capturable=not fails, fails=one)
            for device, one in zip(self.devices, each, strict=True)
        ]
        model = ModelInput.checked(RECORD, None, "square", "model")
        several = SeveralGpus(
            [
                CudaPipeline(session, kernels, model, tuning=tuning)
                for session, kernels in zip(self.sessions, self._kernels, strict=True)
            ]
        )
        self.made.append(Detector.over(several))
        return self.made[-1]

    def on(self, number: int, images: list[Image]) -> list[OnDevice]:
        return [OnDevice(self.devices[number], image) for image in images]


@pytest.fixture(scope="module", autouse=True)
def stand_in() -> StandInNvJpeg | None:
    """The stand-in for nvJPEG; None on a machine with the real one."""
    return nvjpeg_standin.install_if_on_the_path()


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[list[Device], list[Kernels]]]:
    found = len(find_gpus())
    if found < 2:
        pytest.skip(f"needs two GPUs, and there is {found}")
    with Device.open(0) as first, Device.open(1) as second:
        folder = compiled_kernels()
        with KernelSet(first, folder) as ours, KernelSet(second, folder) as theirs:
            yield [first, second], [dict(ours), dict(theirs)]


@pytest.fixture
def rig(opened: tuple[list[Device], list[Kernels]]) -> Iterator[Rig]:
    with closed_without_a_trace(*opened[0]) as made:
        yield Rig(*opened, made)


def batches(session: CannedSession) -> list[int]:
    return sorted(context.inputs["images"].shape[0] for context in session.contexts)


def test_a_list_is_shared_equally_and_its_results_are_in_order(rig: Rig) -> None:
    detector, images = rig.detector(), make_images(7)
    assert detector.device == "cuda:0,cuda:1"
    assert (detector.max_batch, detector.parallel_runs, detector.batches) == (4, 4, (1, 4))
    assert_same(detector.detect_batch(images), expected(images))
    assert sorted(size for session in rig.sessions for size in batches(session)) == [3, 4]
    assert detector.detect_batch([]) == []
    assert_same(detector.detect_batch(images[:1]), expected(images[:1]))


def test_calls_of_one_thread_after_another_stay_on_the_first_gpu(rig: Rig) -> None:
    detector, images = rig.detector(), make_images(4)
    assert_same([detector(image) for image in images], expected(images))
    assert [len(session.contexts) for session in rig.sessions] == [1, 0]


def test_calls_at_the_same_time_run_on_both(rig: Rig) -> None:
    both = threading.Barrier(2, timeout=60)

    def wait() -> None:
        both.wait()

    detector, images = rig.detector(wait, wait), make_images(2)
    with ThreadPoolExecutor(2) as pool:  # the barrier opens when there is a run on each
        found = list(pool.map(detector, images))
    assert_same(found, expected(images))


@pytest.mark.parametrize("keep_images", [False, True])
def test_a_stream_is_in_order_and_an_error_stays_in_its_place(rig: Rig, keep_images: bool) -> None:
    detector, images = rig.detector(slow, slow), make_images(60)
    sources: list[Any] = [*images]
    sources[7] = "no such file.jpg"
    outcomes = list(detector.stream(iter(sources), keep_images=keep_images))
    assert [outcome.index for outcome in outcomes] == list(range(60))
    error = outcomes.pop(7).error
    assert isinstance(error, ImageError)
    del images[7]
    assert_same([outcome.unwrap() for outcome in outcomes], expected(images))
    assert all(session.contexts for session in rig.sessions)


def test_the_gpu_that_is_free_does_the_work(rig: Rig) -> None:
    gate, held = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        held.release()
        gate.wait()

    detector, images = rig.detector(lambda: None, wait), make_images(64)
    futures = [detector.submit(image) for image in images]
    while sum(future.done() for future in futures) < len(images) - SMALL.slots * SMALL.max_batch:
        time.sleep(0.001)  # the other GPU holds at most a batch in each slot
    gate.set()
    assert_same([future.result() for future in futures], expected(images))
    assert held.acquire(timeout=60)


def test_beside_as_many_runs_as_keep_both_busy_only_full_ones_begin(rig: Rig) -> None:
    gate, held = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        held.release()
        gate.wait()

    detector = rig.detector(wait, wait, tuning=CudaTuning(slots=3, max_batch=4))
    detector.prepare()
    images = make_images(8)
    futures = []
    try:
        for image in images[:4]:
            futures.append(detector.submit(image))
            assert held.acquire(timeout=30)
        futures += [detector.submit(image) for image in images[4:7]]
        assert not held.acquire(timeout=0.05)  # they are not four
        futures.append(detector.submit(images[7]))
        assert held.acquire(timeout=30)
    finally:
        gate.set()
    assert_same([future.result() for future in futures], expected(images))
    assert not held.acquire(blocking=False)  # five runs


def test_an_image_in_the_memory_of_a_gpu_runs_there(rig: Rig) -> None:
    detector, images = rig.detector(), make_images(9)
    first, second = rig.on(0, images[:3]), rig.on(1, images[3:6])
    mixed: list[Any] = [first[0], second[0], images[6], second[1], first[1], images[7], images[8], first[2], second[2]]
    order = [0, 3, 6, 4, 1, 7, 8, 2, 5]
    wanted = expected([images[row] for row in order])
    assert_same([detector(second[0])], wanted[1:2])
    assert [len(session.contexts) for session in rig.sessions] == [0, 1]
    assert_same([detector(image) for image in mixed], wanted)
    assert_same(detector.detect_batch(mixed), wanted)
    assert_same([future.result() for future in [detector.submit(image) for image in mixed]], wanted)
    assert_same([outcome.unwrap() for outcome in detector.stream(mixed)], wanted)
    pipeline: Any = detector._pipeline
    placed = [pipeline.place(image, "bgr") for image in mixed[:4]]
    assert_same(pipeline.run(placed, detector.options), wanted[:4])
    with pytest.raises(InputError, match="cannot be used as a frame: expected cuda:0 or cuda:1, got cuda:7"):
        detector(Elsewhere())
    for holder in (*first, *second):
        holder.buffer.close()


def test_the_driver_not_the_bindings_says_on_which_gpu_memory_is(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    bindings = driver()
    success = bindings.CUresult.CUDA_SUCCESS
    # What cuda-bindings 13.3.1 answers, whichever the GPU is.
    monkeypatch.setattr(bindings, "cuPointerGetAttribute", lambda *_: (success, 0))
    detector, images = rig.detector(), make_images(2)
    held = [rig.on(number, [image])[0] for number, image in enumerate(images)]
    assert [ordinal_of(one) for one in held] == [0, 1]
    assert_same([detector(one) for one in held], expected(images))
    assert [len(session.contexts) for session in rig.sessions] == [1, 1]
    for one in held:
        one.buffer.close()


def decoding(rig: Rig, at_run: Callable[[], None] = slow) -> Detector:
    detector = rig.detector(at_run, at_run)
    if detector.decoding.images != "gpu":
        pytest.skip(f"no JPEG engine here: {detector.decoding.reason}")
    return detector


def test_files_are_decoded_by_all_and_run_where_they_were_decoded(
    rig: Rig, tmp_path: Path, stand_in: StandInNvJpeg | None
) -> None:
    detector = decoding(rig)
    files = [*jpegs.for_the_engine().values(), *jpegs.for_the_host().values()] * 2
    wanted = expected([read_image(data) for data in files])
    paths = [tmp_path / f"{number}.jpg" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    pipeline: Any = detector._pipeline
    opened = [pipeline.opened(path, "bgr")[0] for path in paths]
    assert {str(one.device) for one in opened if isinstance(one, QueuedJpeg)} == {"cuda:0", "cuda:1"}
    assert_same(detector.detect_batch(paths), wanted)
    assert_same([detector(data) for data in files[:6]], wanted[:6])
    assert_same([future.result() for future in [detector.submit(path) for path in paths]], wanted)
    for keep_images in (False, True):
        assert_same([outcome.unwrap() for outcome in detector.stream(paths, keep_images=keep_images)], wanted)
    assert all(session.contexts for session in rig.sessions)
    if stand_in is not None:
        assert stand_in.calls > 0


def test_a_damaged_file_of_a_list_is_named_and_the_stream_goes_on(rig: Rig) -> None:
    detector = decoding(rig)
    sound, damaged = next(iter(jpegs.for_the_engine().values())), next(iter(jpegs.damaged().values()))
    files = [sound, sound, damaged, sound, sound]
    with pytest.raises(ImageError):
        detector.detect_batch(files)
    outcomes = list(detector.stream(files))
    assert isinstance(outcomes.pop(2).error, ImageError)
    assert_same([outcome.unwrap() for outcome in outcomes], expected([read_image(sound)] * 4))


def test_a_lone_file_runs_where_it_was_decoded_and_only_a_sound_one_tells_what_failed_there(rig: Rig) -> None:
    failing = threading.Event()

    def fail() -> None:
        if failing.is_set():
            raise SessionError("no convolution", subject="model")

    detector = decoding(rig, fail)
    sound, damaged = next(iter(jpegs.for_the_engine().values())), next(iter(jpegs.damaged().values()))
    failing.set()
    errors = []
    for _ in range(2):
        with pytest.raises(SessionError) as caught:
            detector(sound)
        errors.append(str(caught.value))
        with pytest.raises(ImageError):
            detector(damaged)
    failing.clear()
    assert set(errors) <= {f"model on cuda:{number}: no convolution" for number in range(2)}
    assert_same([detector(sound) for _ in range(4)], expected([read_image(sound)] * 4))


@pytest.mark.parametrize("at", ["begin", "verdicts"])
@pytest.mark.parametrize("many", [False, True], ids=["lone", "list"])
def test_a_gpu_that_is_lost_while_it_decodes_is_named_and_gets_no_more_work(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, at: str, many: bool
) -> None:
    detector = decoding(rig)
    sound = next(iter(jpegs.for_the_engine().values()))
    pipeline: Any = detector._pipeline
    check = pipeline.of("cuda:0")._jpegs.queue().engine._check
    begin = JpegCheck.begin

    def lost() -> NoReturn:
        raise CudaError("launch failed", code=719, name="CUDA_ERROR_LAUNCH_FAILED")

    def begun(self: JpegCheck, *arguments: Any) -> Any:
        if self is not check:
            return begin(self, *arguments)
        if at == "begin":
            lost()
        begin(self, *arguments)
        return SimpleNamespace(verdicts=lost)

    monkeypatch.setattr(JpegCheck, "begin", begun)

    def error_of_a_call() -> str:
        try:
            found = detector.detect_batch([sound] * 4) if many else [detector(sound)]
        except CudaError as error:
            return str(error)
        assert_same(found, expected([read_image(sound)] * len(found)))
        return ""

    errors = [error_of_a_call() for _ in range(6)]
    assert [error for error in errors if error] == ["cuda:0: launch failed"]


def test_files_go_where_fewer_wait(rig: Rig) -> None:
    detector = decoding(rig)
    sound = next(iter(jpegs.for_the_engine().values()))
    pipeline: Any = detector._pipeline
    queue = pipeline.of("cuda:0")._jpegs.queue()
    decoded, gate = threading.Event(), threading.Event()

    def hold(found: Any) -> None:
        decoded.set()
        gate.wait()
        found[0][1].close()

    jpeg = pipeline.of("cuda:0").opened(sound, "bgr")[0]
    queue.put_all([(jpeg, Future())], hold)
    decoded.wait()  # now the thread that decodes does nothing else
    waiting: Future[Any] = Future()
    queue.put_all([(jpeg, Future())], waiting.set_result)
    assert {str(pipeline.opened(sound, "bgr")[0].device) for _ in range(4)} == {"cuda:1"}
    gate.set()
    waiting.result()[0][1].close()
    queue.is_lost = True  # as after an error of the decoder that ends the context
    assert {str(pipeline.opened(sound, "bgr")[0].device) for _ in range(4)} == {"cuda:1"}
    assert_same([outcome.unwrap() for outcome in detector.stream([sound] * 6)], expected([read_image(sound)] * 6))


def test_a_pinned_frame_is_pinned_for_both(rig: Rig) -> None:
    detector, (image,) = rig.detector(), make_images(1)
    frame = detector.pinned_frame((image.shape[0], image.shape[1]))
    frame[...] = image
    assert_same(detector.detect_batch([frame] * 6), expected([image] * 6))
    pipeline: Any = detector._pipeline
    for name in ("cuda:0", "cuda:1"):
        placed = pipeline.of(name).place(frame, "bgr")
        assert placed.mode == "pinned"
        assert_same(pipeline.of(name).run([placed], detector.options), expected([image]))


def lost() -> None:
    raise CudaError("an illegal memory access", code=700, name="CUDA_ERROR_ILLEGAL_ADDRESS", subject="wait")


def test_a_gpu_that_is_lost_is_named_and_gets_no_more_work(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    detector, images = rig.detector(lost, lambda: None), make_images(6)
    with caplog.at_level(logging.WARNING, "yoloship.detect"), pytest.raises(CudaError, match="wait on cuda:0: an ill"):
        detector(images[0])
    assert "cuda:0 gets no more work: wait on cuda:0" in caplog.text
    assert_same([detector(image) for image in images], expected(images))
    assert_same(detector.detect_batch(images), expected(images))
    assert_same([outcome.unwrap() for outcome in detector.stream(images)], expected(images))


def test_a_gpu_that_goes_on_failing_does_not_draw_all_the_work_to_itself(rig: Rig) -> None:
    def fail() -> None:
        raise SessionError("no convolution", subject="model")

    detector, images = rig.detector(fail, lambda: None), make_images(6)
    for _ in range(3):
        with pytest.raises(SessionError, match="model on cuda:0: no convolution"):
            detector(images[0])
    assert_same([detector(image) for image in images], expected(images))


def test_if_all_have_failed_all_are_tried_again(rig: Rig) -> None:
    failing = threading.Event()
    failing.set()

    def fail() -> None:
        if failing.is_set():
            raise SessionError("no convolution", subject="model")

    detector, images = rig.detector(fail, fail), make_images(3)
    for number in (0, 0, 0, 1, 1, 1):
        with pytest.raises(SessionError, match=f"on cuda:{number}"):
            detector(images[0])
    failing.clear()
    assert_same(detector.detect_batch(images), expected(images))


def test_an_error_of_one_run_of_a_list_is_raised(rig: Rig) -> None:
    detector, images = rig.detector(lambda: None, lost), make_images(8)
    with pytest.raises(CudaError, match="on cuda:1"):
        detector.detect_batch(images)
    assert_same(detector.detect_batch(images), expected(images))


def test_a_wrong_image_counts_against_no_gpu(rig: Rig) -> None:
    detector, images = rig.detector(), make_images(2)
    for _ in range(4):
        with pytest.raises(ImageError):
            detector(images[0].astype(np.float32))
        with pytest.raises(InputError, match="outside every profile"):
            detector.prepare([9])
    assert_same(detector.detect_batch(images), expected(images))
    assert all(session.contexts for session in rig.sessions)


def test_a_prepared_detector_makes_nothing_ready_any_more(rig: Rig) -> None:
    detector, images = rig.detector(), make_images(30)
    detector.prepare()
    assert [batches(session) for session in rig.sessions] == [[1, 1, 4, 4]] * 2
    for future in [detector.submit(image) for image in images]:
        future.result()
    list(detector.stream(images))
    assert [batches(session) for session in rig.sessions] == [[1, 1, 4, 4]] * 2


def test_the_network_alone_runs_on_both_and_times_are_measured(rig: Rig) -> None:
    detector, images = rig.detector(), make_images(4)
    with detector.network(6) as run:
        run()
        run()
    assert [batches(session) for session in rig.sessions] == [[2], [2]]  # four is the largest, shared by two
    times = detector.profile(images)
    assert list(times.stages_ms) == ["stage", "upload", "letterbox", "network", "postprocess", "read"]
    assert (detector.device_bytes() or 0) > 0


def test_closing_waits_for_what_is_under_way_and_refuses_the_rest(rig: Rig) -> None:
    detector, images = rig.detector(slow, slow), make_images(40)
    on_second = rig.on(1, images[:1])
    futures = [detector.submit(image) for image in images] + [detector.submit(image) for image in on_second]
    closing = [threading.Thread(target=detector.close) for _ in range(3)]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()
    for future in futures:
        assert isinstance(future.exception(), SessionError | None)
    for call in (lambda: detector(images[0]), lambda: detector.submit(images[0]), detector.prepare):
        with pytest.raises(SessionError, match="model: the detector is closed"):
            call()
    assert all(session.closed for session in rig.sessions)
    on_second[0].buffer.close()


def test_opening_and_closing_leaks_nothing(rig: Rig) -> None:
    before, images = [device.usage() for device in rig.devices], make_images(5)
    for _ in range(10):
        with rig.detector() as detector:
            detector.detect_batch(images)
            detector.submit(images[0]).result()
        rig.made.clear()
        del detector
        assert [device.usage() for device in rig.devices] == before


def test_the_threads_of_a_forgotten_detector_end(rig: Rig) -> None:
    detector, images = rig.detector(), make_images(3)
    held = rig.on(1, images[:1])
    for image in (*images, *held):
        detector.submit(image).result()
    detector.detect_batch(images)
    pipeline: Any = detector._pipeline
    batcher: Any = detector._batches()
    threads = [*batcher._threads, *batcher._batcher_of(pipeline._gpus[1])._threads]
    assert len(threads) == detector.parallel_runs + SMALL.slots
    rig.made.clear()
    del detector
    gc.collect()
    for thread in threads:
        thread.join()
    pipeline.close()
    held[0].buffer.close()


def _in_child(detector: Detector, pipe: Any) -> None:
    said = []
    image = make_images(1)[0]
    for call in (lambda: detector(image), lambda: detector.detect_batch([image] * 2), detector.prepare):
        with pytest.raises(SessionError) as caught:
            call()
        said.append(str(caught.value))
    detector.close()
    pipe.send(said)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_is_told_so(rig: Rig) -> None:
    detector, images = rig.detector(), make_images(4)
    detector.detect_batch(images)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_in_child, args=(detector, theirs))
    child.start()
    theirs.close()
    assert all("before this process was forked" in text for text in ours.recv())
    child.join()
    assert_same(detector.detect_batch(images), expected(images))


@pytest.mark.parametrize("devices", ["cuda:all", "cuda:0,cuda:1", "cuda:1,0"])
def test_a_model_is_loaded_on_each(rig: Rig, monkeypatch: pytest.MonkeyPatch, devices: str) -> None:
    if devices == "cuda:all" and len(find_gpus()) > 2:
        pytest.skip("more than two GPUs")
    sessions: list[CannedSession] = []

    def canned(_: object, device: Device, *__: object) -> CannedSession:
        sessions.append(CannedSession(device, RECORD, answer))
        return sessions[-1]

    monkeypatch.setattr(gpu_loading, "_open", canned)
    before = [device.usage() for device in rig.devices]
    images = make_images(6)
    with load(require(TRAINED / "coco-yolov5n.pt"), device=devices) as detector:
        assert detector.device == ("cuda:1,cuda:0" if devices == "cuda:1,0" else "cuda:0,cuda:1")
        found = detector.detect_batch(images)
    assert_same(found, expected(images))
    assert all(session.closed for session in sessions)
    gc.collect()
    assert [device.usage() for device in rig.devices] == before


def test_if_one_cannot_be_opened_the_others_are_closed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[CannedSession] = []

    def canned(_: object, device: Device, *__: object) -> CannedSession:
        if sessions:
            raise SessionError("has no room", subject=str(device))
        sessions.append(CannedSession(device, RECORD, answer))
        return sessions[-1]

    monkeypatch.setattr(gpu_loading, "_open", canned)
    with pytest.raises(SessionError, match="cuda:1: has no room"):
        load(require(TRAINED / "coco-yolov5n.pt"), device="cuda:all")
    assert sessions[0].closed


def test_models_whose_images_the_cpu_prepares_are_shared_too(rig: Rig) -> None:
    images = make_images(30)
    model = ModelInput.checked(RECORD, None, "square", "model")
    parts = []
    for device in rig.devices:
        session = CannedSession(device, RECORD, answer, fails=slow)
        rig.sessions.append(session)
        host = session.as_host_session(session, streams=2, shapes=4)
        parts.append(CpuPipeline(host, model, parallel_runs=2, max_batch=4, device=str(device)))
    with Detector.over(SeveralGpus(parts)) as detector:
        assert_same(detector.detect_batch(images), expected(images))
        assert_same([outcome.unwrap() for outcome in detector.stream(images)], expected(images))
        assert_same([future.result() for future in [detector.submit(image) for image in images]], expected(images))
        assert all(session.contexts for session in rig.sessions)
