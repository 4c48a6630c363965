"""What a run keeps in memory, however many images it has."""

from __future__ import annotations

import gc
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yoloship.detect.stream import Outcome
from yoloship.errors import ImageError
from yoloship.job.run import Run
from yoloship.results.detections import Detections
from yoloship.sinks import JsonFile
from yoloship.sources import Frame

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
