"""The memory of a stream's images is bounded, and no order of requests can block it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from yoloship.detect.stream import ImageBudget, in_order
from yoloship.errors import InputError
from yoloship.results.detections import Detections
from yoloship.sources import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

SIDE = 100
IMAGE_BYTES = SIDE * SIDE * 3
pytestmark = pytest.mark.timeout(60)


class Watch(ImageBudget):
    """Remembers the most that was ever reserved."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.most = 0

    def reserve(self, index: int, wanted_bytes: int, before_waiting: Callable[[], None] | None = None) -> None:
        super().reserve(index, wanted_bytes, before_waiting)
        self.most = max(self.most, self.held_bytes)


def read(_: object, reserve: Callable[[int], None]) -> npt.NDArray[np.uint8]:
    reserve(2 * IMAGE_BYTES)
    return np.zeros((SIDE, SIDE, 3), np.uint8)


def passed_on(frame: Any, _: object) -> Any:
    return frame


def detect(_: npt.NDArray[np.uint8]) -> Detections:
    return Detections.empty((SIDE, SIDE))


@pytest.mark.parametrize("parallel_runs", [1, 8])
@pytest.mark.parametrize("keep_images", [False, True])
@pytest.mark.parametrize("images_that_fit", [0, 1, 3])
def test_a_stream_holds_no_more_than_its_budget_and_one_image(
    parallel_runs: int, keep_images: bool, images_that_fit: int
) -> None:
    limit = images_that_fit * 2 * IMAGE_BYTES
    budget = Watch(limit)
    outcomes = in_order(range(40), read, detect, parallel_runs=parallel_runs, keep_images=keep_images, budget=budget)
    assert [outcome.index for outcome in outcomes] == list(range(40))
    assert 0 < budget.most <= limit + 2 * IMAGE_BYTES
    assert budget.held_bytes == 0


def test_images_that_the_caller_holds_already_cost_nothing() -> None:
    budget = Watch(1)
    frames = [np.zeros((SIDE, SIDE, 3), np.uint8)] * 10
    found = list(in_order(frames, passed_on, detect, parallel_runs=4, keep_images=True, budget=budget))
    assert len(found) == 10
    assert budget.most == 0


def test_the_oldest_image_is_never_held_up_by_later_ones() -> None:
    budget = ImageBudget(10)
    assert list(budget.draw("ab", [])) == [(0, "a"), (1, "b")]
    budget.reserve(1, 10)
    budget.reserve(0, 1000)
    assert budget.held_bytes == 1010


def test_a_later_image_waits_until_an_earlier_one_has_left() -> None:
    budget = ImageBudget(10)
    assert list(budget.draw("ab", [])) == [(0, "a"), (1, "b")]
    budget.reserve(0, 10)
    entered = threading.Event()

    def second() -> None:
        budget.reserve(1, 5)
        entered.set()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second)
        assert not entered.wait(0.05)
        budget.release(0)
        waiting.result()
    assert budget.held_bytes == 5


def test_whoever_has_to_wait_hands_over_first_what_others_wait_for() -> None:
    budget = ImageBudget(100)
    drawn = budget.draw(range(2), [])
    assert [next(drawn)[0], next(drawn)[0]] == [0, 1]
    handed: list[str] = []
    budget.reserve(0, 150, lambda: handed.append("the oldest never waits"))
    assert handed == []

    def hand_over() -> None:
        handed.append("it had to")
        budget.release(0)

    budget.reserve(1, 60, hand_over)
    assert handed == ["it had to"]
    assert budget.held_bytes == 60


def test_closing_a_budget_wakes_up_whoever_waits() -> None:
    budget = ImageBudget(10)
    assert list(budget.draw("ab", [])) == [(0, "a"), (1, "b")]
    budget.reserve(0, 10)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.reserve, 1, 5)
        budget.close()
        with pytest.raises(InputError, match="the stream was closed"):
            waiting.result()


def test_a_stream_that_is_left_early_ends_though_images_wait_for_memory() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 1

    stream: Any = in_order(endless(), read, detect, parallel_runs=4, keep_images=True, budget=ImageBudget(1))
    assert next(stream).index == 0
    stream.close()
    assert not any(thread.name.startswith("yoloship") for thread in threading.enumerate())


def test_an_image_that_turns_out_smaller_than_its_decoding_lets_the_next_one_in() -> None:
    budget = ImageBudget(100)
    assert list(budget.draw("ab", [])) == [(0, "a"), (1, "b")]
    budget.reserve(0, 90)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.reserve, 1, 50)
        while not budget._changed._waiters:  # type: ignore[attr-defined]
            time.sleep(0.001)
        try:
            budget.release(0, np.empty(10, np.uint8))
            assert not budget._changed._waiters  # type: ignore[attr-defined]
            waiting.result()
        finally:
            budget.close()
    assert budget.held_bytes == 60


@pytest.mark.parametrize("frames_that_fit", [1, 3, 100])
@pytest.mark.parametrize("keep_images", [False, True])
def test_frames_of_a_video_are_taken_only_while_they_fit(frames_that_fit: int, keep_images: bool) -> None:
    taken: list[int] = []

    def frames() -> Iterator[Frame]:
        for index in range(60):
            taken.append(index)
            yield Frame(index, f"a#{index}", np.zeros((SIDE, SIDE, 3), np.uint8))

    def image_of(frame: Any, _: object) -> Any:
        return frame.image

    budget = ImageBudget(frames_that_fit * IMAGE_BYTES)
    ahead = 0
    outcomes = in_order(frames(), image_of, detect, parallel_runs=8, keep_images=keep_images, budget=budget)
    for count, _ in enumerate(outcomes):
        if keep_images:
            ahead = max(ahead, len(taken) - count)
    assert len(taken) == 60
    assert ahead <= frames_that_fit + 1
    assert budget.held_bytes == 0
