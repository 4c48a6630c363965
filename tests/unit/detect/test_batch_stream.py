from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.cameras import ScriptedCamera
from yoloship.detect.batch_stream import Steps, _Ticket, in_batches
from yoloship.detect.batching import Batcher
from yoloship.detect.options import DetectOptions
from yoloship.detect.pipeline import PlacedImage
from yoloship.detect.stream import ImageBudget
from yoloship.errors import ImageError, InputError, SessionError
from yoloship.letterbox import Letterbox
from yoloship.results.detections import Detections
from yoloship.sources.source import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from yoloship.detect.batching import Answer, Ran
    from yoloship.detect.stream import Outcome, Reserve

pytestmark = pytest.mark.timeout(60)  # of what hangs if it fails; nothing here depends on how fast it goes

SIZES = (1, 4, 16, 32)
OPTIONS = DetectOptions()


HALF_WAY = """
from yoloship.detect.batch_stream import Steps, in_batches

answers = []

def submit(images):
    for _, answer in images:
        assert answer.set_running_or_notify_cancel()
        answers.append(answer)
        if len(answers) == 3:
            answers[0].set_result(None)  # and nobody answers the others

outcomes = in_batches(range(9), Steps(lambda _: IS_READ, lambda image, _: image, submit), in_flight=4, readers=1,
                      keep_images=False)
print(next(outcomes).index)
"""


def image(number: int) -> npt.NDArray[np.uint8]:
    """Its height says which one it is."""
    return np.zeros((number + 1, 2, 3), np.uint8)


class Device:
    """Batches that are held back until `gate` is open, each on one of some slots, as a detector has them."""

    def __init__(self, slots: int = 4, sizes: tuple[int, ...] = SIZES) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.batcher = Batcher(self._run, threads=slots, sizes=sizes, waiting=1000, model_name="m")

    def _run(self, frames: Sequence[PlacedImage], _: DetectOptions) -> list[Detections]:
        self.batches.append(len(frames))
        self.begun.set()
        self.gate.wait()
        if any(frame.letterbox.image_hw[0] == 14 for frame in frames):
            raise SessionError("on purpose")
        return [Detections.empty(frame.letterbox.image_hw) for frame in frames]

    def submit(self, images: Sequence[tuple[npt.NDArray[np.uint8], Answer]]) -> None:
        placed = [PlacedImage(one, Letterbox.fixed((one.shape[0], one.shape[1]), (64, 64))) for one, _ in images]
        self.batcher.submit_all(placed, OPTIONS, [answer for _, answer in images])

    def steps(self, read: Any = None) -> Steps:
        def take(source: Any, reserve: Reserve) -> npt.NDArray[np.uint8]:
            if isinstance(source, np.ndarray):
                return source
            reserve(100)
            return image(source) if read is None else read(source)

        return Steps(lambda source: isinstance(source, np.ndarray), take, self.submit)


class Told:
    """An answer that tells another function too when it is there."""

    def __init__(self, answer: Answer, then: Callable[[], object]) -> None:
        self.answer, self.then = answer, then
        self.ran: Ran | None = None
        self.decoded_s: float | None = None

    def cancelled(self) -> bool:
        return self.answer.cancelled()

    def set_running_or_notify_cancel(self) -> bool:
        return self.answer.set_running_or_notify_cancel()

    def set_result(self, result: Any, /) -> None:
        self.answer.set_result(result)
        self.then()

    def set_exception(self, exception: BaseException, /) -> None:
        self.answer.set_exception(exception)
        self.then()


def telling(steps: Steps, then: Callable[[], object]) -> Steps:
    """The same steps, and a function that is called when an image is done."""

    def submit(images: Sequence[tuple[Any, Answer]]) -> None:
        steps.submit([(one, Told(answer, then)) for one, answer in images])

    return Steps(steps.is_read, steps.read, submit)


@pytest.fixture
def device() -> Iterator[Device]:
    made = Device()
    yield made
    made.gate.set()
    made.batcher.close()


def stream(sources: Any, steps: Steps, *, in_flight: int = 128, readers: int = 2, **how: Any) -> Iterator[Outcome]:
    return in_batches(sources, steps, in_flight=in_flight, readers=readers, keep_images=how.pop("keep", False), **how)


def workers() -> int:
    return sum(thread.name.startswith("yoloship_") for thread in threading.enumerate())


@pytest.mark.parametrize("are_frames", [True, False])
def test_batches_grow_to_the_largest_however_few_readers_there_are(device: Device, are_frames: bool) -> None:
    """While the first batches are on the device, all that may be in flight comes to wait for it."""
    steps, submitted = device.steps(), 0

    def submit(images: Sequence[tuple[Any, Answer]]) -> None:
        nonlocal submitted
        steps.submit(images)
        submitted += len(images)
        if submitted >= 128:  # several at a time
            device.gate.set()

    sources = [image(3) if are_frames else 3] * 400
    outcomes = list(stream(sources, Steps(steps.is_read, steps.read, submit), readers=1))
    assert len(outcomes) == 400
    assert all(outcome.error is None for outcome in outcomes)
    assert max(device.batches) == 32
    assert sum(device.batches) == 400
    # Of the 128 that came together, four slots had at most a small batch each before the rest was there.
    assert sum(size for size in device.batches if size >= 16) >= 64


def test_no_more_is_in_flight_than_was_said(device: Device) -> None:
    drawn = 0

    def endless() -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal drawn
        while True:
            drawn += 1
            if drawn == 12:
                device.gate.set()
            yield image(drawn % 7)

    results = stream(endless(), device.steps(), in_flight=8, readers=4)
    for taken in range(1, 60):
        next(results)
        assert drawn - taken < 12
    results.close()  # type: ignore[attr-defined]  # an iterator that is a generator
    assert workers() == 0


def test_frames_pass_readers_that_are_all_busy(device: Device) -> None:
    """Both readers hang in their files; the frames behind these are detected all the same."""
    device.gate.set()
    may_read, done = threading.Event(), threading.Semaphore(0)

    def read(source: int) -> npt.NDArray[np.uint8]:
        may_read.wait()
        return image(source)

    steps = telling(device.steps(read), done.release)

    def sources() -> Iterator[Any]:
        yield from (0, 1)
        yield from map(image, range(2, 12))
        for _ in range(10):
            done.acquire()
        may_read.set()

    outcomes = list(stream(sources(), steps, readers=2))
    assert [outcome.unwrap().image_hw[0] for outcome in outcomes] == list(range(1, 13))


def test_a_result_that_is_there_is_given_out_before_more_is_drawn(device: Device) -> None:
    """A camera gives the next frame only in its own time."""
    device.gate.set()
    finished = threading.Event()
    drawn = 0

    def camera() -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal drawn
        for drawn in range(1, 6):
            if drawn > 1:
                finished.wait()
                finished.clear()
            yield image(drawn)

    for taken, _ in enumerate(stream(camera(), telling(device.steps(), finished.set)), 1):
        assert drawn <= taken + 1
    assert taken == 5


def test_a_result_does_not_wait_for_a_frame_of_a_camera_that_is_not_there(device: Device) -> None:
    device.gate.set()
    camera = ScriptedCamera(there=1)
    steps = device.steps(lambda frame: frame.image)
    outcomes = stream(camera, steps)
    assert next(outcomes).error is None
    assert (camera.drawn, camera.waited) == (1, 0)
    assert sum(1 for _ in outcomes) == 3
    assert camera.waited == 3


def test_results_come_in_order_and_errors_stay_in_their_place(device: Device) -> None:
    device.gate.set()

    def read(source: int) -> npt.NDArray[np.uint8]:
        if source == 5:
            raise ImageError("cannot be read")
        return image(source)

    sources = [number if number % 3 else image(number) for number in range(30)]
    outcomes = list(stream(iter(sources), device.steps(read), in_flight=1, readers=3, keep=True))
    assert [outcome.index for outcome in outcomes] == list(range(30))
    assert isinstance(outcomes[5].error, ImageError)
    assert isinstance(outcomes[13].error, SessionError)
    for outcome in outcomes:
        if outcome.error is None:
            assert outcome.unwrap().image_hw[0] == outcome.index + 1
            assert outcome.image is not None
            assert len(outcome.image) == outcome.index + 1


def test_an_exception_that_is_not_ours_comes_after_the_results_before_it(device: Device) -> None:
    device.gate.set()

    def read(source: int) -> npt.NDArray[np.uint8]:
        raise ZeroDivisionError("a bug")

    got: list[Outcome] = []
    with pytest.raises(ZeroDivisionError, match="a bug"):
        got.extend(stream([image(1), image(2), 3, image(4)], device.steps(read)))
    assert [outcome.index for outcome in got] == [0, 1]

    def breaking() -> Iterator[Any]:
        yield image(1)
        raise OSError("the camera is gone")

    got.clear()
    with pytest.raises(OSError, match="the camera is gone"):
        got.extend(stream(breaking(), device.steps(read)))
    assert [outcome.index for outcome in got] == [0]
    assert workers() == 0


def test_leaving_early_waits_for_what_is_on_the_device_and_drops_what_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(slots=1, sizes=(1,))
    answers: list[Any] = []
    steps = device.steps()

    def submit(images: Sequence[tuple[Any, Answer]]) -> None:
        answers.extend(answer for _, answer in images)
        steps.submit(images)

    def sources() -> Iterator[npt.NDArray[np.uint8]]:
        for number in range(5):
            yield image(number)
        device.begun.wait()
        raise KeyboardInterrupt

    waited: list[_Ticket] = []
    wait = _Ticket.wait

    def waited_for(ticket: _Ticket) -> None:
        waited.append(ticket)
        device.gate.set()
        wait(ticket)

    monkeypatch.setattr(_Ticket, "wait", waited_for)
    with pytest.raises(KeyboardInterrupt):
        next(stream(sources(), Steps(steps.is_read, steps.read, submit)))
    assert waited == answers[:1]
    assert [answer.is_done for answer in answers] == [True, *[False] * (len(answers) - 1)]
    assert workers() == 0
    device.batcher.close()
    assert device.batches == [1]


def test_images_count_against_the_budget_until_their_results_are_there(device: Device) -> None:
    budget = ImageBudget(250)
    device.gate.set()
    outcomes = list(stream(range(40), device.steps(), readers=3, budget=budget))
    assert len(outcomes) == 40
    assert budget.held_bytes == 0


def test_a_closed_stream_tells_its_readers(device: Device) -> None:
    reading, may_read = threading.Event(), threading.Event()
    told: list[object] = []

    def read(source: int) -> npt.NDArray[np.uint8]:
        reading.set()
        may_read.wait()
        return image(source)

    steps = device.steps(read)

    def submit(images: Sequence[tuple[Any, Answer]]) -> None:
        told.extend(images)
        raise InputError("handed over too late")

    def sources() -> Iterator[int]:
        yield 0
        reading.wait()
        may_read.set()
        raise KeyboardInterrupt

    results = stream(sources(), Steps(steps.is_read, lambda s, r: read(0), submit), readers=1)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert workers() == 0


def test_an_image_leaves_the_budget_when_its_result_is_there_and_one_that_failed_at_once(device: Device) -> None:
    budget = ImageBudget()

    def read(source: Any) -> npt.NDArray[np.uint8]:
        if source == 1:
            raise ImageError("on purpose")
        return image(source)

    outcomes = stream(range(3), device.steps(read), budget=budget)
    device.gate.set()
    first = next(outcomes)
    assert first.index == 0
    assert 0 not in budget._held  # before the stream is asked for the next
    assert isinstance(next(outcomes).error, ImageError)
    assert 1 not in budget._held
    assert [outcome.index for outcome in outcomes] == [2]
    assert not budget._held


def test_a_source_goes_with_its_outcome_and_does_not_wait_for_the_garbage_collector(device: Device) -> None:
    kept: list[Any] = []

    def sources() -> Iterator[Any]:
        for number in range(3):
            one = image(number)
            kept.append(weakref.ref(one))
            yield one
            del one
        device.gate.set()  # all are handed over, so that each waits for its result

    gc.disable()
    try:
        assert sum(outcome.error is None for outcome in stream(sources(), device.steps())) == 3
        device.batcher.close()  # its threads hold nothing any more
        assert [reference() for reference in kept] == [None, None, None]
    finally:
        gc.enable()


def test_what_is_kept_of_an_image_on_a_device_counts_as_it_lies_on_the_host(device: Device) -> None:
    class OnDevice:
        nbytes = 6

        def host(self) -> npt.NDArray[np.uint8]:
            return image(3)

        def close(self) -> None:
            pass

    budget = ImageBudget()
    device.gate.set()

    def submit(images: Sequence[tuple[Any, Answer]]) -> None:
        device.submit([(one.host(), answer) for one, answer in images])

    steps = Steps(lambda _: True, lambda source, _: source.image, submit)  # type: ignore[attr-defined]
    sources = [Frame(0, "a.mp4#0", OnDevice())]
    outcomes = in_batches(sources, steps, in_flight=4, readers=1, keep_images=True, budget=budget)
    np.testing.assert_array_equal(next(outcomes).image, image(3))
    assert budget.held_bytes == image(3).nbytes
    assert list(outcomes) == []
    assert budget.held_bytes == 0


@pytest.mark.parametrize("is_read", [True, False])
def test_a_process_ends_in_the_middle_of_a_stream_that_nobody_closes(*, is_read: bool) -> None:
    """Then the threads that would answer do not run any more."""
    script = HALF_WAY.replace("IS_READ", str(is_read))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
