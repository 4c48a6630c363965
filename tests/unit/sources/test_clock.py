"""The times of frames: real ones if the file has them, and never backwards."""

from __future__ import annotations

from fractions import Fraction

import pytest

from yoloship.sources.clock import Clock

MS = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("pts", "times"),
    [
        ((0, 40, 73, 243), (0, 0.04, 0.073, 0.243)),
        ((6570, 6610, 6643), (0, 0.04, 0.073)),
        ((-40, 0, 40), (0, 0.04, 0.08)),
        ((0, 40, 40, 80), (0, 0.04, 0.04, 0.08)),
        ((0, 40, None, 120), (0, 0.04, 0.08, 0.12)),
        ((None, None, 500, 540), (0, 0.04, 0.08, 0.12)),
        ((2000, 2040, 0, 40, 80), (0, 0.04, 0.08, 0.12, 0.16)),
        ((0, 40, 243, 123, 283), (0, 0.04, 0.243, 0.243, 0.283)),
        ((None, None, None), (0, 0.04, 0.08)),
    ],
)
def test_times_count_from_the_first_frame_and_never_go_back(
    pts: tuple[int | None, ...], times: tuple[float, ...]
) -> None:
    clock = Clock(MS, Fraction(25))
    assert [clock.time_s(one) for one in pts] == list(times)
    assert list(times) == sorted(times)


def test_without_times_the_rate_counts_and_without_a_rate_25_frames_a_second() -> None:
    ntsc = Clock(None, Fraction(30_000, 1001))
    assert [ntsc.time_s(None) for _ in range(3)] == [0.0, 1001 / 30_000, 2002 / 30_000]
    unknown = Clock(None, None)
    assert [unknown.time_s(7) for _ in range(3)] == [0.0, 0.04, 0.08]


def test_hours_of_ticks_stay_exact() -> None:
    clock = Clock(Fraction(1, 90_000), Fraction(25))
    assert [clock.time_s(one * 3600) for one in range(90_001)][-1] == 3600.0


def test_a_broken_frame_does_not_move_the_clock() -> None:
    clock = Clock(MS, Fraction(25))
    assert clock.broken_s(500) == 0.0, "nothing was shown before it"
    clock.time_s(1000)
    assert clock.broken_s(1200) == 0.2
    assert clock.broken_s(900) == 0.0
    assert clock.time_s(1040) == 0.04
    assert Clock(None, Fraction(25)).broken_s(None) == 0.0
