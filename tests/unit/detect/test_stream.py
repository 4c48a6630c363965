from __future__ import annotations

import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.cameras import ScriptedCamera
from helpers.models import image_session, info
from yoloship.detect.detector import Detector
from yoloship.detect.stream import Outcome, in_order
from yoloship.errors import ImageError, SessionError
from yoloship.results.detections import Detections

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

PARALLEL = (1, 2, 4)


def grey(value: int) -> npt.NDArray[np.uint8]:
    return np.full((64, 96, 3), value, np.uint8)


def score(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
    """One box whose score is the image's level over 255."""
    level = float(np.median(np.asarray(feeds["images"])))
    return [np.array([[[48, 32, 20, 20, 1, level / 255, 0, 0]]], np.float32)]


def detector(parallel_runs: int, script: Any = score) -> Detector:
    return Detector(image_session(info("raw"), script), parallel_runs=parallel_runs)


def workers() -> int:
    return sum(thread.name.startswith("yoloship") for thread in threading.enumerate())


@pytest.mark.parametrize("parallel_runs", PARALLEL)
def test_results_come_in_the_order_of_the_sources(parallel_runs: int) -> None:
    def uneven(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
        time.sleep(0.005 if int(np.asarray(feeds["images"]).max()) % 3 else 0)
        return score(feeds)

    outcomes = list(detector(parallel_runs, uneven).stream(grey(value) for value in range(80, 120)))
    assert [outcome.index for outcome in outcomes] == list(range(40))
    scores = [outcome.unwrap().scores[0] for outcome in outcomes]
    np.testing.assert_allclose(scores, np.arange(80, 120) / 255, rtol=1e-6)


@pytest.mark.parametrize("parallel_runs", PARALLEL)
def test_a_image_that_fails_takes_its_place_and_does_not_stop_the_rest(parallel_runs: int) -> None:
    outcomes = list(detector(parallel_runs).stream([grey(200), b"rubbish", grey(210), "none.jpg"]))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True, False]
    assert isinstance(outcomes[1].error, ImageError)
    assert outcomes[1].result is None
    assert outcomes[3].source == "none.jpg"
    with pytest.raises(ImageError):
        outcomes[1].unwrap()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("parallel_runs", PARALLEL)
def test_no_more_runs_are_under_way_than_asked(parallel_runs: int) -> None:
    """Each run waits until as many as may are under way, so that one too many would be seen."""
    lock, now, most = threading.Lock(), 0, 0
    together = threading.Barrier(parallel_runs)

    def count(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait()
        with lock:
            now -= 1
        return score(feeds)

    assert len(list(detector(parallel_runs, count).stream([grey(200)] * 20))) == 20
    assert most == parallel_runs


@pytest.mark.timeout(60)
def test_a_image_is_read_while_the_model_runs() -> None:
    read_second = threading.Event()

    def read(source: object, _: object) -> npt.NDArray[np.uint8]:
        if source == 1:
            read_second.set()
        return grey(200)

    def detect(image: npt.NDArray[np.uint8]) -> Detections:
        read_second.wait()  # for ever, if the second image is not read while the model has the first
        return Detections.empty((64, 96))

    assert len(list(in_order(range(3), read, detect, parallel_runs=1, keep_images=False))) == 3


@pytest.mark.parametrize("parallel_runs", PARALLEL)
def test_a_lazy_source_is_drawn_only_a_little_ahead(parallel_runs: int) -> None:
    drawn = 0

    def endless() -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal drawn
        while True:
            drawn += 1
            yield grey(200)

    stream = detector(parallel_runs).stream(endless())
    for taken in range(1, 30):
        next(stream)
        assert drawn - taken < 3 * (parallel_runs + 1)
    stream.close()  # type: ignore[attr-defined]  # an iterator that is a generator
    assert workers() == 0


def test_leaving_early_starts_nothing_new_and_leaves_no_thread() -> None:
    runs = 0

    def count(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
        nonlocal runs
        runs += 1
        time.sleep(0.02)
        return score(feeds)

    for outcome in detector(2, count).stream([grey(200)] * 100):
        assert outcome.error is None
        break
    gc.collect()
    assert workers() == 0
    assert runs <= 6  # two workers, and two sources ahead for each


def test_an_interrupt_in_the_consumer_ends_the_workers() -> None:
    def consume() -> None:
        for _ in detector(2).stream([grey(200)] * 100):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    gc.collect()
    assert workers() == 0


def test_an_error_of_the_sources_comes_after_the_results_before_it() -> None:
    def breaking() -> Iterator[npt.NDArray[np.uint8]]:
        yield grey(200)
        yield grey(201)
        raise OSError("the camera is gone")

    got: list[Outcome] = []
    with pytest.raises(OSError, match="the camera is gone"):
        got.extend(detector(2).stream(breaking()))
    assert [outcome.index for outcome in got] == [0, 1]
    assert workers() == 0


def test_an_exception_that_is_not_ours_is_not_hidden() -> None:
    def broken(_: object) -> list[npt.NDArray[np.float32]]:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(detector(2, broken).stream([grey(200)] * 5))
    assert workers() == 0


def test_a_detector_that_was_closed_begins_no_stream_and_one_closed_meanwhile_reports_every_image() -> None:
    one = detector(1)
    stream = one.stream([grey(200)] * 20)
    next(stream)
    one.close()
    errors = [outcome.error for outcome in stream]
    assert len(errors) == 19
    assert all(error is None or "the detector is closed" in str(error) for error in errors)
    assert isinstance(errors[-1], SessionError)
    with pytest.raises(SessionError, match="the detector is closed"):
        one.stream([grey(200)])


def test_images_are_handed_out_only_when_asked() -> None:
    first = next(iter(detector(1).stream([grey(200)])))
    assert first.image is None
    first = next(iter(detector(1).stream([grey(200)], keep_images=True)))
    assert first.image is not None
    assert (first.image == 200).all()
    assert next(iter(detector(1).stream([b"no"], keep_images=True))).image is None


def test_no_sources_no_results() -> None:
    assert list(detector(2).stream([])) == []


@pytest.mark.timeout(60)
def test_a_forgotten_stream_that_another_thread_collects_does_not_make_it_wait() -> None:
    release = threading.Event()

    def held(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
        if len(started) > 1:
            release.wait()
        started.append(1)
        return score(feeds)

    started: list[int] = [1]
    stream = detector(1, held).stream([grey(200)] * 10)
    next(stream)
    closer = threading.Thread(target=stream.close)  # type: ignore[attr-defined]  # an iterator that is a generator
    closer.start()
    try:
        closer.join()  # for ever, if it waits for the run
    finally:
        release.set()


def test_a_result_does_not_wait_for_the_next_frame_of_a_camera() -> None:
    camera = ScriptedCamera(there=1)
    with detector(1) as one:
        outcomes = one.stream(camera)
        assert next(outcomes).index == 0
        assert (camera.drawn, camera.waited) == (1, 0)
        assert [outcome.index for outcome in outcomes] == [1, 2, 3]
    assert camera.waited == 3


def test_no_more_frames_of_a_camera_are_drawn_than_are_worked_on_at_once() -> None:
    camera = ScriptedCamera(there=4)
    with detector(1) as one:
        outcomes = one.stream(camera)
        next(outcomes)
        assert camera.drawn == 2
        assert sum(1 for _ in outcomes) == 3
