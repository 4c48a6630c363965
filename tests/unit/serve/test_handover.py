"""Images on their way to the detector and back: together, in order of options, and never twice."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from helpers.serving import PHOTO
from yoloship.detect.options import DetectOptions
from yoloship.detect.pipeline import Decoding
from yoloship.errors import ImageError, SessionError
from yoloship.images import ImageLimits
from yoloship.serve.handover import Begun, Handover, HeldImages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Detector:
    """Takes files as they are, as if a GPU decoded them, and answers when it is told to.

    Attributes:
        handed: The images that were handed over together, with their options.
    """

    decoding = Decoding("gpu", "nvJPEG")

    def __init__(self) -> None:
        self.handed: list[tuple[int, Any]] = []
        self.waiting: list[Begun] = []
        self.may_open = threading.Event()
        self.may_open.set()
        self.refuses = False

    def opened(self, file: Any, reserve: Callable[[int], None]) -> object:
        self.may_open.wait()
        reserve(1000)
        return file

    def submit_opened(self, images: Sequence[tuple[object, Begun]], options: Any) -> None:
        if self.refuses:
            raise SessionError("the detector is closed")
        self.handed.append((len(images), options))
        self.waiting += [begun for _, begun in images]


def begun(options: DetectOptions | None = None, data: bytes = PHOTO) -> Begun:
    return Begun(data, options, ImageLimits(), keep_image=False)


def with_handover(work: Callable[[Handover, Any, HeldImages], Any]) -> HeldImages:
    held, detector = HeldImages(), Detector()
    made: Any = detector
    handover = Handover(made, held)
    try:
        asyncio.run(work(handover, detector, held))
    finally:
        detector.may_open.set()
        handover.close()
    return held


async def until_waiting(detector: Detector, count: int) -> None:
    while len(detector.waiting) < count:
        await asyncio.sleep(0.001)


def test_files_that_came_while_others_were_read_are_handed_over_together() -> None:
    async def work(handover: Handover, detector: Detector, _: HeldImages) -> None:
        detector.may_open.clear()
        images = [begun() for _ in range(12)]
        tasks = [asyncio.ensure_future(handover.result(one)) for one in images]
        await asyncio.sleep(0.01)
        detector.may_open.set()
        await until_waiting(detector, 12)
        assert len(detector.handed) < 12
        for number, one in enumerate(detector.waiting):
            one.set_result(number)
        await asyncio.gather(*tasks)
        assert sorted(one.result for one in images) == list(range(12))

    assert with_handover(work).budget.held_bytes == 0


def test_images_with_other_options_are_handed_over_apart() -> None:
    async def work(handover: Handover, detector: Detector, _: HeldImages) -> None:
        detector.may_open.clear()
        options = [DetectOptions(score_threshold=0.5), None]
        tasks = [asyncio.ensure_future(handover.result(begun(options[number % 2]))) for number in range(10)]
        await asyncio.sleep(0.01)
        detector.may_open.set()
        await until_waiting(detector, 10)
        found = {one: sum(count for count, given in detector.handed if given == one) for one in options}
        assert found == {options[0]: 5, None: 5}
        for one in detector.waiting:
            one.set_result(None)
        await asyncio.gather(*tasks)

    with_handover(work)


def test_the_loop_is_woken_once_for_results_that_came_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(handover: Handover, detector: Detector, _: HeldImages) -> None:
        tasks = [asyncio.ensure_future(handover.result(begun())) for _ in range(8)]
        await until_waiting(detector, 8)
        loop = asyncio.get_running_loop()
        calls: list[Any] = []
        usual = loop.call_soon_threadsafe

        def counted(*given: Any) -> Any:
            calls.append(given)
            return usual(*given)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        for one in detector.waiting:  # in one step of the loop, so nothing is told before the last
            one.set_result(None)
        await asyncio.gather(*tasks)
        assert len(calls) == 1

    with_handover(work)


def test_a_dropped_image_gives_its_memory_back_and_is_not_run() -> None:
    async def work(handover: Handover, detector: Detector, held: HeldImages) -> None:
        task = asyncio.ensure_future(handover.result(begun()))
        await until_waiting(detector, 1)
        assert held.budget.held_bytes > 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        (dropped,) = detector.waiting
        assert dropped.cancelled()
        assert not dropped.set_running_or_notify_cancel()
        assert held.budget.held_bytes == 0

    with_handover(work)


def test_an_image_that_is_dropped_while_it_is_run_keeps_its_memory_until_the_run_ends() -> None:
    async def work(handover: Handover, detector: Detector, held: HeldImages) -> None:
        task = asyncio.ensure_future(handover.result(begun()))
        await until_waiting(detector, 1)
        (one,) = detector.waiting
        assert one.set_running_or_notify_cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert held.budget.held_bytes > 0
        one.set_result(None)
        assert held.budget.held_bytes == 0

    with_handover(work)


def test_an_image_that_is_dropped_before_it_is_read_is_never_handed_over() -> None:
    async def work(handover: Handover, detector: Detector, held: HeldImages) -> None:
        detector.may_open.clear()
        tasks = [asyncio.ensure_future(handover.result(begun())) for _ in range(30)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        detector.may_open.set()
        handover.close()
        assert detector.waiting == []
        assert held.budget.held_bytes == 0

    with_handover(work)


def test_what_cannot_be_read_or_handed_over_gets_its_error() -> None:
    async def work(handover: Handover, detector: Detector, held: HeldImages) -> None:
        damaged = begun(data=b"garbage")
        await handover.result(damaged)
        assert isinstance(damaged.error, ImageError)
        detector.refuses = True
        refused = begun()
        await handover.result(refused)
        assert isinstance(refused.error, SessionError)
        assert held.budget.held_bytes == 0

    with_handover(work)
