"""JPEG files on a detector whose GPU decodes them: the same answers and the same errors as by the host's reader."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest

from helpers import jpegs
from helpers.canned_device import CannedSession
from helpers.device_detectors import closed_without_a_trace, fed, some_heads
from helpers.models import info
from yoloship.cuda.jpeg_check import scan_header
from yoloship.detect.detector import Detector
from yoloship.detect.gpu import jpeg_engine, jpeg_queue
from yoloship.detect.gpu.pipeline import CudaPipeline
from yoloship.detect.gpu.transfer import CudaTuning
from yoloship.detect.pipeline import ModelInput
from yoloship.errors import CudaError, ImageError, SessionError, YoloshipError
from yoloship.images import open_image, read_image
from yoloship.sources.source import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from helpers.nvjpeg_standin import StandInNvJpeg
    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device
    from yoloship.images import DecodeChoice

    Make = Callable[..., Detector]


@pytest.fixture
def engine(jpeg_engine: StandInNvJpeg | None) -> StandInNvJpeg | None:
    return jpeg_engine


@pytest.fixture
def make(engine: StandInNvJpeg | None, device: Device, kernels: KernelSet) -> Iterator[Make]:
    with closed_without_a_trace(device) as made:

        def make(
            decode: DecodeChoice = "gpu", *, fails: Callable[[], None] = lambda: None, max_batch: int = 8
        ) -> Detector:
            record = info(batch=None)
            session: Any = CannedSession(device, record, some_heads, fails=fails)
            model = ModelInput.checked(record, None, "square", "model")
            tuning = CudaTuning(max_batch=max_batch)
            pipeline = CudaPipeline(session, dict(kernels), model, tuning=tuning, decode=decode)
            made.append(Detector.over(pipeline))
            return made[-1]

        yield make


def seen_by(detector: Detector) -> npt.NDArray[np.float32]:
    """What the network saw in the last run, in levels from 0 to 255."""
    canvas = fed(detector)
    return np.asarray(canvas, np.float32) * (1 if canvas.dtype == np.uint8 else 255)


def same(found: Any, expected: Any) -> None:
    assert found.image_hw == expected.image_hw
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(found.scores, expected.scores)


def message(data: bytes) -> str:
    """What the host's reader says of a damaged file."""
    with pytest.raises(ImageError) as caught:
        read_image(data)
    return str(caught.value)


def test_the_network_sees_what_it_sees_of_the_hosts_images(make: Make) -> None:
    detector = make()  # one for all of them: opening nvJPEG takes most of a second
    assert detector.decoding.images == "gpu"
    for name, data in jpegs.for_the_engine().items():
        expected = detector(read_image(data))
        seen = seen_by(detector)
        same(detector(data), expected)
        difference = np.abs(seen_by(detector) - seen)
        assert difference.max() <= 1.01, name  # the engine's own rounding: at most one level, in few pixels
        assert difference.mean() < 0.01, name


def test_the_engine_and_its_check_take_what_the_header_promises(make: Make) -> None:
    pipeline: Any = make()._pipeline
    for name, data in jpegs.for_the_engine().items():
        image, _ = pipeline.opened(data, "bgr")
        (decoded,) = image.queue.decode([image.jpeg])
        with decoded:
            pixels, expected = decoded.host().astype(int), read_image(image.jpeg.file).astype(int)
            np.testing.assert_allclose(pixels, expected, rtol=0, atol=1, err_msg=name)


def test_other_forms_are_decoded_by_the_host(make: Make) -> None:
    detector = make()
    for name, data in jpegs.for_the_host().items():
        expected = detector(read_image(data))
        seen = seen_by(detector)
        same(detector(data), expected)
        np.testing.assert_array_equal(seen_by(detector), seen, err_msg=name)


def test_a_damaged_file_gets_the_hosts_error_in_every_call(make: Make) -> None:
    detector = make()
    sound = jpegs.encoded(jpegs.picture(70, 90))
    for name, data in jpegs.damaged().items():
        expected = message(data)
        for call in (
            lambda data=data: detector(data),
            lambda data=data: detector.detect_batch([sound, data, sound]),
            lambda data=data: detector.submit(data).result(),
        ):
            with pytest.raises(ImageError) as caught:
                call()
            assert str(caught.value) == expected, name
        outcomes = list(detector.stream([sound, data, sound, data]))
        errors = [str(outcome.error) if outcome.error else None for outcome in outcomes]
        assert errors == [None, expected, None, expected], name
        same(outcomes[2].result, detector(sound))


def test_a_stream_gives_each_file_its_own_answer_in_order(make: Make, tmp_path: Path) -> None:
    kinds = [*jpegs.for_the_engine().values(), *jpegs.for_the_host().values()]
    files: list[Any] = []
    for number in range(120):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(kinds[number % len(kinds)])
        files.append(path if number % 3 else kinds[number % len(kinds)])
    detector = make()
    outcomes = list(detector.stream(files))
    assert [outcome.index for outcome in outcomes] == list(range(120))
    assert all(outcome.image is None for outcome in outcomes)
    for number, outcome in enumerate(outcomes):
        same(outcome.result, detector(read_image(kinds[number % len(kinds)])))


def test_a_stream_keeps_images_that_are_those_of_the_host(make: Make) -> None:
    kinds = [*jpegs.for_the_engine().values(), *jpegs.for_the_host().values(), *jpegs.damaged().values()]
    for data, outcome in zip(kinds, make().stream(kinds, keep_images=True), strict=True):
        if outcome.error is not None:
            assert str(outcome.error) == message(data)
            continue
        assert outcome.image is not None
        np.testing.assert_allclose(outcome.image.astype(int), read_image(data).astype(int), rtol=0, atol=1)


def test_a_frame_of_a_source_may_hold_a_decoded_image(make: Make) -> None:
    data = jpegs.encoded(jpegs.picture(70, 90))
    detector = make()
    expected = detector(read_image(data))
    pipeline: Any = detector._pipeline
    for call in (
        detector,
        lambda frame: detector.detect_batch([frame])[0],
        lambda frame: detector.submit(frame).result(),
        lambda frame: next(iter(detector.stream([frame]))).unwrap(),
    ):
        image, _ = pipeline.opened(data, "bgr")
        (decoded,) = image.queue.decode([image.jpeg])
        same(call(Frame(0, "clip.mp4#0", decoded)), expected)


def test_an_opened_file_is_queued_as_it_is_and_its_future_says_when_it_was_decoded(make: Make) -> None:
    detector = make()
    reserved: list[int] = []
    file = open_image(jpegs.encoded(jpegs.picture(70, 90)))
    future: Any = detector.submit(detector.opened(file, reserved.append))
    same(future.result(), detector(read_image(file)))
    assert future.decoded_s <= future.ran.started_s
    assert reserved == []
    png = open_image(jpegs.for_the_host()["PNG"])
    image: Any = detector.opened(png, reserved.append)
    np.testing.assert_array_equal(image, read_image(png))
    assert reserved == [png.header.work_bytes]
    future = detector.submit(image)
    assert future.result().image_hw == (80, 120)
    assert future.decoded_s is None


def test_files_that_wait_are_decoded_together(make: Make) -> None:
    files = [jpegs.encoded(jpegs.picture(64, 96, seed)) for seed in range(40)]
    detector = make()
    expected = detector(read_image(files[0]))
    for result in detector.detect_batch(files):
        same(result, expected)  # all have the same size, and this network looks at nothing else
    futures = [detector.submit(file) for file in files]
    for future in futures:
        same(future.result(), expected)


def test_a_whole_list_is_decoded_in_as_few_batches_as_possible(make: Make, engine: StandInNvJpeg | None) -> None:
    if engine is None:
        pytest.skip("nvJPEG does not count")
    detector = make()
    before = engine.calls
    detector.detect_batch([jpegs.encoded(jpegs.picture(64, 96))] * 40)
    assert engine.calls - before == 2


def test_the_first_that_fails_is_raised_whether_it_is_damaged_or_missing(make: Make, tmp_path: Path) -> None:
    sound, cut = jpegs.encoded(jpegs.picture(70, 90)), jpegs.damaged()["cut"]
    missing = tmp_path / "missing.jpg"
    detector = make()
    with pytest.raises(ImageError, match="JPEG is damaged"):
        detector.detect_batch([sound, cut, missing])
    with pytest.raises(ImageError, match="no such file"):
        detector.detect_batch([sound, missing, cut])


def test_files_of_an_rgb_stream_state_their_own_order(make: Make) -> None:
    data = jpegs.encoded(jpegs.picture(70, 90))
    detector = make()
    detector(read_image(data))
    seen = seen_by(detector)
    for call in (
        lambda: detector(data, channels="rgb"),
        lambda: detector.submit(data, channels="rgb").result(),
        lambda: list(detector.stream([data], channels="rgb")),
    ):
        call()
        assert np.abs(seen_by(detector) - seen).max() <= 1.01


def test_by_itself_the_engine_is_opened_beside_the_first_files(make: Make) -> None:
    data = jpegs.encoded(jpegs.picture(70, 90))
    detector = make("auto")
    jpegs_of: Any = detector._pipeline._jpegs  # type: ignore[attr-defined]  # of a GPU
    expected = detector(data)
    while jpegs_of._queue is None:
        same(detector(data), expected)
    before = jpegs_of._queue.engine.memory.used_bytes
    for outcome in detector.stream([data] * 20):
        same(outcome.unwrap(), expected)
    assert before == 0
    assert detector.decoding.images == "gpu"


def test_files_of_a_stream_wait_until_the_engine_is_open(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_host(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the host decodes")

    data = jpegs.encoded(jpegs.picture(70, 90))
    expected = make("cpu")(data)
    monkeypatch.setattr("yoloship.detect.gpu.pipeline.read_image", no_host)
    for outcome in make("auto").stream([data] * 20):
        same(outcome.unwrap(), expected)


def test_memory_for_images_is_freed_when_no_file_has_come_for_a_while(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg_queue, "_IDLE_S", 0.02)
    data = jpegs.encoded(jpegs.picture(70, 90))
    detector = make("gpu")
    memory: Any = detector._pipeline._jpegs.queue().engine.memory  # type: ignore[attr-defined]  # of a GPU
    for _ in range(3):
        found = [outcome.unwrap() for outcome in detector.stream([data] * 20)]
        same(found[0], found[-1])
        while memory.idle_bytes or memory.used_bytes:
            time.sleep(0.01)


def test_it_may_be_closed_while_the_engine_is_being_opened(make: Make) -> None:
    data = jpegs.encoded(jpegs.picture(70, 90))
    detector = make("auto")
    assert len(list(detector.stream([data] * 3))) == 3
    detector.close()


def test_the_cpu_decodes_if_it_is_told_to(make: Make, engine: StandInNvJpeg | None) -> None:
    detector = make("cpu")
    assert (detector.decoding.images, detector.decoding.reason) == ("cpu", "chosen")
    assert [maker._pipeline.files_ahead for maker in (detector, make("gpu"))] == [0, 64]
    before = engine.calls if engine else 0
    detector(jpegs.encoded(jpegs.picture(70, 90)))
    assert (engine.calls if engine else 0) == before


@pytest.mark.parametrize("limit_bytes", [1, 3 << 18])
def test_little_memory_for_images_only_takes_longer(
    limit_bytes: int, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg_engine, "_MEMORY_BYTES", limit_bytes)
    data = jpegs.encoded(jpegs.picture(300, 400))
    detector = make()
    expected = detector(read_image(data))
    for outcome in detector.stream([data] * 30):
        same(outcome.unwrap(), expected)
    pipeline: Any = detector._pipeline
    assert pipeline._jpegs.queue().engine.memory.used_bytes == 0
    for result in detector.detect_batch([data] * 5):  # those without room are decoded by the host
        same(result, expected)


def test_a_full_device_leaves_files_to_the_host(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise CudaError("out of memory", code=2, name="CUDA_ERROR_OUT_OF_MEMORY")

    data = jpegs.encoded(jpegs.picture(70, 90))
    detector = make()
    expected = detector(data)
    monkeypatch.setattr("yoloship.detect.gpu.image_memory.DeviceBuffer", full)
    larger = jpegs.encoded(jpegs.picture(700, 900))
    assert detector(larger).image_hw == (700, 900)
    outcomes = list(detector.stream([larger, data] * 4))
    assert [outcome.unwrap().image_hw for outcome in outcomes] == [(700, 900), (70, 90)] * 4
    same(outcomes[1].unwrap(), expected)


@pytest.mark.parametrize("status", [4, 5, 6, 8])
def test_what_the_engine_refuses_is_decoded_by_the_host(
    status: int, make: Make, engine: StandInNvJpeg | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine is None:
        pytest.skip("nvJPEG does not fail when it is told to")
    monkeypatch.setattr(jpeg_engine, "_GIVE_UP", 20)
    data = jpegs.encoded(jpegs.picture(70, 90))
    detector = make()
    expected = detector(data)
    engine.fail(status)
    for outcome in detector.stream([data, jpegs.damaged()["cut"]] * 8):
        if outcome.error is None:
            same(outcome.unwrap(), expected)
        else:
            assert str(outcome.error) == message(jpegs.damaged()["cut"])
    same(detector.detect_batch([data] * 10)[9], expected)
    assert (detector.decoding.images, detector.decoding.reason) == ("cpu", "the GPU refused too many files")
    before = engine.calls
    same(detector(data), expected)
    assert engine.calls == before


def test_an_engine_that_refuses_one_file_decodes_the_others(
    make: Make, engine: StandInNvJpeg | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the check takes for an ordinary file, and the engine does not."""
    progressive = jpegs.encoded(jpegs.picture(70, 90), progressive=1)
    data = jpegs.encoded(jpegs.picture(70, 90))
    usual = scan_header
    known = usual(data)
    assert known is not None
    known = known._replace(data_bytes=100)
    monkeypatch.setattr(jpeg_engine, "scan_header", lambda file, head: usual(file, head) or known)
    detector = make()
    expected = detector(read_image(data))
    for result in detector.detect_batch([data, progressive, data, data]):
        same(result, expected)


def test_closing_in_mid_decode_fails_what_waits_and_ends(make: Make) -> None:
    data = jpegs.encoded(jpegs.picture(300, 400))
    detector = make(fails=lambda: time.sleep(0.01), max_batch=2)
    futures = [detector.submit(data)]
    refused = threading.Event()

    def submit() -> None:
        try:
            while True:
                futures.append(detector.submit(data))
        except SessionError:
            refused.set()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(submit)
        futures[0].result()
        detector.close()
        assert refused.wait()
    errors = [future.exception() for future in futures]
    assert {str(error) for error in errors} == {"None", "model: the detector is closed"}


def test_a_stream_that_is_closed_early_leaves_nothing_behind(make: Make) -> None:
    data = jpegs.encoded(jpegs.picture(300, 400))
    detector = make(fails=lambda: time.sleep(0.01), max_batch=2)
    stream: Any = detector.stream([data] * 200)
    assert next(stream).unwrap().image_hw == (300, 400)
    stream.close()
    pipeline: Any = detector._pipeline
    while pipeline._jpegs.queue().engine.memory.used_bytes:  # by the batch that was being decoded
        time.sleep(0.01)
    assert detector(data).image_hw == (300, 400)


def test_a_cancelled_file_is_not_decoded(make: Make) -> None:
    data = jpegs.encoded(jpegs.picture(300, 400))
    detector = make(fails=lambda: time.sleep(0.05), max_batch=1)
    futures = [detector.submit(data) for _ in range(40)]
    cancelled = [future for future in futures if future.cancel()]
    assert cancelled
    for future in cancelled:
        with pytest.raises(CancelledError):
            future.result()
    for future in futures:
        if not future.cancelled():
            assert future.result().image_hw == (300, 400)


def test_many_threads_may_call_while_a_stream_runs(make: Make) -> None:
    files = [*jpegs.for_the_engine().values(), *jpegs.damaged().values()]
    detector = make()

    def call(file: bytes) -> Any:
        try:
            return detector(file).image_hw
        except YoloshipError as error:
            return str(error)

    def expected(file: bytes) -> Any:
        try:
            return read_image(file).shape[:2]
        except YoloshipError as error:
            return str(error)

    with ThreadPoolExecutor(6) as pool:
        calls = pool.map(call, files * 3)
        outcomes = list(detector.stream(files * 2))
        assert list(calls) == list(map(expected, files * 3))
    found = [str(one.error) if one.error else one.unwrap().image_hw for one in outcomes]
    assert found == list(map(expected, files * 2))


def test_a_detector_that_nobody_closes_ends_its_decoder(
    device: Device, kernels: KernelSet, engine: StandInNvJpeg | None
) -> None:
    session: Any = CannedSession(device, info(batch=None), some_heads)
    model = ModelInput.checked(info(batch=None), None, "square", "model")
    pipeline = CudaPipeline(session, dict(kernels), model, tuning=CudaTuning(max_batch=8), decode="gpu")
    detector = Detector.over(pipeline)
    assert detector(jpegs.encoded(jpegs.picture(70, 90))).image_hw == (70, 90)
    queue: Any = pipeline._jpegs.queue()
    pool, intake = pipeline._pool, pipeline._intake
    del detector, pipeline
    gc.collect()
    queue._thread.join()
    assert not queue._thread.is_alive()
    if engine is not None:
        assert engine.handles == 0
    for left in (pool, intake, session):
        left.close()
