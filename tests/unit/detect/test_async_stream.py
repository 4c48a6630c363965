"""Streams for ``async for``: the same outcomes, and an event loop that is never blocked."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.models import finds_a_cat
from yoloship import Detector, load
from yoloship.errors import InputError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator

HW = (64, 96)
IMAGES = [np.full((*HW, 3), value, np.uint8) for value in range(0, 60, 5)]


@pytest.fixture(scope="module")
def detector() -> Iterator[Detector]:
    with load(finds_a_cat(HW).SerializeToString()) as made:
        yield made


class Sources:
    """Gives images, and notes how many were taken, where, and whether it was closed."""

    def __init__(self, count: int = 10_000) -> None:
        self.count, self.taken = count, 0
        self.threads: set[int] = set()
        self.is_closed = False

    def __iter__(self) -> Iterator[Any]:
        try:
            for _ in range(self.count):
                self.taken += 1
                self.threads.add(threading.get_ident())
                yield IMAGES[0]
        finally:
            self.is_closed = True


def test_the_outcomes_are_those_of_a_stream_in_order(detector: Detector) -> None:
    async def run() -> list[Any]:
        return [(one.index, one.unwrap().to_dict()) async for one in detector.astream(IMAGES)]

    assert asyncio.run(run()) == [(one.index, one.unwrap().to_dict()) for one in detector.stream(IMAGES)]


def test_other_tasks_run_meanwhile(detector: Detector) -> None:
    turn = threading.Event()

    def slow() -> Iterator[Any]:
        for image in IMAGES[:3]:
            assert turn.wait()  # only the other task lets it go on
            yield image

    async def run() -> int:
        async def let_go() -> None:
            turn.set()

        outcomes = [one async for one in _with(detector.astream(slow()), let_go())]
        return len(outcomes)

    assert asyncio.run(run()) == 3


async def _with(outcomes: Any, other: Any) -> Any:
    task = asyncio.ensure_future(other)
    async for outcome in outcomes:
        yield outcome
    await task


def test_it_reads_no_further_ahead_than_a_stream(detector: Detector) -> None:
    ahead = Sources()
    for _ in zip(range(3), detector.stream(ahead), strict=False):
        pass
    source = Sources()

    async def run() -> None:
        outcomes = detector.astream(source)
        for _ in range(3):
            await anext(outcomes)
        await asyncio.sleep(0.05)
        assert source.taken <= ahead.taken + 1
        await outcomes.aclose()  # type: ignore[attr-defined]  # it is an asynchronous generator

    asyncio.run(run())
    assert source.is_closed
    assert threading.get_ident() not in source.threads


def test_a_cancelled_task_closes_the_stream_before_it_ends(detector: Detector) -> None:
    source = Sources()

    async def consume(begun: asyncio.Event) -> None:
        async for _ in detector.astream(source):
            begun.set()

    async def run() -> None:
        begun = asyncio.Event()
        task = asyncio.ensure_future(consume(begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.is_closed

    asyncio.run(run())
    taken = source.taken
    assert taken < source.count
    for thread in threading.enumerate():
        if thread.name.startswith("yoloship-astream"):
            thread.join()
    assert detector(IMAGES[0]) is not None  # it still works
    assert source.taken == taken


def test_an_image_that_fails_is_an_outcome_and_an_error_of_the_source_is_raised(detector: Detector) -> None:
    def broken() -> Iterator[Any]:
        yield b"not an image"
        raise ZeroDivisionError

    async def run() -> list[Any]:
        outcomes = []
        with pytest.raises(ZeroDivisionError):
            async for one in detector.astream(broken()):
                outcomes.append(one)  # noqa: PERF401 - what came before the error counts
        return outcomes

    (outcome,) = asyncio.run(run())
    assert outcome.error is not None


def test_wrong_options_are_refused_at_the_call(detector: Detector) -> None:
    with pytest.raises(InputError):
        detector.astream(IMAGES, classes=["no such class"])
    closed = load(finds_a_cat(HW).SerializeToString())
    closed.close()
    with pytest.raises(SessionError, match="the detector is closed"):
        closed.astream(IMAGES)


def test_two_streams_run_at_the_same_time(detector: Detector) -> None:
    async def run() -> list[int]:
        async def count() -> int:
            return len([one async for one in detector.astream(IMAGES)])

        return list(await asyncio.gather(count(), count(), count()))

    assert asyncio.run(run()) == [len(IMAGES)] * 3
