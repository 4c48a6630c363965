from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from yoloship.errors import InputError
from yoloship.tracking.presets import PRESETS, TrackOptions
from yoloship.tracking.tracker import ByteTracker, Tracked

ALL = pytest.mark.parametrize("preset", PRESETS)
STEP = 4.0


def box(place: float, top: float = 100.0) -> list[float]:
    """An object that is 40 wide and 80 high and moves to the right, in its frame of that number."""
    left = 50 + STEP * place
    return [left, top, left + 40, top + 80]


def found(tracker: ByteTracker, *boxes: list[float], score: float = 0.9, time_s: float | None = None) -> Tracked:
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    return tracker.update(rows, np.full(len(rows), score, np.float32), time_s)


def ids_of(tracker: ByteTracker, *boxes: list[float], score: float = 0.9, time_s: float | None = None) -> list[int]:
    return [int(one) for one in found(tracker, *boxes, score=score, time_s=time_s).ids]


@ALL
def test_an_object_keeps_its_id_while_it_moves(preset: str) -> None:
    tracker = ByteTracker(PRESETS[preset])
    ids = [ids_of(tracker, box(frame), box(frame, 400)) for frame in range(20)]
    assert ids[1:] == [[1, 2]] * 19


def test_a_new_object_is_confirmed_in_its_second_frame_and_in_the_first_frame_by_choice() -> None:
    for preset, first in (("yoloship", [-1]), ("trackers", [-1]), ("paper", [1]), ("ultralytics", [1])):
        tracker = ByteTracker(PRESETS[preset])
        assert ids_of(tracker, box(0)) == first
        ids_of(tracker, box(1))
        assert ids_of(tracker, box(2), box(2, 400)) == [1, -1]
        assert ids_of(tracker, box(3), box(3, 400)) == [1, 2]


def test_one_frame_may_be_enough_and_more_may_be_needed() -> None:
    at_once = ByteTracker(TrackOptions(confirm_frames=1))
    assert ids_of(at_once, box(0)) == [1]
    slow = ByteTracker(TrackOptions(confirm_frames=4))
    assert [ids_of(slow, box(frame))[0] for frame in range(5)] == [-1, -1, -1, 1, 1]


@ALL
def test_an_object_that_is_seen_once_gets_no_id(preset: str) -> None:
    tracker = ByteTracker(PRESETS[preset])
    ids_of(tracker, box(0))
    ids_of(tracker, box(1), box(1, 400))
    assert ids_of(tracker, box(2)) == [1]
    assert ids_of(tracker, box(3), box(3, 400)) == [1, -1]


@ALL
def test_an_id_is_never_given_again(preset: str) -> None:
    tracker = ByteTracker(PRESETS[preset])
    for frame in range(3):
        ids_of(tracker, box(frame))
    for _ in range(40):
        assert ids_of(tracker) == []
    assert tracker.alive_ids == frozenset()
    assert ids_of(tracker, box(3)) == [-1]
    assert ids_of(tracker, box(4)) == [2]


@ALL
def test_an_object_that_is_missed_comes_back_with_its_id(preset: str) -> None:
    tracker = ByteTracker(PRESETS[preset])
    for frame in range(15):
        ids_of(tracker, box(frame))
    for _ in range(7):
        ids_of(tracker)
        assert tracker.alive_ids == {1}
    assert ids_of(tracker, box(22)) == [1]


@ALL
@pytest.mark.parametrize("digits", [9, 3])
def test_dropped_frames_do_not_matter_if_times_are_known(preset: str, digits: int) -> None:
    timed, counted = ByteTracker(PRESETS[preset], 30), ByteTracker(PRESETS[preset], 30)
    shown = [frame for frame in range(60) if not 15 <= frame < 28]
    fast = [[10 * one if at % 2 == 0 else one for at, one in enumerate(box(frame))] for frame in shown]
    ids = [ids_of(timed, one, time_s=round(frame / 30, digits)) for frame, one in zip(shown, fast, strict=True)]
    without = [ids_of(counted, one) for one in fast]
    assert ids[1:] == [[1]] * (len(shown) - 1)
    assert without[-1] != [1], "the object moves too fast for this test to say anything"


@ALL
def test_after_a_gap_longer_than_the_buffer_it_is_another_object(preset: str) -> None:
    tracker = ByteTracker(PRESETS[preset], 25)
    for frame in range(10):
        ids_of(tracker, box(0), time_s=frame / 25)
    assert ids_of(tracker, box(0), time_s=100.0) == [-1]
    assert ids_of(tracker, box(0), time_s=100.04) == [2]


@pytest.mark.parametrize(
    ("options", "rate", "frames"),
    [
        (PRESETS["paper"], 30, 31),
        (PRESETS["paper"], 60, 61),
        (PRESETS["paper"], 25, 26),
        (PRESETS["paper"], 29.97, 30),
        (PRESETS["ultralytics"], 60, 31),
        (PRESETS["trackers"], 30, 31),
        (PRESETS["trackers"], 15, 16),
        (replace(PRESETS["trackers"], buffer=3), 15, 3),
        (replace(PRESETS["paper"], buffer=0), 30, 1),
    ],
)
def test_an_object_is_waited_for_as_long_as_the_buffer_says(options: TrackOptions, rate: float, frames: int) -> None:
    def id_after(missed: int) -> int:
        tracker = ByteTracker(options, rate)
        for _ in range(4):
            ids_of(tracker, box(0))
        for _ in range(missed):
            ids_of(tracker)
        (one,) = ids_of(tracker, box(0))
        return one

    assert id_after(frames - 1) == 1
    assert id_after(frames) == -1


@pytest.mark.parametrize(
    ("preset", "age", "is_same"),
    [("paper", 31, True), ("paper", 32, False), ("trackers", 30, True), ("trackers", 31, False)],
)
def test_a_gap_may_be_as_long_as_the_buffer(preset: str, age: int, is_same: bool) -> None:
    """In the program of the paper, time is looked at after the frame in which it ends; with times, before it."""
    tracker = ByteTracker(PRESETS[preset], 30)
    for frame in range(4):
        ids_of(tracker, box(0), time_s=frame / 30)
    assert ids_of(tracker, box(0), time_s=(3 + age) / 30) == ([1] if is_same else [-1])


def test_objects_that_wait_for_their_id_move_on_too() -> None:
    tracker = ByteTracker(replace(PRESETS["paper"], confirm_frames=6, first_frame="unconfirmed"))
    steps = np.cumsum([0, 8, 12, 16, 20, 24, 28]) / STEP  # at last more than the overlap without a prediction allows
    assert [ids_of(tracker, box(step)) for step in steps.tolist()] == [[-1]] * 5 + [[1]] * 2


def test_an_object_whose_score_falls_is_matched_second() -> None:
    tracker = ByteTracker(TrackOptions())
    for frame in range(4):
        ids_of(tracker, box(frame))
    assert ids_of(tracker, box(4), score=0.15) == [1]
    assert ids_of(tracker, box(5), score=0.05) == [-1], "not even looked at"
    assert ids_of(tracker, box(6), score=0.15) == [1]
    assert ids_of(tracker, box(6), box(6, 400), score=0.15) == [1, -1], "a low score begins no track"


def test_lost_objects_are_matched_with_low_scores_in_two_rounds_only() -> None:
    for preset, after in (("yoloship", [1]), ("paper", [-1])):
        tracker = ByteTracker(PRESETS[preset])
        for frame in range(6):
            ids_of(tracker, box(frame))
        ids_of(tracker)
        assert ids_of(tracker, box(7), score=0.2) == after


def test_scores_count_in_the_overlap_by_choice() -> None:
    near = [60.0, 100, 100, 180]  # an IoU of 0.31 with the box at 80
    for overlap, ids in (("iou", [1]), ("iou-score", [-1])):
        options = TrackOptions(min_overlap=0.25, overlap=overlap)  # type: ignore[arg-type]
        tracker = ByteTracker(options)
        for _ in range(3):
            ids_of(tracker, [80.0, 100, 120, 180])
        assert ids_of(tracker, near, score=0.5) == ids


def test_of_two_tracks_on_one_object_the_younger_goes() -> None:
    tracker = ByteTracker(PRESETS["paper"])
    for _ in range(9):
        ids_of(tracker, box(0), box(0, 400))
    ids_of(tracker, box(0))  # the second is lost
    assert tracker.alive_ids == {1, 2}
    ids = []
    for top in range(118, 395, 12):  # the last is six pixels above the lost one
        ids_of(tracker, box(0, top))
        ids.append(tracker.alive_ids)
    assert len(ids) < 28, "the lost one is still waited for"
    assert ids[-3] == {1, 2}
    assert ids[-1] == {1}


BAD: list[npt.NDArray[np.float32]] = [
    np.array([np.nan, 0, 10, 10], np.float32),
    np.array([0, 0, np.inf, 10], np.float32),
    np.array([5, 5, 5, 20], np.float32),
    np.array([5, 5, 20, 5], np.float32),
    np.array([20, 20, 5, 5], np.float32),
]


@ALL
@pytest.mark.parametrize("bad", BAD, ids=["nan", "infinite", "no width", "no height", "inside out"])
def test_boxes_that_are_no_boxes_get_no_id_and_disturb_nobody(preset: str, bad: npt.NDArray[np.float32]) -> None:
    tracker = ByteTracker(PRESETS[preset])
    for frame in range(5):
        answer = tracker.update(
            np.array([box(frame), bad.tolist()], np.float32), np.array([0.9, 0.9], np.float32), frame / 30
        )
    assert answer.ids.tolist() == [1, -1]
    assert answer.has_track.tolist() == [True, False]
    np.testing.assert_array_equal(answer.boxes_xyxy[1], bad)


@ALL
def test_the_largest_boxes_do_not_overflow(preset: str) -> None:
    tracker = ByteTracker(PRESETS[preset])
    for _ in range(40):
        answer = found(tracker, [-1e30, -1e30, 1e30, 1e30], [0.0, 0, 1e-30, 1e-30])
    assert np.isfinite(answer.boxes_xyxy).all()


def test_scores_that_are_not_numbers_get_no_id() -> None:
    tracker = ByteTracker(TrackOptions())
    for _ in range(3):
        assert ids_of(tracker, box(0), score=float("nan")) == [-1]


def test_a_frame_that_could_not_be_searched_ages_tracks_but_drops_no_new_one() -> None:
    tracker = ByteTracker(PRESETS["paper"])
    ids_of(tracker)
    ids_of(tracker, box(1))
    tracker.skip()
    assert ids_of(tracker, box(3)) == [1]
    for _ in range(40):
        tracker.skip()
    assert tracker.alive_ids == frozenset()
    assert tracker.now == 44


def test_the_time_goes_on_in_frames_of_the_nominal_rate() -> None:
    tracker = ByteTracker(TrackOptions(), 10)
    for time_s in (3.0, 3.1, 3.5):
        ids_of(tracker, time_s=time_s)
    assert tracker.now == pytest.approx(6)
    assert tracker.now_s == pytest.approx(0.6)
    with pytest.raises(InputError, match="time_s: is not a time"):
        ids_of(tracker, time_s=float("nan"))


def test_two_frames_of_one_time_are_both_matched() -> None:
    tracker = ByteTracker(TrackOptions())
    for frame in range(4):
        ids_of(tracker, box(frame), time_s=frame / 30)
    assert ids_of(tracker, box(3), time_s=3 / 30) == [1]
    assert ids_of(tracker, box(4), time_s=4 / 30) == [1]


def test_the_smoothed_box_is_between_the_predicted_and_the_found_one() -> None:
    tracker = ByteTracker(PRESETS["paper"])
    for frame in range(10):
        found(tracker, box(frame))
    answer = found(tracker, box(11.5))
    assert box(10)[0] < answer.boxes_xyxy[0, 0] < box(11.5)[0]


def test_the_arrays_that_are_handed_over_are_not_written_to() -> None:
    tracker = ByteTracker(PRESETS["paper"])
    boxes, scores = np.array([box(0)], np.float32), np.array([0.9], np.float32)
    for array in (boxes, scores):
        array.flags.writeable = False
    for _ in range(3):
        answer = tracker.update(boxes, scores)
    assert answer.ids.tolist() == [1]
    assert answer.ids.dtype == np.int32
