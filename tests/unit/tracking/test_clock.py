from __future__ import annotations

from fractions import Fraction

import pytest

from yoloship.errors import InputError
from yoloship.tracking.clock import LONGEST, USUAL_RATE, Clock, usable_rate


@pytest.mark.parametrize(
    ("times", "steps"),
    [
        pytest.param([None, None, None], [1, 1, 1], id="times are not known"),
        pytest.param([37.2, 37.3, 37.5], [1, 1, 2], id="first, then differences"),
        pytest.param([0.0, 0.1, 0.8, 0.9], [1, 1, 7, 1], id="gap"),
        pytest.param([0.0, 0.1, 0.1, 0.2], [1, 1, 0, 1], id="duplicate"),
        pytest.param([5.0, 5.1, 4.6, 5.2], [1, 1, 0, 1], id="late: the latest time remains"),
        pytest.param([500.0, 500.1, 0.0, 0.1], [1, 1, 1, 1], id="the clock began again"),
        pytest.param([0.0, 0.1, None, 0.3], [1, 1, 1, 1], id="one time is missing"),
        pytest.param([-2.0, -1.9], [1, 1], id="before zero"),
        pytest.param([0.0, 0.05], [1, 0.5], id="half a frame"),
        pytest.param([0.0, 1e300], [1, LONGEST], id="longer than anything"),
    ],
)
def test_the_rules_about_times(times: list[float | None], steps: list[float]) -> None:
    clock = Clock(10)
    assert [clock.step(time) for time in times] == pytest.approx(steps)


@pytest.mark.parametrize("time_s", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_a_time_is_refused(time_s: float) -> None:
    with pytest.raises(InputError, match="time_s: is not a time: expected seconds, or None, got "):
        Clock().step(time_s)


def test_without_a_rate_it_is_the_usual_one() -> None:
    clock = Clock()
    assert clock.rate == USUAL_RATE
    clock.step(0.0)
    assert clock.step(0.1) == pytest.approx(3)


def test_whether_the_last_frame_had_a_time_is_known() -> None:
    clock = Clock()
    clock.step(1.0)
    assert clock.is_timed
    clock.step(None)
    assert not clock.is_timed


@pytest.mark.parametrize(
    ("rate", "usable"),
    [(Fraction(30000, 1001), 30000 / 1001), (25, 25.0), (0, None), (90000, None), (None, None), (float("nan"), None)],
)
def test_rates_that_no_video_has_are_not_known(rate: float | None, usable: float | None) -> None:
    assert usable_rate(rate) == usable
