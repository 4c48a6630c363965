from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from helpers.models import info
from yoloship.errors import InputError
from yoloship.results.classification import Classification
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks
from yoloship.results.oriented import hulls_of
from yoloship.sources import Frame, Stream
from yoloship.tracking.scene_file import parse_scene
from yoloship.tracking.tracks import MAX_STREAMS, Tracks

HW = (200, 400)
NAMES = ("alpha", "beta", "gamma")


def at(*lefts: float, score: float = 0.9) -> Detections:
    boxes = np.array([[left, 50, left + 40, 130] for left in lefts], np.float32).reshape(-1, 4)
    scores = np.full(len(lefts), score, np.float32)
    return Detections(boxes, scores, np.zeros(len(lefts), np.int32), NAMES, HW)


def frame(index: int, stream: Stream | None = None, time_s: float | None = None) -> Frame:
    return Frame(index, f"x#{index}", None, time_s, stream)


def ids(found: Detections | None) -> list[int]:
    assert found is not None
    assert found.track_ids is not None
    return [int(one) for one in found.track_ids]


def test_each_stream_counts_its_own_ids() -> None:
    tracks, one, other = Tracks(), Stream("a.mp4", rate=Fraction(25)), Stream("b.mp4", rate=Fraction(25))
    for index in range(4):
        first = tracks.update(frame(index, one), at(10 + index))[0]
        second = tracks.update(frame(index, other), at(300 - index, 100))[0]
        stills = tracks.update(None, at(200))[0]
    assert (ids(first), ids(second), ids(stills)) == ([1], [1, 2], [1])


def test_the_same_stream_may_come_as_another_object() -> None:
    tracks = Tracks()
    for index in range(3):
        found = tracks.update(frame(index, Stream("rtsp://camera")), at(10))[0]
    assert ids(found) == [1]


@pytest.mark.parametrize("has_times", [True, False])
def test_frames_that_are_left_out_are_known_by_their_time_or_their_place(has_times: bool) -> None:
    stream, tracks = Stream("a.mp4", rate=Fraction(25)), Tracks()
    for index in [*range(12), *range(20, 24)]:
        found = tracks.update(frame(index, stream, index / 25 if has_times else None), at(10 + 12 * index))[0]
    assert ids(found) == [1]


def test_a_failed_frame_gives_nothing_and_lets_time_pass() -> None:
    tracks = Tracks()
    for _ in range(3):
        tracks.update(None, at(10))
    assert tracks.update(None, None) == (None, None)
    assert ids(tracks.update(None, at(10))[0]) == [1]
    for _ in range(40):
        tracks.update(None, None)
    assert ids(tracks.update(None, at(10))[0]) == [-1]


def test_detections_without_a_track_need_the_score_of_the_threshold() -> None:
    for threshold, kept in ((0.25, 1), (0.12, 2)):
        tracks = Tracks(score_threshold=threshold)
        for _ in range(3):
            tracks.update(None, at(10))
        weak = Detections.merge([at(10, score=0.2), at(300, score=0.15)])
        found = tracks.update(None, weak)[0]
        assert ids(found) == [1, -1][:kept]


def test_the_detector_runs_at_the_lower_of_the_thresholds() -> None:
    assert Tracks().detect_threshold == 0.1
    assert Tracks(score_threshold=0.05).detect_threshold == 0.05


def test_masks_keypoints_and_scores_stay_with_their_object() -> None:
    tracks = Tracks()
    points = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    for _ in range(3):
        found = tracks.update(None, replace(at(10, 300), keypoints=points))[0]
    assert found is not None
    assert found == replace(at(10, 300), keypoints=points, track_ids=np.array([1, 2], np.int32))


def test_masks_stay_with_their_object_if_another_is_left_out() -> None:
    inside = np.zeros((3, *HW), np.bool_)
    for row, left in enumerate((10, 150, 300)):
        inside[row, 60:120, left + 5 : left + 30 + row] = True
    boxes, scores = at(10, 150, 300).boxes_xyxy, np.array([0.9, 0.8, 0.7], np.float32)
    tracks = Tracks()
    for last in (0.7, 0.7, 0.2):  # the low score is no reason to leave out an object that has a track …
        scores = np.array([0.9, 0.8, last], np.float32)
        shown = Detections(boxes, scores, np.zeros(3, np.int32), NAMES, HW, masks=Masks.from_array(inside))
        found = tracks.update(None, shown)[0]
    assert found == replace(shown, track_ids=np.array([1, 2, 3], np.int32))
    fresh = Tracks().update(None, shown)[0]  # … but an object without one is left out
    assert fresh == replace(shown, track_ids=np.full(3, -1, np.int32))[:2]


def test_the_box_may_be_the_smoothed_one_clipped_to_the_image() -> None:
    found, moved = {}, at(-3)
    for preset in ("paper", "yoloship"):
        tracks = Tracks(preset)
        for left in (0.0, 0.0, 0.0, 0.0):
            tracks.update(None, at(left))
        found[preset] = tracks.update(None, moved)[0]
    assert found["yoloship"] is not None
    assert found["paper"] is not None
    np.testing.assert_array_equal(found["yoloship"].boxes_xyxy, moved.boxes_xyxy)
    left, _, right, _ = found["paper"].boxes_xyxy[0].tolist()
    assert (left, 37 < right < 40) == (0, True)
    assert found["paper"].boxes_xyxy.dtype == np.float32


def test_oriented_boxes_stay_as_they_were_found() -> None:
    turned = np.array([[100, 100, 60, 30, 0.5]], np.float32)
    one = Detections(
        hulls_of(turned), np.array([0.9], np.float32), np.zeros(1, np.int32), NAMES, HW, boxes_xywhr=turned
    )
    tracks = Tracks("paper")
    tracks.update(None, one)
    found = tracks.update(None, one)[0]
    assert found == replace(one, track_ids=np.array([1], np.int32))


def test_results_without_boxes_are_refused() -> None:
    probabilities = Classification(np.array([0.2, 0.8], np.float32), ("a", "b"), HW)
    with pytest.raises(InputError, match="a result of task 'classify': cannot be tracked, because it has no boxes"):
        Tracks().update(None, probabilities)


SCENE = parse_scene(
    """
units: pixels
lines:
  - {name: gate, from: [200, 200], to: [200, 0], classes: [alpha]}
  - {name: away, from: [900, 0], to: [900, 90], stream: a.mp4}
  - {name: never, from: [100, 0], to: [100, 90], stream: c.mp4}
""",
    "zones.yaml",
)


def test_a_scene_is_counted_in_each_stream_apart() -> None:
    tracks, stream = Tracks(scene=SCENE), Stream("x/a.mp4")
    for left in (150, 165, 180, 195, 210):
        _, one = tracks.update(frame(0, stream), at(left))
        _, other = tracks.update(None, at(left))
        assert one is not None
        assert other is not None
        failed = tracks.update(frame(0, stream), None)[1]
        assert failed is not None
        assert failed.to_dict() == one.to_dict()
    assert one is not None
    assert other is not None
    assert one.to_dict()["lines"]["gate"]["in"] == other.to_dict()["lines"]["gate"]["in"] == 1
    assert (set(one.lines), set(other.lines)) == ({"gate", "away"}, {"gate"})
    assert tracks.take_problems() == [
        "zones.yaml: line 'away' lies outside the image, so nothing will ever cross it (400×200)"
    ]
    assert tracks.take_problems() == []
    assert tracks.unseen_streams() == ["c.mp4"]


def test_the_model_is_checked_before_the_run() -> None:
    Tracks(scene=SCENE).check_model(info("raw"))
    with pytest.raises(InputError, match=r"zones\.yaml: line 'gate': alpha: no such class"):
        Tracks(scene=SCENE).check_model(replace(info("raw"), class_names=("x", "y", "z")))


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: Any) -> None:
    with pytest.raises(InputError, match="score_threshold: out of range: expected a number from 0 to 1"):
        Tracks(score_threshold=threshold)


def test_the_error_of_a_time_comes_out() -> None:
    with pytest.raises(InputError, match="time_s: is not a time"):
        Tracks().update(frame(0, Stream("a"), float("nan")), at(10))


def test_streams_that_are_long_over_are_forgotten() -> None:
    tracks = Tracks()
    for index in range(MAX_STREAMS + 20):
        tracks.update(frame(0, Stream(f"{index}.mp4")), at(10))
    assert len(tracks._followed) == MAX_STREAMS
