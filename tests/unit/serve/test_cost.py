"""The cost of a run is fitted to what was measured."""

from __future__ import annotations

import pytest

from yoloship.serve.cost import RunCost


def fitted(*runs: tuple[int, float]) -> RunCost:
    cost = RunCost()
    for images, seconds in runs:
        cost.add(images, seconds)
    return cost


def test_runs_of_several_sizes_give_both_parts() -> None:
    cost = fitted(*((n, 0.002 * n + 0.010) for n in (1, 4, 16) * 3))
    assert cost.line == pytest.approx((0.002, 0.010))
    assert cost.seconds(8) == pytest.approx(0.026)


def test_runs_of_one_size_give_a_line_through_the_origin() -> None:
    assert fitted((2, 0.1), (2, 0.1)).line == pytest.approx((0.05, 0.0))
    assert RunCost().line == (0.0, 0.0)


def test_neither_part_is_negative_whatever_was_measured() -> None:
    a, b = fitted((1, 0.5), (16, 0.1)).line
    assert a > 0
    assert b == 0
    a, b = fitted((1, 0.001), (16, 1.0)).line
    assert a > 0
    assert b == 0


def test_old_runs_count_less_and_less() -> None:
    cost = fitted(*((1, 1.0) for _ in range(50)), *((1, 0.1) for _ in range(300)))
    assert cost.seconds(1) == pytest.approx(0.1, rel=0.05)


def test_the_batch_is_the_smallest_that_is_nearly_as_fast_as_the_fastest() -> None:
    flat = fitted(*((n, 0.03 * n) for n in (1, 4, 16)))
    assert flat.best_batch((1, 4, 16), 1.0) == 1
    steep = fitted(*((n, 0.001 * n + 0.004) for n in (1, 4, 16, 64)))
    assert steep.best_batch((1, 4, 16, 64), 1.0) == 64
    assert steep.best_batch((1, 4, 16, 64), 0.03) == 16
    assert steep.best_batch((8,), 0.0) == 8
