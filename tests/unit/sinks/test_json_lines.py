"""JSON Lines: a record on each line, readable while the file grows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from yoloship.errors import ImageError
from yoloship.results.detections import Detections
from yoloship.sinks import Entry
from yoloship.sinks.json_lines import JsonLines
from yoloship.sinks.records import json_record

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = (
    Entry("a\n.jpg", Detections.empty((48, 64))),
    Entry("b\u2028.jpg", None, ImageError("no such file"), index=1),
)


def test_each_line_is_the_record_of_an_image(tmp_path: Path) -> None:
    with JsonLines.open(tmp_path / "found.jsonl") as sink:
        for count, entry in enumerate(ENTRIES, 1):
            sink.write(entry)
            (part,) = tmp_path.iterdir()
            assert len(part.read_bytes().splitlines()) == count
    lines = (tmp_path / "found.jsonl").read_bytes().decode().splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(json_record(entry)) for entry in ENTRIES]


def test_a_run_without_images_leaves_an_empty_file(tmp_path: Path) -> None:
    with JsonLines.open(tmp_path / "found.jsonl"):
        pass
    assert (tmp_path / "found.jsonl").read_bytes() == b""
