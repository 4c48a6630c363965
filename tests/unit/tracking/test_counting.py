from __future__ import annotations

import numpy as np
import pytest

from yoloship.tracking.counting import LineCounter, ZoneCounter
from yoloship.tracking.shapes import Line, Placed, Rule, Zone

HW = (100, 200)


def line_counter(band: float = 2, min_frames: int = 1) -> LineCounter:
    """A line from left to right in the middle of the image, between x = 50 and x = 150."""
    return LineCounter(
        Placed.of(Line("gate", (50, 50), (150, 50), Rule("pixels", band=band, min_frames=min_frames)), HW)
    )


def walk(counter: LineCounter, *points: tuple[float, float], one: int = 1, name: str = "person") -> tuple[int, int]:
    for point in points:
        counter.update([one], [name], np.array([point]), 0.0)
    count = counter.count(None)
    return sum(count.entered.values()), sum(count.left.values())


def test_to_the_right_of_the_line_is_in_and_back_is_out() -> None:
    counter = line_counter()
    assert walk(counter, (100, 30), (100, 45), (100, 60)) == (1, 0)
    assert walk(counter, (100, 30)) == (1, 1)
    assert walk(counter, (100, 60)) == (2, 1)


def test_standing_still_on_the_line_counts_once() -> None:
    counter = line_counter()
    tremble = [(100, 50 + dy) for dy in (1.5, -1.5, 1, -1, 0, 1.9, -1.9) * 5]
    assert walk(counter, (100, 30), *tremble) == (0, 0)
    assert walk(counter, (100, 53)) == (1, 0)
    assert walk(counter, *tremble) == (1, 0)
    assert walk(counter, (100, 53)) == (1, 0)


def test_who_turns_back_on_the_line_is_not_counted() -> None:
    assert walk(line_counter(), (100, 30), (100, 51), (100, 30)) == (0, 0)


def test_it_may_have_to_stay_on_the_other_side() -> None:
    counter = line_counter(min_frames=3)
    assert walk(counter, (100, 30), (100, 60), (100, 60), (100, 30), (100, 60), (100, 60)) == (0, 0)
    assert walk(counter, (100, 70)) == (1, 0)


def test_past_the_end_of_the_line_nothing_is_counted() -> None:
    counter = line_counter()
    assert walk(counter, (20, 30), (20, 70)) == (0, 0)
    assert walk(counter, (100, 70), (100, 30)) == (0, 1), "back through the line"
    assert walk(counter, (170, 30), (170, 70), (100, 70)) == (0, 1), "and around it again"


def test_through_the_line_and_back_around_its_end_is_not_counted_twice() -> None:
    counter = line_counter()
    assert walk(counter, (100, 30), (100, 51), (152, 51), (160, 40), (100, 30)) == (0, 0)
    assert walk(counter, (100, 60)) == (1, 0)


def test_twice_through_the_line_and_around_its_end_is_not_counted() -> None:
    assert walk(line_counter(), (100, 30), (100, 51), (100, 49), (160, 49), (160, 60), (100, 60)) == (0, 0)


def test_who_is_first_seen_beyond_the_line_has_not_crossed_it() -> None:
    assert walk(line_counter(), (100, 70), (100, 80)) == (0, 0)
    assert walk(line_counter(), (100, 50.5), (100, 80)) == (0, 0)
    assert walk(line_counter(), (100, 49.5), (100, 80)) == (0, 0), "it was on the line, and nobody knows where before"


def test_a_jump_over_the_line_after_a_gap_counts() -> None:
    assert walk(line_counter(), (60, 5), (140, 95)) == (1, 0)


def test_objects_do_not_mix_and_classes_are_counted_apart() -> None:
    counter = line_counter()
    for y in (30.0, 70.0):
        points = np.array([[100, y], [110, 100 - y], [120, 30]])
        counter.update([1, 2, 3], ["person", "dog", "dog"], points, 0.0)
    count = counter.count(None)
    assert (count.entered, count.left) == ({"person": 1}, {"dog": 1})


def test_an_id_that_ended_is_forgotten() -> None:
    counter = line_counter()
    walk(counter, (100, 30))
    counter.end({2})
    assert walk(counter, (100, 70)) == (0, 0)
    assert counter._visitors.keys() == {1}
    counter.end(())
    assert not counter._visitors


def zone_counter(band: float = 2, min_frames: int = 1) -> ZoneCounter:
    """A zone between 50 and 100 in both directions."""
    corners = ((50, 50), (100, 50), (100, 100), (50, 100))
    return ZoneCounter(Placed.of(Zone("pit", corners, Rule("pixels", band=band, min_frames=min_frames)), HW))


def stay(counter: ZoneCounter, *xs: float, one: int = 1, start_s: float = 0.0) -> None:
    for second, x in enumerate(xs):
        counter.update([one], ["person"], np.array([[x, 70.0]]), start_s + second)


def test_a_zone_counts_who_comes_and_goes_and_for_how_long() -> None:
    counter = zone_counter()
    stay(counter, 40, 60, 70, 80, 40)
    count = counter.count(4.0)
    assert (count.inside, count.entered, count.left) == ({}, 1, 1)
    assert (count.mean_s, count.longest_s) == (3, 3)
    stay(counter, 60, 60, start_s=10)
    count = counter.count(15.0)
    assert (count.inside, count.seconds) == ({1: "person"}, {1: 5})
    assert (count.entered, count.left, count.mean_s, count.longest_s) == (2, 1, 3, 5)


def test_trembling_at_the_edge_of_a_zone_is_one_visit() -> None:
    counter = zone_counter()
    stay(counter, 40, *([51, 48.5] * 10))
    count = counter.count(20.0)
    assert (count.entered, count.left, len(count.inside)) == (1, 0, 1)


def test_who_is_first_seen_in_a_zone_has_entered_it() -> None:
    counter = zone_counter()
    stay(counter, 70)
    assert counter.count(0.0).entered == 1


def test_an_object_that_ends_in_a_zone_has_left_it_when_it_was_seen_last() -> None:
    counter = zone_counter()
    stay(counter, 70, 70, 70)
    assert counter.count(9.0).inside == {1: "person"}, "it may come back"
    counter.end(())
    count = counter.count(9.0)
    assert (count.inside, count.entered, count.left, count.mean_s) == ({}, 1, 1, 2)


def test_entering_may_take_some_frames() -> None:
    counter = zone_counter(min_frames=3)
    stay(counter, 40, 70, 40, 70, 70)
    assert counter.count(5.0).entered == 0
    stay(counter, 70)
    assert counter.count(6.0).entered == 1


def test_without_times_there_are_no_seconds() -> None:
    counter = zone_counter()
    stay(counter, 70, 30, 70)
    count = counter.count(None)
    assert (count.seconds, count.mean_s, count.longest_s) == (None, None, None)
    assert (count.entered, count.left) == (2, 1)


@pytest.mark.parametrize("seed", range(6))
def test_what_entered_and_has_not_left_is_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counter = zone_counter(min_frames=1 + seed % 3)
    for frame in range(60):
        ids = np.flatnonzero(rng.random(9) < 0.7).tolist()
        counter.update(ids, ["person"] * len(ids), rng.uniform(40, 110, (len(ids), 2)), frame)
        counter.end(np.flatnonzero(rng.random(9) < 0.95).tolist())
        count = counter.count(frame)
        assert count.entered - count.left == len(count.inside)
        assert all(second >= 0 for second in (count.seconds or {}).values())
