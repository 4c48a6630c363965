from __future__ import annotations

from yoloship.engine.builder import Tracker


class Steps(list[tuple[str, float, float]]):
    """What was reported."""

    def __call__(self, what: str, done: float, total: float) -> None:
        self.append((what, done, total))

    def shares(self) -> list[float]:
        assert {total for _, _, total in self} <= {1}
        return [round(done, 3) for _, done, _ in self]


def test_the_fraction_of_a_phase_counts_within_a_step_of_its_parent() -> None:
    steps = Steps()
    tracker = Tracker(steps, "RTX")
    tracker.start("all", None, 2)
    tracker.start("part", "all", 4)
    tracker.step("part", 0)
    tracker.step("part", 1)
    tracker.end("part")
    tracker.step("all", 0)
    tracker.end("all")
    assert steps.shares() == [0.0, 0.0, 0.125, 0.25, 0.5, 0.5, 1.0]
    assert [what for what, _, _ in steps] == [f"RTX: {name}" for name in ("all", *["part"] * 4, "all", "all")]


def test_unknown_phases_and_parents_are_no_trouble() -> None:
    steps = Steps()
    tracker = Tracker(steps, "RTX")
    assert tracker.step("nobody", 3)
    tracker.end("nobody")
    tracker.start("orphan", "nobody", 0)
    assert tracker.step("orphan", 99)
    assert steps.shares() == [0.0, 1.0]


def test_a_phase_that_is_its_own_ancestor_ends() -> None:
    steps = Steps()
    tracker = Tracker(steps, "RTX")
    tracker.start("a", "b", 2)
    tracker.start("b", "a", 2)
    tracker.step("b", 0)
    assert all(0 <= share <= 1 for share in steps.shares())


def test_after_a_stop_nobody_is_told_any_more() -> None:
    steps = Steps()
    tracker = Tracker(steps, "RTX")
    tracker.start("all", None, 2)
    tracker.stop(KeyboardInterrupt())
    assert not tracker.step("all", 0)
    assert len(steps) == 1
