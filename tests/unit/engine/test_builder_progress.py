from __future__ import annotations

from yoloship.engine import BuildStep
from yoloship.engine.builder import Tracker


def fractions_of(steps: list[BuildStep]) -> list[float]:
    return [round(step.fraction, 3) for step in steps]


def test_the_fraction_of_a_phase_counts_within_a_step_of_its_parent() -> None:
    steps: list[BuildStep] = []
    tracker = Tracker(steps.append)
    tracker.start("all", None, 2)
    tracker.start("part", "all", 4)
    tracker.step("part", 0)
    tracker.step("part", 1)
    tracker.finish("part")
    tracker.step("all", 0)
    tracker.finish("all")
    assert fractions_of(steps) == [0.0, 0.0, 0.125, 0.25, 0.5, 0.5, 1.0]
    assert [step.depth for step in steps] == [0, 1, 1, 1, 1, 0, 0]


def test_unknown_phases_and_parents_are_no_trouble() -> None:
    steps: list[BuildStep] = []
    tracker = Tracker(steps.append)
    assert tracker.step("nobody", 3)
    tracker.finish("nobody")
    tracker.start("orphan", "nobody", 0)
    assert tracker.step("orphan", 99)
    assert fractions_of(steps) == [0.0, 1.0]


def test_a_phase_that_is_its_own_ancestor_ends() -> None:
    steps: list[BuildStep] = []
    tracker = Tracker(steps.append)
    tracker.start("a", "b", 2)
    tracker.start("b", "a", 2)
    tracker.step("b", 0)
    assert all(0 <= step.fraction <= 1 for step in steps)


def test_after_a_stop_nobody_is_told_any_more() -> None:
    steps: list[BuildStep] = []
    tracker = Tracker(steps.append)
    tracker.start("all", None, 2)
    tracker.stop(KeyboardInterrupt())
    assert not tracker.step("all", 0)
    assert len(steps) == 1
