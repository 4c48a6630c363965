from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import yoloship
from helpers.models import image_session, info
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.detect.slicing.sliced import SlicedDetector
from yoloship.errors import ImageError, InputError
from yoloship.model import NmsConfig
from yoloship.sources import Frame, Stream
from yoloship.tracking.following import TrackedOutcome, detect_options, track
from yoloship.tracking.scene_file import parse_scene
from yoloship.tracking.tracks import Tracks

Image = npt.NDArray[np.uint8]


def one_object(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
    """One box: the level of the image says where it is, and above 200 that its score is low."""
    level = float(np.median(np.asarray(feeds["images"])))
    low = level > 200
    return [np.array([[[level - 186 if low else level, 32, 20, 30, 1, 0.15 if low else 0.9, 0, 0]]], np.float32)]


OF_CLASS_X = parse_scene("units: pixels\nlines: [{name: a, from: [0, 0], to: [9, 9], classes: [x]}]")


def image(x: float) -> Image:
    return np.full((64, 96, 3), x, np.uint8)


def detector(script: Any = one_object) -> Detector[Any]:
    return Detector(image_session(info("raw"), script), parallel_runs=2)


def ids(outcomes: Iterator[TrackedOutcome]) -> list[list[int]]:
    found = [one.unwrap().track_ids for one in outcomes]
    return [[] if one is None else [int(number) for number in one] for one in found]


def test_images_that_follow_each_other_have_ids_and_images() -> None:
    images = [image(10 + 2 * index) for index in range(8)]
    outcomes = list(track(detector(), images, keep_images=True))
    assert [one.index for one in outcomes] == list(range(8))
    assert all(one.source is image and one.scene is None for one, image in zip(outcomes, images, strict=True))
    assert ids(iter(outcomes)) == [[-1]] + [[1]] * 7
    assert outcomes[3].image is not None


def test_async_for_gives_the_same_and_says_what_is_wrong_at_once() -> None:
    images = [image(10 + 2 * index) for index in range(5)]

    async def follow() -> list[TrackedOutcome]:
        return [one async for one in yoloship.atrack(detector(), images, tracking="paper", rate=25)]

    outcomes = asyncio.run(follow())
    assert ids(iter(outcomes)) == ids(track(detector(), images, tracking="paper", rate=25)) == [[1]] * 5
    with pytest.raises(InputError, match="no such preset"):
        yoloship.atrack(detector(), images, tracking="sort")


def test_it_is_a_public_name() -> None:
    assert yoloship.track is track
    assert yoloship.TrackedOutcome is TrackedOutcome


def test_objects_are_followed_at_a_lower_score_than_they_are_reported_at() -> None:
    images = [image(level) for level in (10, 11, 12, 13, 14, 201, 202, 203, 204)]
    assert ids(track(detector(), images))[-1] == [1]
    assert ids(track(detector(), images[5:])) == [[]] * 4


def test_times_keep_the_id_of_a_fast_object() -> None:
    places = [*range(12), *range(18, 22)]
    images = [image(8 + 4 * place) for place in places]
    assert ids(track(detector(), images, times_s=[place / 20 for place in places], rate=20))[-1] == [1]
    assert ids(track(detector(), images))[-1] != [1]


def test_frames_bring_their_own_times_and_streams() -> None:
    stream = Stream("a.mp4")
    frames = [Frame(index, f"a.mp4#{index}", image(10 + index), index / 30, stream) for index in range(4)]
    outcomes = list(track(detector(), frames))
    assert [one.frame for one in outcomes] == frames
    assert ids(iter(outcomes))[-1] == [1]
    with pytest.raises(InputError, match="times_s, rate: frames have times of their own; leave them out"):
        list(track(detector(), frames, rate=30))


def test_a_frame_that_fails_takes_its_place_and_tracking_goes_on() -> None:
    images: list[object] = [image(10), image(11), b"rubbish", image(13)]
    outcomes = list(track(detector(), images))
    assert isinstance(outcomes[2].error, ImageError)
    assert outcomes[2].result is None
    assert ids(iter([outcomes[3]])) == [[1]]


def test_a_folder_is_opened_by_its_name(tmp_path: Path) -> None:
    import cv2

    for index in range(4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), image(10 + index))
    assert ids(track(detector(), tmp_path))[-1] == [1]
    assert ids(track(detector(), str(tmp_path)))[-1] == [1]


def test_zones_and_lines_are_counted(tmp_path: Path) -> None:
    text = "units: pixels\nlines: [{name: gate, from: [30, 64], to: [30, 0]}]"
    (tmp_path / "zones.yaml").write_text(text, encoding="utf-8")
    images = [image(20 + 3 * index) for index in range(8)]
    for scene in (parse_scene(text), tmp_path / "zones.yaml", str(tmp_path / "zones.yaml")):
        *_, last = track(detector(), images, scene=scene)
        assert last.scene is not None
        assert last.scene.to_dict()["lines"]["gate"]["in"] == 1


def test_what_can_never_count_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    far, named = "{name: far, from: [500, 0], to: [500, 9]}", "{name: b, from: [9, 9], to: [0, 9], stream: x}"
    text = f"units: pixels\nlines: [{far}, {named}]"
    list(track(detector(), [image(10)] * 3, scene=parse_scene(text, "zones.yaml")))
    assert [(one.name, one.levelname, one.getMessage()) for one in caplog.records] == [
        (
            "yoloship.tracking", "WARNING",
            "zones.yaml: line 'far' lies outside the image, so nothing will ever cross it (96×64)",
        ),
        ("yoloship.tracking", "WARNING", "some zones or lines are for 'x', but no frame came from it"),
    ]  # fmt: skip


def test_a_sliced_detector_is_tracked_too() -> None:
    images = [image(10 + index) for index in range(4)]
    assert ids(track(SlicedDetector(detector()), images)) == [[-1], [1], [1], [1]]


def test_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="model: wrong type: expected a Detector, a SlicedDetector or a name, got int"):
        track(3, [image(0)])  # type: ignore[arg-type]  # that is the point


def test_a_preset_and_options_are_taken() -> None:
    images = [image(10)] * 3
    assert ids(track(detector(), images, tracking="paper")) == [[1]] * 3
    assert ids(track(detector(), images, options=DetectOptions(score_threshold=0.95))) == [[-1], [1], [1]]
    assert ids(track(detector(), images, options=DetectOptions(classes=("beta",)))) == [[]] * 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tracking": "sort"}, "no such preset of tracking"),
        ({"rate": 0}, "rate: out of range: expected frames in a second, got 0"),
        ({"rate": float("nan")}, "rate: out of range"),
        ({"rate": "30"}, "rate: out of range: expected frames in a second, got '30'"),
        ({"scene": {"zones": []}}, "scene: wrong type: expected the name of a file, or a SceneConfig, got dict"),
        ({"scene": "none.yaml"}, r"none\.yaml"),
        ({"scene": OF_CLASS_X}, "no such class"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_image(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        track(detector(), [image(0)], **given)


def test_a_single_image_and_times_for_a_named_source_are_refused() -> None:
    with pytest.raises(InputError, match="images: wrong type: expected several images"):
        track(detector(), image(0))
    with pytest.raises(InputError, match="times_s, rate: only images in memory"):
        track(detector(), "street.mp4", rate=30)


def test_a_time_that_is_not_a_number_is_refused() -> None:
    times: Any = [np.float32(0), "1"]
    outcomes = track(detector(), [image(10)] * 5, times_s=times)
    with pytest.raises(InputError, match="times_s: is not a time: expected seconds, got '1'"):
        list(outcomes)


def test_fewer_times_than_images_are_refused_after_the_results_before() -> None:
    outcomes = track(detector(), [image(10)] * 5, times_s=[0.0, 0.1])
    assert [next(outcomes).index, next(outcomes).index] == [0, 1]
    with pytest.raises(InputError, match="times_s: fewer times than images: expected one for each image, got 2"):
        list(outcomes)


def test_to_stop_early_ends_the_source() -> None:
    ended: list[str] = []

    def images() -> Iterator[Image]:
        try:
            while True:
                yield image(10)
        finally:
            ended.append("yes")

    outcomes = track(detector(), images())
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]  # it is a generator
    del outcomes
    assert ended == ["yes"]


def test_a_name_loads_a_model_and_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = detector()
    monkeypatch.setattr("yoloship.models.loading.load", lambda name: made if name == "best.pt" else None)
    assert ids(track("best.pt", [image(10)] * 2)) == [[-1], [1]]
    with pytest.raises(yoloship.SessionError, match="is closed"):
        made(image(1))


def test_a_graph_that_suppresses_inside_is_run_at_its_own_threshold() -> None:
    inside = replace(info("raw"), nms=NmsConfig(0.2, 0.45, 300))
    asked = DetectOptions(score_threshold=0.3)
    assert detect_options(asked, Tracks(), info("raw")).score_threshold == 0.1
    assert detect_options(asked, Tracks(), inside).score_threshold == 0.2
    assert detect_options(asked, Tracks(score_threshold=0.05), info("raw")).score_threshold == 0.05
    too_low = DetectOptions(score_threshold=0.15)
    assert detect_options(too_low, Tracks(score_threshold=0.15), inside) == too_low, "the detector refuses it"
