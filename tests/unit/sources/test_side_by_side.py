"""Several videos at the same time: all frames come, and answers are put in the order of one after the other."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from helpers.interrupted import run_interrupted
from yoloship.sources.side_by_side import GROUP_BYTES, GROUP_FRAMES, SideBySide
from yoloship.sources.source import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yoloship.sources.ahead import Stopped


@dataclass(frozen=True)
class Answer:
    name: str
    place: int


def numbered(answer: Answer, place: int) -> Answer:
    return Answer(answer.name, place)


def video(
    name: str, count: int, before: Callable[[int], object] = lambda _: None
) -> Callable[[Stopped], Iterator[Frame]]:
    def frames(is_stopped: Stopped) -> Iterator[Frame]:
        for index in range(count):
            before(index)
            if is_stopped():
                return
            yield Frame(index, f"{name}#{index}", None)

    return frames


def answers(frames: SideBySide, delay: int = 0) -> Iterator[Answer]:
    """Answers as a detector gives them: in the order of the frames, some frames later."""
    under_way: list[Frame] = []
    for frame in frames:
        under_way.append(frame)
        if len(under_way) > delay:
            yield Answer(under_way.pop(0).name, -1)
    for frame in under_way:
        yield Answer(frame.name, -1)


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("yoloship-read")]


@pytest.mark.parametrize("delay", [0, 1, 7, 1000])
@pytest.mark.parametrize("at_once", [1, 2, 5, 9])
def test_answers_come_as_if_the_videos_had_been_read_one_after_the_other(at_once: int, delay: int) -> None:
    counts = (5, 0, 13, 1, 8)
    mixed = SideBySide([video(str(number), count) for number, count in enumerate(counts)], at_once)
    found = list(mixed.in_turn(answers(mixed, delay), numbered))
    names = [f"{number}#{index}" for number, count in enumerate(counts) for index in range(count)]
    assert found == [Answer(name, place) for place, name in enumerate(names)]
    assert readers() == []


@pytest.mark.timeout(60)
def test_videos_are_read_at_the_same_time() -> None:
    both = threading.Barrier(2)

    def meet(index: int) -> None:
        if index == 0:
            both.wait()

    mixed = SideBySide([video("a", 3, meet), video("b", 3, meet)], 2)
    assert sorted(frame.name for frame in mixed) == ["a#0", "a#1", "a#2", "b#0", "b#1", "b#2"]


@pytest.mark.timeout(60)
def test_a_video_is_read_only_a_few_frames_ahead() -> None:
    read: list[int] = []
    first = threading.Event()

    def note(index: int) -> None:
        read.append(index)

    mixed = SideBySide([video("a", 100, note), video("b", 1, lambda _: first.wait())], 2)
    frames = iter(mixed)
    next(frames)
    for _ in range(3):
        next(frames)
    assert len(read) <= 3 * GROUP_FRAMES  # one that was taken, one that waits, and one that is being decoded
    first.set()
    frames.close()  # type: ignore[attr-defined]  # it is a generator
    assert readers() == []


@pytest.mark.timeout(60)
def test_with_too_many_answers_waiting_only_the_first_video_goes_on() -> None:
    release = threading.Event()
    drawn: list[str] = []

    def hold(index: int) -> None:
        if index == 1:
            release.wait()

    def watched() -> Iterator[Answer]:
        for frame in mixed:
            drawn.append(frame.name)
            if drawn.count("b#3"):
                release.set()
            yield Answer(frame.name, -1)

    mixed = SideBySide([video("a", 6, hold), video("b", 50)], 2, max_waiting=4)
    found = list(mixed.in_turn(watched(), numbered))
    assert [answer.name for answer in found] == [f"a#{n}" for n in range(6)] + [f"b#{n}" for n in range(50)]
    assert drawn.index("a#5") < drawn.index(f"b#{GROUP_FRAMES}")


def test_what_a_video_raises_is_raised_for_the_consumer_and_ends_the_others() -> None:
    def fail(index: int) -> None:
        if index == 2:
            raise ZeroDivisionError("planted")

    mixed = SideBySide([video("a", 1000), video("b", 3, fail)], 2)
    with pytest.raises(ZeroDivisionError, match="planted"):
        list(mixed)
    assert readers() == []


def test_frames_before_a_failure_come_first() -> None:
    def fail(index: int) -> None:
        if index == 2:
            raise ZeroDivisionError("planted")

    frames = iter(SideBySide([video("a", 3, fail)], 1))
    assert [next(frames).name, next(frames).name] == ["a#0", "a#1"]
    with pytest.raises(ZeroDivisionError, match="planted"):
        next(frames)


def test_large_frames_come_in_smaller_groups() -> None:
    large = SimpleNamespace(nbytes=GROUP_BYTES // 2)
    read: list[int] = []

    def reading(_: object) -> Iterator[Any]:
        for number in range(40):
            read.append(number)
            yield SimpleNamespace(image=large, number=number)

    mixed = SideBySide([reading], 1)
    given: Iterator[Any] = iter(mixed)
    for number, frame in enumerate(given):
        assert frame.number == number
        assert len(read) <= number + 7
    assert len(read) == 40


def test_one_who_stops_early_leaves_no_thread_behind() -> None:
    mixed = SideBySide([video(str(number), 1000) for number in range(4)], 3)
    turned = mixed.in_turn(answers(mixed, 2), numbered)
    assert next(turned).place == 0
    turned.close()  # type: ignore[attr-defined]  # it is a generator
    assert readers() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer that sends signals")
@pytest.mark.timeout(120)
def test_an_interrupt_at_any_moment_ends_the_loop_and_the_threads() -> None:
    frame = "__import__('types').SimpleNamespace(image=None)"
    reading = f"lambda is_stopped: ({frame} for _ in range(1_000_000))"
    run_interrupted("side_by_side", "SideBySide", f"iter(SideBySide([{reading}] * 3, 2))")
