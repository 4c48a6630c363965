from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from yoloship.pipeline.crew import Crew


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_every_piece_is_done_once_and_reported_here(threads: int) -> None:
    with Crew(threads) as crew:
        for count in (0, 1, 2, 50):
            done: list[int] = []
            reported: list[int] = []
            here = threading.get_ident()

            def report(piece: int, reported: list[int] = reported, here: int = here) -> None:
                assert threading.get_ident() == here
                reported.append(piece)

            crew.work(range(count), done.append, report)
            assert sorted(done) == sorted(reported) == list(range(count))


def test_helpers_work_beside_the_caller() -> None:
    seen: set[int] = set()

    def slow(_: int) -> None:
        time.sleep(0.01)
        seen.add(threading.get_ident())

    with Crew(3) as crew:
        crew.work(range(20), slow, lambda _: None)
    assert len(seen) > 1


def test_many_callers_share_the_helpers() -> None:
    def bring(number: int) -> list[int]:
        reported: list[int] = []
        crew.work(range(number), lambda _: time.sleep(0.0005), reported.append)
        return sorted(reported)

    with Crew(2) as crew, ThreadPoolExecutor(6) as pool:
        assert list(pool.map(bring, range(30))) == [list(range(number)) for number in range(30)]


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("where", ["do", "done"])
def test_a_failure_is_raised_once_nothing_works_any_more(threads: int, where: str) -> None:
    busy: set[int] = set()

    def fail(piece: int) -> None:
        if piece == 5:
            raise KeyError("on purpose")

    def do(piece: int) -> None:
        busy.add(piece)
        try:
            time.sleep(0.001)
            if where == "do":
                fail(piece)
        finally:
            busy.discard(piece)

    with Crew(threads) as crew:
        for _ in range(5):
            with pytest.raises(KeyError, match="on purpose"):
                crew.work(range(40), do, fail if where == "done" else lambda _: None)
            assert not busy


def test_a_closed_crew_leaves_the_work_to_whoever_brings_it() -> None:
    crew = Crew(2)
    crew.work(range(5), lambda _: None, lambda _: None)
    crew.close()
    crew.close()
    reported: list[int] = []
    crew.work(range(5), lambda _: None, reported.append)
    assert reported == list(range(5))
