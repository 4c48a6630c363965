"""What a run keeps in memory, however many images it has."""

from __future__ import annotations

import gc
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.videos import Clip, packets_of, read_back, write_clip
from yoloship.detect.stream import Outcome
from yoloship.errors import ImageError, InputError
from yoloship.job.ledger import Ledger
from yoloship.job.log import Facts, Log
from yoloship.job.run import Run
from yoloship.results.detections import Detections
from yoloship.sinks import AnnotatedImages, JsonFile
from yoloship.sources import Frame, Stream, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 3000


def found() -> Detections:
    boxes = np.array([[1, 2, 30, 40]], np.float32)
    return Detections(boxes, np.array([0.5], np.float32), np.array([0], np.int32), ("cat",), (48, 64))


def test_results_are_written_and_not_kept(tmp_path: Path) -> None:
    inputs = [Path(f"{index}.jpg") for index in range(COUNT)]
    alive = 0

    def outcomes() -> Iterator[Outcome]:
        nonlocal alive
        for index, path in enumerate(inputs):
            error = ImageError("is empty (0 bytes)", subject=str(path)) if index % 1000 == 7 else None
            frame = Frame(index, str(path), path)
            yield Outcome(index, frame, None if error else found(), error)
        alive = sum(type(thing) is Detections for thing in gc.get_objects())

    before = sum(type(thing) is Detections for thing in gc.get_objects())
    run = Run({"json": partial(JsonFile.open, tmp_path / "found.json")})
    run.write(outcomes())
    assert alive - before <= 2
    entries = json.loads((tmp_path / "found.json").read_bytes())
    assert [entry["input"] for entry in entries] == [str(path) for path in inputs]
    assert [index for index, entry in enumerate(entries) if "error" in entry] == [7, 1007, 2007]
    assert run.tally.failures == 3


def test_frames_of_a_video_become_an_annotated_video_and_broken_ones_leave_a_gap(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", Clip(audio="aac"))
    data = bytearray(source.read_bytes())
    at, size = packets_of(source)[5]
    data[at : at + size] = bytes(size)
    whole = read_back(source)
    source.write_bytes(data)

    def outcomes() -> Iterator[Outcome]:
        with open_source([str(source)]) as frames:
            for index, frame in enumerate(frames):
                image = frame.image if isinstance(frame.image, np.ndarray) else None
                result = None if frame.error else Detections.empty((64, 96))
                yield Outcome(index, frame, result, frame.error, image)

    run = Run({"json": partial(JsonFile.open, tmp_path / "found.json")}, AnnotatedImages.open(tmp_path / "out"))
    run.write(outcomes())
    made = read_back(tmp_path / "out" / "a.mp4")
    entries = json.loads((tmp_path / "found.json").read_bytes())
    (broken,) = [entry for entry in entries if "error" in entry]
    assert (len(entries), len(made.times), run.tally.failures) == (12, 11, 1)
    assert made.times == tuple(time for time in whole.times if float(time) != broken["time_s"])
    assert made.audio == whole.audio
    assert {entry.get("annotated") for entry in entries} == {str(tmp_path / "out" / "a.mp4"), None}


def test_an_annotated_video_cannot_be_continued_and_says_so_before_it_begins(tmp_path: Path) -> None:
    stream = Stream("clip.mp4")
    frame = Frame(0, "clip.mp4#0", np.zeros((48, 64, 3), np.uint8), 0.0, stream)

    def outcomes() -> Iterator[Outcome]:
        yield Outcome(0, frame, found(), None, np.zeros((48, 64, 3), np.uint8))

    with Log.open(tmp_path / "found.resume") as log, open_source([str(Path(__file__))]) as source:
        log.begin(Facts("0" * 64, {}, {}), "")
        run = Run({}, AnnotatedImages.open(tmp_path / "out"), ledger=Ledger(log, source, has_folders=True))
        with pytest.raises(InputError, match=r"clip\.mp4: cannot be drawn in a run with --resume.*; give --no-draw"):
            run.write(outcomes())
    assert not (tmp_path / "out").exists()
