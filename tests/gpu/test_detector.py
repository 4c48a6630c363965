"""The whole way on a device, with a network that answers by copying, against the CPU pipeline with the same answers."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.canned_device import CannedSession, slow
from helpers.device_detectors import closed_without_a_trace, fed
from helpers.device_detectors import some_heads as heads
from helpers.device_images import OnDevice
from helpers.models import ANCHORS, STRIDES, constant_raw, empty_rows, image_session, info
from yoloship.detect.detector import Defaults, Detector
from yoloship.detect.gpu.pipeline import CudaPipeline
from yoloship.detect.gpu.transfer import CudaTuning, RowPick, TransferPolicy
from yoloship.detect.options import DetectOptions
from yoloship.detect.pipeline import ModelInput, ShapeMode
from yoloship.detect.preprocess import to_float
from yoloship.detect.slicing import SlicedDetector, Slicing
from yoloship.errors import CudaError, ImageError, InputError, SessionError
from yoloship.evaluate.artefact import open_artefact
from yoloship.letterbox import Letterbox
from yoloship.model import ModelInfo, NmsConfig
from yoloship.models.loading import load
from yoloship.results.detections import Detections
from yoloship.sources.source import Frame, Source
from yoloship.tasks.decode import heads_to_raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device

HW = (64, 96)
SIZES = ((50, 120), (200, 130), (64, 96), (300, 420), (7, 5), (480, 640))


class Kernels(dict[str, Any]):
    """Kernels that outlive the detectors of these tests."""


def raw(canvas_hw: tuple[int, int]) -> list[npt.NDArray[np.float32]]:
    return [heads_to_raw([head[None] for head in heads(canvas_hw)], STRIDES, ANCHORS)[0]]


def make_images(count: int, seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*SIZES[n % len(SIZES)], 3), dtype=np.uint8) for n in range(count)]


def on_cpu(record: ModelInfo, answer: Any = heads, **arguments: Any) -> Detector:
    def script(feeds: Any) -> list[Any]:
        shape = feeds["images"].shape
        hw = shape[1:3] if feeds["images"].dtype == np.uint8 else shape[2:4]
        return [np.repeat(array[None], shape[0], axis=0) for array in answer(hw)]

    return Detector(image_session(record, script), **arguments)


def assert_same(found: Detections, expected: Detections) -> None:
    """Equal but for the last bits of exp()."""
    assert found.image_hw == expected.image_hw
    assert found.class_names == expected.class_names
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, rtol=1e-5, atol=2e-3)


class Maker:
    def __init__(self, device: Device, kernels: KernelSet, made: list[Detector]) -> None:
        self.device = device
        self.kernels = Kernels(kernels)
        self.made = made

    def __call__(
        self,
        record: ModelInfo | None = None,
        answer: Any = heads,
        *,
        capturable: bool = True,
        fails: Any = lambda: None,
        tuning: CudaTuning | None = None,
        options: DetectOptions | None = None,
        imgsz: tuple[int, int] | None = None,
        shape_mode: ShapeMode = "square",
    ) -> Detector:
        record = record or info(batch=None)
        session: Any = CannedSession(self.device, record, answer, capturable=capturable, fails=fails)
        model = ModelInput.checked(record, imgsz, shape_mode, "model")
        pipeline = CudaPipeline(session, self.kernels, model, tuning=tuning)
        try:
            self.made.append(Detector.over(pipeline, Defaults(options)))
        except BaseException:
            pipeline.close()
            raise
        return self.made[-1]


@pytest.fixture
def make(device: Device, kernels: KernelSet) -> Iterator[Maker]:
    with closed_without_a_trace(device) as made:
        yield Maker(device, kernels, made)


def without_memory(make: Maker) -> Callable[[], None]:
    """Fails in runs of more than two images, as a device whose memory is full."""

    def fail() -> None:
        if make.made[-1].session.contexts[-1].inputs["images"].shape[0] > 2:  # type: ignore[union-attr]  # canned
            raise CudaError("out of memory: asked for much", code=2, name="CUDA_ERROR_OUT_OF_MEMORY")

    return fail


def placed(detector: Detector, image: object) -> Any:
    return detector._pipeline.place(image, "bgr")


@pytest.mark.parametrize("capturable", [True, False])
@pytest.mark.parametrize("mode", ["copied", "resized"])
def test_images_of_all_sizes_give_the_boxes_of_the_cpu_pipeline(make: Maker, capturable: bool, mode: Any) -> None:
    detector = make(capturable=capturable, tuning=CudaTuning(transfer=TransferPolicy(pageable_mode=mode)))
    cpu = on_cpu(info(batch=None))
    for image in make_images(8):
        found = detector(image)
        assert_same(found, cpu(image))
        np.testing.assert_array_equal(fed(detector)[0], Letterbox.fixed(image.shape[:2], HW).apply(image))
    assert len(found) > 5


@pytest.mark.parametrize("mode", ["pinned", "mapped"])
def test_pinned_images_go_up_from_where_they_lie(make: Maker, mode: Any) -> None:
    detector = make(tuning=CudaTuning(transfer=TransferPolicy(pinned_mode=mode, pageable_mode="resized")))
    cpu = on_cpu(info(batch=None))
    for image in make_images(6):
        pinned = detector.pinned_frame((image.shape[0], image.shape[1]))
        pinned[...] = image
        frame = placed(detector, pinned)
        assert frame.mode == mode
        assert_same(detector(pinned), cpu(image))
        np.testing.assert_array_equal(fed(detector)[0], Letterbox.fixed(image.shape[:2], HW).apply(image))


@pytest.mark.parametrize("mode", ["pinned", "mapped"])
def test_pinned_images_of_one_size_are_each_read_where_they_lie(make: Maker, mode: Any) -> None:
    detector = make(tuning=CudaTuning(transfer=TransferPolicy(pinned_mode=mode)))
    rng = np.random.default_rng()
    frames = [detector.pinned_frame((192, 130)) for _ in range(3)]
    others = make_images(2)
    for turn in range(9):
        frame = frames[(0, 1, 1, 2, 0, 2, 1, 0, 0)[turn]]
        frame[...] = rng.integers(0, 256, frame.shape, dtype=np.uint8)
        detector(frame, channels="rgb" if turn == 5 else "bgr")
        canvas = Letterbox.fixed((192, 130), HW).apply(frame)
        np.testing.assert_array_equal(fed(detector)[0], canvas[..., ::-1] if turn == 5 else canvas)
        if turn in {3, 6}:
            detector(others[turn % 2])


@pytest.mark.parametrize("mode", ["pinned", "mapped"])
def test_a_part_of_a_pinned_image_is_read_where_it_lies(make: Maker, mode: Any) -> None:
    detector = make(tuning=CudaTuning(transfer=TransferPolicy(pinned_mode=mode)))
    whole = detector.pinned_frame((90, 100))
    whole[...] = np.random.default_rng().integers(0, 256, whole.shape, dtype=np.uint8)
    for part in (whole, whole[7:], whole[:50], whole[13:14], whole.reshape(100, 90, 3)):
        assert placed(detector, part).mode == mode
        detector(part)
        np.testing.assert_array_equal(fed(detector)[0], Letterbox.fixed(part.shape[:2], HW).apply(part))


@pytest.mark.parametrize("mode", ["copied", "resized"])
def test_images_that_may_not_be_written_to_are_read_only(make: Maker, mode: Any) -> None:
    detector = make(tuning=CudaTuning(transfer=TransferPolicy(pageable_mode=mode)))
    for seed, hw in enumerate(((1, 1), (1, 900), (900, 1), (1100, 1300))):
        image = np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)
        image.flags.writeable = False
        before = image.copy()
        detector(image)
        np.testing.assert_array_equal(fed(detector)[0], Letterbox.fixed(hw, HW).apply(image))
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("step", [3, 4, 5, 6, 7, 16])
@pytest.mark.parametrize("alone", [True, False])
def test_images_of_which_only_some_rows_are_copied_give_the_same_canvas(make: Maker, step: int, alone: bool) -> None:
    detector = make(tuning=CudaTuning(transfer=TransferPolicy(pageable_mode="copied")))
    sizes = [(64 * step, 96 * step), (64 * step, 50 * step), (40 * step, 96 * step), (30 * step, 96 * step + 3)]
    images = [np.random.default_rng(step).integers(0, 256, (*hw, 3), dtype=np.uint8) for hw in sizes]
    assert RowPick.of(Letterbox.fixed(sizes[0], HW)) == RowPick(step, 2 - step % 2, (step - 1) // 2)
    expected = np.stack([Letterbox.fixed(image.shape[:2], HW).apply(image) for image in images])
    if alone:
        for image, canvas in zip(images, expected, strict=True):
            detector(image)
            np.testing.assert_array_equal(fed(detector)[0], canvas)
    else:
        detector.detect_batch(images)
        np.testing.assert_array_equal(fed(detector), expected)


def test_one_image_after_another_of_every_size_and_way_is_read_where_it_lies_now(make: Maker) -> None:
    """What is kept from the last image (tables, places) must not be taken for the next one's."""
    detector = make(tuning=CudaTuning(transfer=TransferPolicy(map_from=8, resize_from=20)))
    rng = np.random.default_rng()
    for image in make_images(30, seed=int(rng.integers(1 << 30))):
        given = image
        if rng.random() < 0.5:
            given = detector.pinned_frame(image.shape[:2])
            given[...] = image
        detector(given)
        np.testing.assert_array_equal(fed(detector)[0], Letterbox.fixed(image.shape[:2], HW).apply(image))


def test_a_batch_of_mixed_sizes_and_ways_is_one_run(make: Maker) -> None:
    detector = make(tuning=CudaTuning(transfer=TransferPolicy(resize_from=8)))
    cpu = on_cpu(info(batch=None))
    batch: list[Any] = make_images(6)
    boxes = [Letterbox.fixed(image.shape[:2], HW).apply(image) for image in batch]
    for row in (0, 3):
        pinned = detector.pinned_frame(batch[row].shape[:2])
        pinned[...] = batch[row]
        batch[row] = pinned
    found = detector.detect_batch(batch)
    np.testing.assert_array_equal(fed(detector), np.stack(boxes))
    for one, other in zip(found, cpu.detect_batch(batch), strict=True):
        assert_same(one, other)
    session: Any = detector.session
    assert len(session.contexts) == 1
    assert detector.detect_batch([]) == []


def test_more_images_than_a_run_takes_are_several_runs(make: Maker) -> None:
    cpu = on_cpu(info(batch=None))
    batch = make_images(7)
    expected = cpu.detect_batch(batch)
    dynamic = make(tuning=CudaTuning(max_batch=3))
    fixed = make(info(batch=4))
    for detector in (dynamic, fixed):
        for one, other in zip(detector.detect_batch(batch), expected, strict=True):
            assert_same(one, other)


def test_float_input_and_raw_output_give_the_boxes_of_the_cpu_pipeline_exactly(make: Maker) -> None:
    record = info("raw", input_form="float", batch=None)
    detector = make(record, raw)
    cpu = on_cpu(info("raw", batch=None), raw)
    for image in make_images(3):
        assert detector(image) == cpu(image)
        canvas = Letterbox.fixed(image.shape[:2], HW).apply(image)
        np.testing.assert_array_equal(fed(detector), to_float(canvas[None]))


def test_rectangular_canvases_have_a_plan_each_and_old_ones_are_let_go(make: Maker) -> None:
    record = info(input_hw=(None, None), batch=None)
    detector = make(record, shape_mode="rect", imgsz=(96, 96), tuning=CudaTuning(plans=2))
    cpu = on_cpu(record, shape_mode="rect", imgsz=(96, 96))
    batch = make_images(6)
    for _ in range(2):
        for one, other in zip(detector.detect_batch(batch), cpu.detect_batch(batch), strict=True):
            assert_same(one, other)


def test_options_of_a_call_hold_for_that_call(make: Maker) -> None:
    detector, cpu = make(), on_cpu(info(batch=None))
    image = make_images(1)[0]
    several = (
        DetectOptions(),
        DetectOptions(score_threshold=0.6),
        DetectOptions(classes=("beta", 2)),
        DetectOptions(classes=()),
        DetectOptions(iou_threshold=0.1, class_agnostic=True),
        DetectOptions(max_detections=3),
    )
    for _ in range(2):
        for options in several:
            assert_same(detector(image, options=options), cpu(image, options=options))
    with pytest.raises(InputError, match="zebra: no such class"):
        detector(image, options=DetectOptions(classes=("zebra",)))
    with pytest.raises(InputError, match="zebra: no such class"):
        make(options=DetectOptions(classes=("zebra",)))


def test_more_candidates_than_the_kernels_look_at_give_the_exact_boxes_all_the_same(make: Maker) -> None:
    record = info("raw", input_hw=(192, 192), batch=None)

    def crowded(canvas_hw: tuple[int, int]) -> list[npt.NDArray[np.float32]]:
        return [heads_to_raw([head[None] for head in heads(canvas_hw, 2.0)], STRIDES, ANCHORS)[0]]

    detector, cpu = make(record, crowded), on_cpu(record, crowded)
    image = make_images(2)[1]
    for options in (
        DetectOptions(score_threshold=0.001, iou_threshold=0.0, max_detections=300),
        DetectOptions(score_threshold=0.001, iou_threshold=0.9, max_detections=5000),
    ):
        found, expected = detector(image, options=options), cpu(image, options=options)
        assert len(expected) > 20
        assert found == expected
    assert len(found) > 1024


def test_whatever_the_cpu_pipeline_takes_is_taken(make: Maker) -> None:
    detector, cpu = make(), on_cpu(info(batch=None))
    image = make_images(4)[3]
    for view in (image[::2, 1::2], np.asfortranarray(image), image[..., 0], image[:, ::-1]):
        assert_same(detector(view), cpu(view))
    for wrong in (image.astype(np.float32), image[:0], np.zeros((4, 4, 2), np.uint8), 7):
        with pytest.raises(ImageError):
            detector(wrong)
    assert_same(detector(image), cpu(image))


def test_many_threads_share_one_detector(make: Maker) -> None:
    detector, cpu = make(tuning=CudaTuning(slots=3)), on_cpu(info(batch=None))
    batch = make_images(6)
    expected = cpu.detect_batch(batch)
    steps = 4 if "no GPU" in make.device.name else 50  # a CPU that plays the GPU is slow

    def work(number: int) -> None:
        for step in range(steps):
            row = (number + step) % len(batch)
            if step % 4 == 3:
                for one, other in zip(detector.detect_batch(batch), expected, strict=True):
                    assert_same(one, other)
            assert_same(detector(batch[row]), expected[row])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_images_handed_over_come_back_as_futures(make: Maker) -> None:
    detector, cpu = make(tuning=CudaTuning(max_batch=8)), on_cpu(info(batch=None))
    batch = make_images(40)
    futures = [detector.submit(image) for image in batch]
    for future, image in zip(futures, batch, strict=True):
        assert_same(future.result(), cpu(image))
    with pytest.raises(ImageError):
        detector.submit(batch[0].astype(np.float64))


def test_a_prepared_detector_makes_nothing_ready_any_more(make: Maker) -> None:
    detector = make(tuning=CudaTuning(slots=2, max_batch=8))
    session: Any = detector.session
    detector.prepare()
    assert sorted(context.inputs["images"].shape[0] for context in session.contexts) == [1, 1, 4, 4, 8, 8]
    for future in [detector.submit(image) for image in make_images(30)]:
        future.result()
    assert len(session.contexts) == 6
    with pytest.raises(InputError, match="outside every profile"):
        detector.prepare([9])
    detector(make_images(1)[0])


def test_a_streams_first_images_wait_for_one_batch_size_alone(make: Maker) -> None:
    detector, cpu = make(tuning=CudaTuning(max_batch=8)), on_cpu(info(batch=None))
    session: Any = detector.session
    images = make_images(20)
    for outcome in detector.stream(images):
        assert_same(outcome.unwrap(), cpu(images[outcome.index]))
    assert [context.inputs["images"].shape[0] for context in session.contexts] == [8]


class Cameras(Source):
    """Live streams that send a frame each."""

    is_live = True
    live_streams = 0
    begin: Callable[[], None] = staticmethod(lambda: None)

    @classmethod
    def open(cls, texts: Sequence[str], options: Any = None) -> Cameras:
        made = cls()
        made.live_streams = len(texts)
        return made

    def __iter__(self) -> Iterator[Frame]:
        self.begin()
        for number, image in enumerate(make_images(self.live_streams)):
            yield Frame(0, f"camera {number}#0", image)


@pytest.mark.parametrize(
    ("streams", "ready"),
    [(1, [1, 1]), (2, [1, 1, 4, 4]), (4, [1, 1, 1, 4, 4, 4, 8, 8, 8]), (40, [1, 1, 1, 4, 4, 4, 8, 8, 8])],
)
def test_what_live_streams_may_need_is_ready_before_they_begin(make: Maker, streams: int, ready: list[int]) -> None:
    detector = make(tuning=CudaTuning(slots=3, max_batch=8))
    session: Any = detector.session
    found: list[int] = []
    cameras = Cameras.open(["any"] * streams)
    cameras.begin = lambda: found.extend(context.inputs["images"].shape[0] for context in session.contexts)
    outcomes = detector.stream(cameras)
    assert not session.contexts
    assert len([outcome.unwrap() for outcome in outcomes]) == streams
    assert sorted(found) == ready
    assert len(session.contexts) == len(ready)


def test_live_streams_begin_though_not_everything_can_be_ready(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise CudaError("out of memory", code=2)

    detector = make(fails=fail, tuning=CudaTuning(slots=2, max_batch=8))
    with caplog.at_level("INFO", "yoloship.detect"):
        (outcome,) = detector.stream(Cameras.open(["any"]))
    assert "making runs of 1 images ready for live streams" in caplog.text
    assert isinstance(outcome.error, CudaError)


def test_a_stream_is_in_order_and_an_error_stays_in_its_place(make: Maker) -> None:
    detector, cpu = make(tuning=CudaTuning(max_batch=8)), on_cpu(info(batch=None))
    sources: list[Any] = make_images(20)
    sources[7] = "no such file.jpg"
    outcomes = list(detector.stream(iter(sources), keep_images=True))
    assert [outcome.index for outcome in outcomes] == list(range(20))
    assert isinstance(outcomes[7].error, ImageError)
    for outcome in outcomes[:7] + outcomes[8:]:
        assert_same(outcome.unwrap(), cpu(sources[outcome.index]))
        assert outcome.image is sources[outcome.index]


def test_tiles_of_large_images_give_what_they_give_on_the_cpu(make: Maker) -> None:
    slicing = Slicing((64, 96))
    rng = np.random.default_rng(5)
    images = [rng.integers(0, 256, (hw[0], hw[1], 3), np.uint8) for hw in ((150, 200), (60, 90), (100, 260))]
    sliced = SlicedDetector(make(tuning=CudaTuning(max_batch=8)), slicing)
    on_host = SlicedDetector(on_cpu(info(batch=None)), slicing)
    for outcome, image in zip(sliced.stream(images), images, strict=True):
        assert len(outcome.unwrap())
        assert_same(outcome.unwrap(), on_host(image))


@pytest.mark.parametrize("resident", [False, True])
def test_a_stream_of_frames_makes_the_batches_that_were_made_ready(make: Maker, resident: bool) -> None:
    gate = threading.Event()
    detector = make(capturable=False, fails=gate.wait, tuning=CudaTuning(slots=2, max_batch=8))
    image = make_images(1)[0]
    frame: Any = OnDevice(make.device, image) if resident else image

    def sources() -> Iterator[Any]:
        for drawn in range(1, 61):
            if drawn == 17:
                gate.set()
            yield frame

    found = [outcome.unwrap() for outcome in detector.stream(sources())]
    assert len(found) == 60
    session: Any = detector.session
    assert max(context.inputs["images"].shape[0] for context in session.contexts) == 8
    if resident:
        frame.buffer.close()


def test_closing_waits_for_what_is_under_way_and_refuses_the_rest(make: Maker) -> None:
    detector = make(capturable=False, fails=slow, tuning=CudaTuning(slots=2, max_batch=8))
    image = make_images(1)[0]
    outcomes: list[object] = []
    started = threading.Barrier(6)

    def work() -> None:
        started.wait()
        try:
            while True:
                outcomes.append(len(detector(image)))
        except SessionError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    futures = [detector.submit(image) for _ in range(30)]
    started.wait()
    while not outcomes:
        time.sleep(0.001)
    detector.close()
    for thread in threads:
        thread.join()
    assert outcomes.count("model: the detector is closed") == 5
    for future in futures:
        assert isinstance(future.exception(), SessionError | None)
    for call in (lambda: detector(image), lambda: detector.submit(image)):
        with pytest.raises(SessionError, match="the detector is closed"):
            call()
    detector.close()


def test_a_closed_detector_starts_no_threads(make: Maker) -> None:
    detector, frame = make(), OnDevice(make.device, make_images(1)[0])
    detector.close()
    before = set(threading.enumerate())
    given: Any = frame
    for call in (
        lambda: detector.submit(make_images(1)[0]),
        lambda: detector.submit(given),
        lambda: detector.stream([]),
    ):
        with pytest.raises(SessionError, match="the detector is closed"):
            call()
    assert set(threading.enumerate()) <= before
    frame.buffer.close()


@pytest.mark.timeout(60)
def test_several_threads_may_close_it_during_a_run(make: Maker) -> None:
    begun, gate = threading.Event(), threading.Event()

    def held() -> None:
        begun.set()
        gate.wait()

    detector = make(capturable=False, fails=held, tuning=CudaTuning(slots=2))
    image = make_images(1)[0]
    with ThreadPoolExecutor(4) as pool:
        run = pool.submit(detector, image)
        begun.wait()
        closing = [pool.submit(detector.close) for _ in range(3)]
        gate.set()
        assert_same(run.result(), on_cpu(info(batch=None))(image))
        for closed in closing:
            closed.result()
    with pytest.raises(SessionError, match="the detector is closed"):
        detector(image)


@pytest.mark.timeout(60)
def test_a_device_that_is_lost_while_an_input_is_refused_does_not_keep_anyone_from_closing(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: object) -> None:
        raise CudaError("the device is lost", code=700, name="CUDA_ERROR_ILLEGAL_ADDRESS")

    detector = make(tuning=CudaTuning(slots=1))
    monkeypatch.setattr("yoloship.detect.gpu.slots.Slot.recover", lost)
    with pytest.raises(CudaError, match="the device is lost"):
        detector.detect_batch(make_images(9))
    assert len(detector.detect_batch(make_images(2))) == 2
    detector.close()


def test_a_network_that_fails_is_an_error_and_the_next_image_is_served(make: Maker) -> None:
    broken = [False]

    def fails() -> None:
        if broken[0]:
            raise CudaError("on purpose", code=700, name="CUDA_ERROR_ILLEGAL_ADDRESS")

    detector, cpu = make(capturable=False, fails=fails), on_cpu(info(batch=None))
    image = make_images(1)[0]
    for _ in range(10):
        assert_same(detector(image), cpu(image))
        broken[0] = True
        with pytest.raises(CudaError, match="on purpose"):
            detector(image)
        with pytest.raises(CudaError, match="on purpose"):
            detector.submit(image).result()
        broken[0] = False


def test_a_batch_outside_every_profile_is_refused_and_the_slot_lives_on(make: Maker) -> None:
    detector = make()
    with pytest.raises(InputError, match="expected 1 to 8 images, got 9"):
        detector.detect_batch(make_images(9))
    assert len(detector.detect_batch(make_images(8))) == 8


def test_a_batch_is_halved_on_full_memory_only_when_asked(make: Maker) -> None:
    batch = make_images(5)
    detector = make(capturable=False, fails=without_memory(make))
    with pytest.raises(CudaError, match="asked for much"):
        detector.detect_batch(batch)
    detector = make(capturable=False, fails=without_memory(make), tuning=CudaTuning(on_full_memory="halve"))
    for one, other in zip(detector.detect_batch(batch), on_cpu(info(batch=None)).detect_batch(batch), strict=True):
        assert_same(one, other)


def test_stages_are_timed_and_give_the_same_boxes(make: Maker) -> None:
    for capturable in (True, False):
        detector, cpu = make(capturable=capturable), on_cpu(info(batch=None))
        batch = make_images(2)
        for _ in range(3):
            found, _ = detector._pipeline.run_timed([placed(detector, image) for image in batch], detector.options)
            for one, image in zip(found, batch, strict=True):
                assert isinstance(one, Detections)
                assert_same(one, cpu(image))
            times = detector.profile(batch)
        assert times.total_ms > 0
        assert list(times.stages_ms) == ["stage", "upload", "letterbox", "network", "postprocess", "read"]
        assert all(spent >= 0 for spent in times.stages_ms.values())
        with detector.network(2) as run:
            run()
        with pytest.raises(InputError, match="no images to time"):
            detector.profile([])


def test_a_image_on_the_device_is_read_there(make: Maker) -> None:
    detector, cpu = make(), on_cpu(info(batch=None))
    batch = make_images(3)
    held = [OnDevice(make.device, image) for image in batch]
    mixed: list[Any] = [held[0], batch[1], held[2]]
    for found in (detector.detect_batch(mixed), [detector(one) for one in mixed]):
        for one, image in zip(found, batch, strict=True):
            assert_same(one, cpu(image))
    outcomes = list(detector.stream(mixed))
    assert all(outcome.error is None for outcome in outcomes)
    held[0].__cuda_array_interface__["typestr"] = "<f4"
    with pytest.raises(InputError, match="expected uint8"):
        detector(held[0])
    assert_same(detector(batch[1]), cpu(batch[1]))
    for holder in held:
        holder.buffer.close()


@pytest.mark.parametrize("alone", [True, False])
def test_rgb_frames_give_the_canvas_of_the_same_frames_in_bgr_whichever_way_they_go(make: Maker, alone: bool) -> None:
    for policy in (
        TransferPolicy(pageable_mode="copied", pinned_mode="pinned"),
        TransferPolicy(pageable_mode="resized", pinned_mode="mapped"),
    ):
        detector = make(tuning=CudaTuning(transfer=policy))
        images = make_images(4, seed=2)
        pinned = [detector.pinned_frame(image.shape[:2]) for image in images[:2]]
        for frame, image in zip(pinned, images, strict=False):
            frame[...] = image[:, :, ::-1]
        held = [OnDevice(make.device, np.ascontiguousarray(images[2][:, :, ::-1]))]
        rgb: list[Any] = [*pinned, *held, np.ascontiguousarray(images[3][:, :, ::-1])]
        expected = np.stack([Letterbox.fixed(image.shape[:2], HW).apply(image) for image in images])
        if alone:
            for frame, image, canvas in zip(rgb, images, expected, strict=True):
                detector(frame, channels="rgb")
                np.testing.assert_array_equal(fed(detector)[0], canvas)
                if isinstance(frame, np.ndarray):  # the next one of this size goes the short way, in the other order
                    frame[...] = image
                    detector(frame)
                    np.testing.assert_array_equal(fed(detector)[0], canvas)
        else:
            detector.detect_batch(rgb, channels="rgb")
            np.testing.assert_array_equal(fed(detector), expected)
        for holder in held:
            holder.buffer.close()


def test_a_stream_and_futures_of_rgb_frames_are_those_of_the_same_frames_in_bgr(make: Maker) -> None:
    detector, cpu = make(tuning=CudaTuning(max_batch=4)), on_cpu(info(batch=None))
    images = make_images(6)
    resident = OnDevice(make.device, np.ascontiguousarray(images[5][:, :, ::-1]))
    rgb: list[Any] = [*(np.ascontiguousarray(image[:, :, ::-1]) for image in images[:5]), resident]
    futures = [detector.submit(frame, channels="rgb") for frame in rgb]
    outcomes = list(detector.stream(rgb, channels="rgb", keep_images=True))
    for image, future, outcome in zip(images, futures, outcomes, strict=True):
        assert_same(future.result(), cpu(image))
        assert_same(outcome.unwrap(), cpu(image))
    for image, outcome in zip(images[:5], outcomes, strict=False):
        np.testing.assert_array_equal(outcome.image, image)
    resident.buffer.close()


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
def test_a_frame_of_nvimagecodec_on_the_device_says_its_own_order(make: Maker, channels: Any) -> None:
    detector, image = make(), make_images(1)[0]
    holder = OnDevice(make.device, np.ascontiguousarray(image[:, :, ::-1]))
    kind = type("Image", (OnDevice,), {"__module__": "nvidia.nvimgcodec.nvimgcodec_impl", "__init__": lambda _: None})
    frame: Any = kind()
    vars(frame).update(vars(holder))
    detector(frame, channels=channels)
    np.testing.assert_array_equal(fed(detector)[0], Letterbox.fixed(image.shape[:2], HW).apply(image))
    holder.buffer.close()


def test_another_librarys_array_is_asked_for_in_the_thread_that_hands_it_over(make: Maker) -> None:
    """Its owner waits for the stream that is current in the thread that asks; in another thread that is another one."""
    detector, cpu = make(tuning=CudaTuning(slots=2, max_batch=4)), on_cpu(info(batch=None))
    image = make_images(1)[0]
    held = OnDevice(make.device, image)
    asked: list[int] = []

    class Asked:
        shape = image.shape

        @property
        def __cuda_array_interface__(self) -> Any:
            asked.append(threading.get_ident())
            return vars(held)["__cuda_array_interface__"]

    frame: Any = Asked()
    for future in [detector.submit(frame) for _ in range(6)]:
        assert_same(future.result(), cpu(image))
    for outcome in detector.stream([frame] * 6):
        assert_same(outcome.unwrap(), cpu(image))
    assert set(asked) == {threading.get_ident()}
    held.__cuda_array_interface__["typestr"] = "<f4"
    with pytest.raises(InputError, match="expected uint8"):
        detector.submit(frame)
    detector.close()
    with pytest.raises(SessionError, match="the detector is closed"):
        detector.submit(frame)
    held.buffer.close()


def test_what_torch_has_queued_on_a_stream_of_its_own_is_waited_for(make: Maker, torch: Any) -> None:
    if "no GPU" in make.device.name:
        pytest.skip("torch has no stand-in for a GPU")
    detector, cpu = make(tuning=CudaTuning(slots=2, max_batch=4)), on_cpu(info(batch=None))
    images = make_images(4, seed=3)
    side = torch.cuda.Stream()
    heavy = torch.rand(4096, 4096, device="cuda")
    for image in images:
        source = torch.from_numpy(image).cuda()
        target = torch.zeros_like(source)
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            for _ in range(20):
                heavy = heavy @ heavy
            target.copy_(source)
            future = detector.submit(target)
        assert_same(future.result(), cpu(image))
        np.testing.assert_array_equal(fed(detector)[0], Letterbox.fixed(image.shape[:2], HW).apply(image))


def _refusal(call: Any) -> str:
    try:
        call()
    except (SessionError, CudaError) as error:
        return str(error)
    return "nothing"


def _in_child(detector: Detector, answers: Any) -> None:
    image = make_images(1)[0]
    calls = (lambda: detector(image), lambda: detector.submit(image), lambda: detector.stream([image]))
    answers.send([_refusal(call) for call in calls])
    os._exit(0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_is_told_so(make: Maker) -> None:
    detector = make()
    detector(make_images(1)[0])
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_in_child, args=(detector, theirs))
    child.start()
    theirs.close()  # so that a child that dies without a word ends the reading
    assert all("before this process was forked" in text for text in ours.recv())
    child.join()
    assert len(detector(make_images(1)[0])) > 0


def test_opening_and_closing_leaks_nothing(make: Maker) -> None:
    before = make.device.usage()
    image = make_images(1)[0]
    for _ in range(20):
        detector = make()
        detector(image)
        detector.close()
        make.made.clear()
        assert make.device.usage() == before


def compact(canvas_hw: tuple[int, int]) -> list[npt.NDArray[Any]]:
    """Each cell's best class, as a graph of that output form gives it."""
    (rows,) = raw(canvas_hw)
    scores = rows[:, 5:] * rows[:, 4:5]
    half = rows[:, 2:4] / 2
    boxes = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
    return [boxes, scores.max(axis=1), scores.argmax(axis=1).astype(np.int32)]


@pytest.mark.parametrize(("form", "answer"), [("heads", heads), ("compact", compact)])
def test_a_model_is_loaded_with_all_that_it_needs_and_closing_gives_it_back(
    make: Maker, monkeypatch: pytest.MonkeyPatch, form: Any, answer: Any
) -> None:
    opened: list[Device] = []

    def stand_in(_: object, device: Device, *__: object) -> CannedSession:
        opened.append(device)
        return CannedSession(device, info(form, batch=None), answer)

    monkeypatch.setattr("yoloship.models.gpu_loading._open", stand_in)
    image = make_images(1)[0]
    model = constant_raw(empty_rows((64, 96)), (64, 96), {}).SerializeToString()
    with load(model, device="cuda", cuda_tuning=CudaTuning(slots=2)) as detector:
        assert type(detector) is Detector
        assert detector.device == "cuda:0"
        assert_same(detector(image), on_cpu(info(form, batch=None), answer)(image))
    gc.collect()
    assert opened[0].usage().counts == {}
    with pytest.raises(SessionError, match="closed"):
        detector(image)
    with pytest.raises(InputError, match="the graph has a fixed size"):
        load(model, device="cuda", imgsz=(63, 96))
    gc.collect()
    assert opened[1].usage().counts == {}


def nms(canvas_hw: tuple[int, int]) -> list[npt.NDArray[Any]]:
    """What is left of those after a suppression that was cut short, padded to 60, and whether all were looked at."""
    boxes, scores, class_ids = compact(canvas_hw)
    best = np.argsort(-scores, kind="stable")[:50]
    best = best[scores[best] > 0.25]
    padding = ((0, 60 - len(best)),)
    return [
        np.pad(boxes[best], (*padding, (0, 0))).astype(np.float32),
        np.pad(scores[best], padding).astype(np.float32),
        np.pad(class_ids[best], padding).astype(np.int32),
        np.array(len(best), np.int32),
        np.array(1, np.int32),
    ]


FINISHED_BY_THE_HOST = [
    (info("compact", batch=None), compact),
    (info("nms", batch=None, nms=NmsConfig(0.25, 0.45, 60, 60)), nms),
]


@pytest.mark.parametrize("capturable", [True, False])
@pytest.mark.parametrize(("record", "answer"), FINISHED_BY_THE_HOST)
def test_a_graph_that_selects_or_suppresses_serves_every_call_with_the_same_tuning(
    make: Maker, record: ModelInfo, answer: Any, capturable: bool
) -> None:
    policy = TransferPolicy(pinned_mode="mapped", pageable_mode="resized")
    tuning = CudaTuning(slots=2, max_batch=4, transfer=policy)
    detector = make(record, answer, capturable=capturable, tuning=tuning)
    cpu, batch = on_cpu(record, answer), make_images(7)
    expected = cpu.detect_batch(batch)
    assert all(len(one) for one in expected)
    detector.prepare()
    session: Any = detector.session
    assert sorted(context.inputs["images"].shape[0] for context in session.contexts) == [1, 1, 4, 4]
    frame = detector.pinned_frame(batch[0].shape[:2])
    frame[...] = batch[0]
    assert placed(detector, frame).mode == "mapped"
    handed = [detector.submit(image) for image in [frame, *batch[1:]]]
    for found in (
        detector.detect_batch(batch),
        [detector(image) for image in batch],
        [future.result() for future in handed],
        [outcome.unwrap() for outcome in detector.stream(batch)],
    ):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    few = DetectOptions(0.5, 0.45, 5, classes=("beta",))
    assert_same(detector(batch[1], options=few), cpu(batch[1], options=few))
    assert list(detector.profile(batch).stages_ms) == ["stage", "upload", "letterbox", "network", "postprocess", "read"]


@pytest.mark.parametrize(("record", "answer"), FINISHED_BY_THE_HOST)
def test_what_a_graph_that_selects_or_suppresses_is_fed_is_the_letterboxed_image(
    make: Maker, record: ModelInfo, answer: Any
) -> None:
    detector, image = make(record, answer), make_images(1)[0]
    canvas = Letterbox.fixed(image.shape[:2], HW).apply(image)
    for channels, frame in (("bgr", image), ("rgb", np.ascontiguousarray(image[:, :, ::-1]))):
        detector(frame, channels=channels)  # type: ignore[arg-type]  # one of both
        np.testing.assert_array_equal(fed(detector)[0], canvas)


@pytest.mark.parametrize(("record", "answer"), FINISHED_BY_THE_HOST)
def test_a_batch_of_a_graph_that_selects_or_suppresses_is_halved_on_full_memory_when_asked(
    make: Maker, record: ModelInfo, answer: Any
) -> None:
    batch = make_images(5)
    detector = make(
        record, answer, capturable=False, fails=without_memory(make), tuning=CudaTuning(on_full_memory="halve")
    )
    for one, other in zip(detector.detect_batch(batch), on_cpu(record, answer).detect_batch(batch), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    ("tuning", "name"),
    [
        (CudaTuning(transfer=TransferPolicy(pinned_mode="mapped")), "transfer"),
        (CudaTuning(on_full_memory="halve"), "on_full_memory"),
    ],
)
def test_what_cannot_be_tuned_for_a_model_of_grey_images_is_refused_by_name(
    make: Maker, monkeypatch: pytest.MonkeyPatch, tuning: CudaTuning, name: str
) -> None:
    record = info("heads", batch=None, channels=1)
    monkeypatch.setattr(
        "yoloship.models.gpu_loading._open", lambda _, device, *__: CannedSession(device, record, heads)
    )
    model = constant_raw(empty_rows((64, 96)), (64, 96), {}).SerializeToString()
    words = rf"cuda_tuning\.{name}: has no effect on this model, because the CPU prepares its images"
    with pytest.raises(InputError, match=words):
        load(model, device="cuda", cuda_tuning=tuning)


def test_a_model_of_grey_images_runs_on_the_gpu_behind_the_pipeline_of_the_cpu(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = info("heads", batch=None, channels=1)
    monkeypatch.setattr(
        "yoloship.models.gpu_loading._open", lambda _, device, *__: CannedSession(device, record, heads)
    )
    image = make_images(1)[0]
    model = constant_raw(empty_rows((64, 96)), (64, 96), {}).SerializeToString()
    with load(model, device="cuda", cuda_tuning=CudaTuning(slots=2, max_batch=4)) as detector:
        assert (type(detector), detector.max_batch) == (Detector, 4)
        assert list(detector.profile([image]).stages_ms) == ["letterbox", "network", "decode", "suppress"]
        assert_same(detector.submit(image).result(), on_cpu(record, heads)(image))
        assert_same(detector(image), on_cpu(record, heads)(image))
        assert_same(detector(image[:, :, 0]), on_cpu(record, heads)(image[:, :, 0]))


@pytest.mark.parametrize(("form", "answer"), [("heads", heads), ("raw", raw)])
def test_an_engine_is_compared_through_the_pipeline_of_the_cpu(
    make: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: Any, answer: Any
) -> None:
    opened: list[Device] = []

    def stand_in(_: object, device: Device, *__: object) -> CannedSession:
        opened.append(device)
        return CannedSession(device, info(form, batch=None), answer)

    monkeypatch.setattr("yoloship.models.gpu_loading._open", stand_in)
    monkeypatch.setattr("yoloship.runtime.tensorrt.TensorRT.is_installed", lambda: True)
    (tmp_path / "best.engine").write_bytes(b"vtrt" + b"\0" * 60)
    image = make_images(1)[0]
    with open_artefact(tmp_path / "best.engine") as detector:
        assert type(detector) is Detector
        assert_same(detector(image), on_cpu(info(form, batch=None), answer)(image))
    gc.collect()
    assert opened[0].usage().counts == {}
