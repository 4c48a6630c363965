"""What the records of images say of where they come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from yoloship.detect.stream import Outcome
from yoloship.errors import ImageError
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks
from yoloship.sinks import Entry
from yoloship.sinks.records import Origin, json_record, origin_of, shortened
from yoloship.sources import Frame, Stream
from yoloship.tracking.following import TrackedOutcome
from yoloship.tracking.scene import SceneCounter
from yoloship.tracking.scene_file import parse_scene

NOTHING = Detections.empty((48, 64))
STREAM = Stream("in/clip.mp4", Path("in/clip.mp4"))


def test_an_image_has_its_name_and_its_place_in_the_run() -> None:
    frame = Frame(3, "in/a.jpg", Path("in/a.jpg"))
    assert origin_of(Entry("in/a.jpg", NOTHING, index=9, frame=frame)) == Origin("in/a.jpg", 9)
    assert json.loads(json_record(Entry("a.jpg", NOTHING, index=9))) == {
        "input": "a.jpg", "index": 9, "width": 64, "height": 48, "detections": [],
    }  # fmt: skip


def test_a_frame_has_its_video_its_place_there_and_its_time() -> None:
    frame = Frame(17, "in/clip.mp4#17", None, 0.6800000000000001, STREAM, 17_000)
    record = json.loads(json_record(Entry(frame.name, NOTHING, index=40, frame=frame)))
    assert list(record) == ["input", "index", "time_s", "stream", "width", "height", "detections"]
    assert (record["input"], record["index"]) == ("in/clip.mp4", 17)
    assert record["time_s"] == 0.6800000000000001, "exactly as the source has it"
    assert record["stream"] == "in/clip.mp4"


def test_a_frame_that_failed_says_why_and_where() -> None:
    frame = Frame(17, "clip.mp4#17", None, 0.5, STREAM, error=ImageError("is damaged"))
    assert json.loads(json_record(Entry(frame.name, None, frame.error, frame=frame))) == {
        "input": "in/clip.mp4", "index": 17, "time_s": 0.5, "stream": "in/clip.mp4", "error": "is damaged",
    }  # fmt: skip


def test_tracks_are_in_the_record() -> None:
    one = np.ones(1, np.float32)
    tracked = Detections(np.ones((1, 4), np.float32), one, np.zeros(1, np.int32), ("cat",), (9, 9),
                         track_ids=np.array([5], np.int32))  # fmt: skip
    assert json.loads(json_record(Entry("a.jpg", tracked)))["detections"][0]["track_id"] == 5


def test_outlines_are_in_the_record_in_their_shortest_form() -> None:
    outline = np.zeros((1, 90, 70), np.bool_)
    outline[0, 3:80, 10:60] = np.tri(77, 50, 5, np.bool_)
    one = np.ones(1, np.float32)
    found = Detections(np.ones((1, 4), np.float32), one, np.zeros(1, np.int32), ("cat",), (90, 70),
                       masks=Masks.from_array(outline))  # fmt: skip
    (points,) = json.loads(json_record(Entry("a.jpg", found)))["detections"][0]["polygons"]
    assert len(points) > 8
    assert points == found[0].to_dict()["polygons"][0] == shortened(points)


def test_tenths_of_a_pixel_are_their_own_shortest_form() -> None:
    tenths = [*range(30_000), *range(655_350, 665_350), *range(999_000, 1_000_000)]
    values = [float(np.round(tenth / 10, 1)) for tenth in tenths]
    assert shortened(values) == values


def test_the_counts_of_zones_and_lines_are_in_the_record_of_failed_frames_too() -> None:
    config = parse_scene("units: pixels\nlines: [{name: door, from: [0, 9], to: [64, 9]}]")
    scene = SceneCounter(config, None).update(NOTHING, (), 0.0, is_timed=False)
    counts = {"door": {"in": 0, "out": 0, "classes": {}}}
    for entry in (Entry("a.jpg", NOTHING, scene=scene), Entry("a.jpg", None, ImageError("x"), scene=scene)):
        record = json.loads(json_record(entry))
        assert (record["zones"], record["lines"]) == ({}, counts)
    outcome = TrackedOutcome(2, "a.jpg", NOTHING, None, None, scene)
    assert Entry.of(outcome).scene is scene
    assert Entry.of(Outcome(2, "a.jpg", NOTHING, None)).scene is None
