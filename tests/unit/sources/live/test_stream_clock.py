from __future__ import annotations

import pytest

from yoloship.sources.live.stream_clock import StreamClock

CASES: dict[str, tuple[list[tuple[float | None, float]], list[float]]] = {
    "the source's clock counts, whatever its origin and the delays on the way": (
        [(100.0, 0.0), (100.04, 0.3), (100.08, 0.31)],
        [0.0, 0.04, 0.08],
    ),
    "frames without a time get that of their arrival": ([(None, 5.0), (None, 5.5), (None, 7.0)], [0.0, 0.5, 2.0]),
    "a frame without a time between others": ([(1.0, 0.0), (None, 0.1), (1.3, 0.2)], [0.0, 0.1, 0.2]),
    "a clock that starts again": ([(90.0, 0.0), (90.1, 0.1), (0.0, 0.2), (0.1, 0.3)], [0.0, 0.1, 0.2, 0.3]),
    "a clock that jumps ahead": ([(1.0, 0.0), (90_000.0, 0.1), (90_000.1, 0.2)], [0.0, 0.1, 0.2]),
    "a silence that the clock knows of": ([(1.0, 0.0), (31.0, 30.2)], [0.0, 30.0]),
    "a burst of what was buffered": ([(1.0, 0.0), (2.0, 0.001), (3.0, 0.002)], [0.0, 1.0, 2.0]),
}


@pytest.mark.parametrize("name", CASES)
def test_time_is_that_of_the_source_where_it_can_be(name: str) -> None:
    given, expected = CASES[name]
    clock = StreamClock()
    assert [clock.time_of(*one) for one in given] == pytest.approx(expected)


def test_a_new_connection_adds_the_time_that_passed_here() -> None:
    clock = StreamClock()
    assert clock.time_of(500.0, 10.0) == 0.0
    assert clock.time_of(500.5, 10.5) == pytest.approx(0.5)
    clock.restart()
    assert clock.time_of(500.6, 17.5) == pytest.approx(7.5), "its clock may have gone on, but nobody knows"
    assert clock.time_of(500.7, 17.6) == pytest.approx(7.6)


def test_times_always_grow() -> None:
    clock = StreamClock()
    times = [clock.time_of(*one) for one in [(3.0, 1.0), (3.0, 1.0), (2.0, 1.0), (None, 1.0), (None, 0.5)]]
    assert times == sorted(set(times))
