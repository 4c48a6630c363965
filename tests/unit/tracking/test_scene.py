from __future__ import annotations

import json

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.results.detections import Detections
from yoloship.sources import Stream
from yoloship.tracking.scene import Scene, SceneCounter
from yoloship.tracking.scene_file import parse_scene

NAMES = ("person", "dog")
CONFIG = parse_scene(
    """
units: fractions
zones:
  - {name: left half, polygon: [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}
  - {name: dogs only, polygon: [[0, 0], [1, 0], [1, 1], [0, 1]], classes: [dog]}
lines:
  - {name: middle, from: [0.5, 1], to: [0.5, 0]}
  - {name: of the door, from: [0, 0.5], to: [1, 0.5], stream: door.mp4}
""",
    "zones.yaml",
)


def at(places: dict[int, float], class_ids: dict[int, int] | None = None, width: int = 200) -> Detections:
    """Objects with their ids at these columns, standing in row 60."""
    boxes = [[x - 5, 40, x + 5, 60] for x in places.values()]
    ids = [(class_ids or {}).get(one, 0) for one in places]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.full(len(places), 0.9, np.float32), np.array(ids, np.int32),
        NAMES, (100, width), track_ids=np.array(list(places), np.int32),
    )  # fmt: skip


def run(*frames: Detections, counter: SceneCounter | None = None) -> Scene:
    counter = counter or SceneCounter(CONFIG, None)
    for second, found in enumerate(frames):
        scene = counter.update(found, frozenset(range(1, 9)), float(second), is_timed=True)
    return scene


def test_zones_and_lines_count_by_class() -> None:
    data = run(at({1: 60, 2: 150}, {2: 1}), at({1: 150, 2: 60}, {2: 1})).to_dict()
    assert data["zones"]["left half"] == {
        "inside": 1, "classes": {"dog": 1}, "objects": {"2": 0.0}, "entered": 2, "left": 1, "mean_s": 1.0,
        "longest_s": 1.0,
    }  # fmt: skip
    assert data["zones"]["dogs only"]["objects"] == {"2": 1.0}
    middle = {"in": 1, "out": 1, "classes": {"person": {"in": 1, "out": 0}, "dog": {"in": 0, "out": 1}}}
    assert data["lines"] == {"middle": middle}
    assert json.loads(json.dumps(data)) == data


def test_objects_that_are_not_confirmed_do_not_count() -> None:
    """All of them have the id -1, and would be one object that jumps about."""
    scene = run(*(at({-1: x}) for x in (60, 150, 60, 150)))
    assert scene.to_dict()["lines"]["middle"]["in"] == 0
    assert scene.to_dict()["zones"]["left half"]["entered"] == 0


def test_the_class_of_an_object_is_the_one_that_was_found_most() -> None:
    frames = [at({1: 60}, {1: class_id}) for class_id in (1, 1, 0)]
    data = run(*frames, at({1: 150}, {1: 0})).to_dict()
    assert data["lines"]["middle"]["classes"] == {"dog": {"in": 1, "out": 0}}
    assert data["zones"]["dogs only"]["entered"] == 1


def test_a_line_of_another_stream_is_left_out() -> None:
    for stream, names in ((None, {"middle"}), (Stream("a/door.mp4"), {"middle", "of the door"})):
        scene = run(at({1: 60}), counter=SceneCounter(CONFIG, stream))
        assert scene.lines.keys() == names


def test_a_frame_without_a_result_keeps_the_counts_and_lets_ids_end() -> None:
    counter = SceneCounter(CONFIG, None)
    assert counter.count((), 0.0, is_timed=True).to_dict() == {"zones": {}, "lines": {}}
    run(at({1: 60}), counter=counter)
    before = counter.count({1}, 5.0, is_timed=True)
    assert before.to_dict()["zones"]["left half"]["objects"] == {"1": 5.0}
    after = counter.count((), 6.0, is_timed=True)
    assert after.to_dict()["zones"]["left half"]["left"] == 1


def test_without_times_seconds_are_null() -> None:
    counter = SceneCounter(CONFIG, None)
    scene = counter.update(at({1: 60}), {1}, 0.0, is_timed=False)
    zone = scene.to_dict()["zones"]["left half"]
    assert (zone["objects"], zone["mean_s"], zone["longest_s"]) == ({"1": None}, None, None)


def test_what_can_never_count_is_said_once_for_a_size() -> None:
    config = parse_scene("units: pixels\nlines: [{name: far, from: [0, 300], to: [50, 300]}]", "zones.yaml")
    counter = SceneCounter(config, None)
    run(at({1: 60}), at({1: 70}), counter=counter)
    text = "zones.yaml: line 'far' lies outside the image, so nothing will ever cross it (200×100)"
    assert counter.problems == [text]


def test_a_change_of_the_size_keeps_the_counts() -> None:
    counter = SceneCounter(CONFIG, None)
    run(at({1: 60}), at({1: 150}), counter=counter)
    data = run(at({1: 300}, width=400), at({1: 100}, width=400), counter=counter).to_dict()
    assert data["lines"]["middle"]["in"] == data["lines"]["middle"]["out"] == 1


def test_drawing_makes_an_image_of_its_own() -> None:
    scene = run(at({1: 60}))
    image = np.full((100, 200, 3), 128, np.uint8)
    drawn = scene.draw(image)
    assert (image == 128).all()
    assert (drawn != image).any()
    with pytest.raises(InputError, match=r"Scene\.draw: the result is of an image of a different size"):
        scene.draw(image[:50])
