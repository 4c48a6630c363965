from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yoloship.errors import ImageError
from yoloship.results.detections import Detections
from yoloship.sinks import Entry
from yoloship.sinks.show.shown_stream import MAX_CLASSES, MAX_NAME, ShownStream
from yoloship.sources import Frame, Stream

HW = (48, 64)
IMAGE = np.zeros((*HW, 3), np.uint8)


def found(*class_ids: int, names: tuple[str, ...] = ("cat", "dog")) -> Detections:
    count = len(class_ids)
    boxes = np.tile(np.array([1, 2, 20, 30], np.float32), (count, 1))
    return Detections(boxes, np.full(count, 0.5, np.float32), np.array(class_ids, np.int32), names, HW)


def entry(time_s: float | None = None, result: Any = None, status: Any = lambda: "running") -> Entry:
    frame = Frame(0, "cam#0", None, time_s, Stream("cam", is_live=True, status=status))
    return Entry("cam#0", found(0) if result is None else result, frame=frame, image=IMAGE)


def test_it_counts_frames_errors_and_the_classes_of_the_newest_frame() -> None:
    shown = ShownStream("cam")
    shown.take(entry(0.0, found(1, 1, 0)), 0.0)
    shown.take(Entry("cam#1", None, ImageError("is damaged", subject="cam#1")), 0.1)
    state = shown.state(0.1)
    assert (state["frames"], state["errors"], state["error"]) == (1, 1, "cam#1: is damaged")
    assert state["counts"] == [["dog", 2], ["cat", 1]]
    assert state["status"] == "running"


def test_the_rate_is_that_of_the_last_frames_and_goes_when_there_are_none() -> None:
    shown = ShownStream("cam")
    assert shown.state(0.0)["rate"] is None
    for index in range(40):
        shown.take(entry(index / 10), index / 10)
    assert shown.state(4.0)["rate"] == pytest.approx(10.0)
    assert shown.state(400.0)["rate"] is None


def test_the_delay_is_what_a_frame_is_later_than_the_best_one() -> None:
    shown = ShownStream("cam")
    for time_s, now_s, delay in [(0.0, 100.0, 0.0), (1.0, 101.5, 0.5), (2.0, 101.9, 0.0), (3.0, 103.9, 1.0)]:
        shown.take(entry(time_s), now_s)
        assert shown.state(now_s)["delay"] == pytest.approx(delay)


def test_only_live_streams_have_a_delay_and_a_status() -> None:
    shown = ShownStream("clip.mp4")
    shown.take(entry(1.0, status=None), 0.0)
    assert shown.state(0.0)["delay"] is None
    assert shown.state(0.0)["status"] == ""


def test_names_of_strangers_are_short_and_visible_and_not_too_many() -> None:
    names = tuple(f"\x1b[31m{index}" + "x" * 1000 for index in range(100))
    shown = ShownStream("\u202e" + "y" * 1000)
    shown.take(entry(result=found(*range(100), names=names)), 0.0)
    state = shown.state(0.0)
    assert len(state["counts"]) == MAX_CLASSES
    assert all("\x1b" not in name and len(name) <= MAX_NAME + 10 for name, _ in state["counts"])
    assert "\u202e" not in state["name"]
    assert len(state["name"]) < MAX_NAME + 10
