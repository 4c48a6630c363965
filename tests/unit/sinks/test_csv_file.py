"""Detections as a CSV table: one row each, readable by every reader of CSV, and never a formula."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from yoloship.errors import ImageError
from yoloship.results.detections import Detections
from yoloship.sinks import Entry
from yoloship.sinks.csv_file import COLUMNS, CsvFile
from yoloship.sources import Frame, Stream

if TYPE_CHECKING:
    from pathlib import Path


def found(*names: str, score: float = 0.9) -> Detections:
    """One object of each class."""
    count = len(names)
    return Detections(
        np.tile(np.array([[1.5, 2.25, 30.1, 40]], np.float32), (count, 1)),
        np.full(count, score, np.float32),
        np.arange(count, dtype=np.int32),
        names,
        (48, 64),
    )


def written(folder: Path, *entries: Entry) -> bytes:
    with CsvFile.open(folder / "found.csv") as sink:
        for entry in entries:
            sink.write(entry)
    return (folder / "found.csv").read_bytes()


def rows(data: bytes) -> list[list[str]]:
    return list(csv.reader(data.decode().splitlines()))


def test_the_form_is_the_documented_one(tmp_path: Path) -> None:
    assert written(tmp_path, Entry("in/a.jpg", found("cat", "dog"))) == (
        b"input,index,time_s,class_id,class_name,score,x1,y1,x2,y2,track_id\r\n"
        b'"in/a.jpg",0,"",0,"cat",0.9,1.5,2.25,30.1,40.0,""\r\n'
        b'"in/a.jpg",0,"",1,"dog",0.9,1.5,2.25,30.1,40.0,""\r\n'
    )


def test_every_row_is_a_detection(tmp_path: Path) -> None:
    entries = (
        Entry("nothing.jpg", Detections.empty((48, 64))),
        Entry("a.jpg", found("cat")),
        Entry("failed.jpg", None, ImageError("no such file")),
        Entry("b.jpg", found("cat", "dog"), ImageError("it was found, but not drawn")),
    )
    assert [row[0] for row in rows(written(tmp_path, *entries))] == ["input", "a.jpg", "b.jpg", "b.jpg"]


def test_a_run_that_finds_nothing_leaves_the_heading(tmp_path: Path) -> None:
    data = written(tmp_path, Entry("nothing.jpg", Detections.empty((48, 64))))
    assert rows(data) == [list(COLUMNS)]


def test_numbers_are_the_shortest_that_read_back_as_the_same(tmp_path: Path) -> None:
    score = 0.123456789
    (_, row) = rows(written(tmp_path, Entry("a.jpg", found("cat", score=score))))
    assert row[5] == "0.12345679"
    assert np.float32(row[5]) == np.float32(score)
    assert np.array(row[6:10], np.float32).tolist() == found("cat").boxes_xyxy[0].tolist()


def test_what_is_not_finite_is_an_empty_cell(tmp_path: Path) -> None:
    boxes = np.array([[np.nan, 0, np.inf, 1]], np.float32)
    broken = Detections(boxes, np.ones(1, np.float32), np.zeros(1, np.int32), ("cat",), (9, 9))
    assert rows(written(tmp_path, Entry("a.jpg", broken)))[1][6:10] == ["", "0.0", "", "1.0"]


@pytest.mark.parametrize("name", ['a "good" one.jpg', "a,b;c.jpg", "汽车.jpg", "a'b.jpg", " spaces .jpg"])
def test_any_text_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    (_, row) = rows(written(tmp_path, Entry(name, found(name))))
    assert (row[0], row[4]) == (name, name)


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝", "＋", "－", "＠", " ="])
def test_no_name_is_a_formula(tmp_path: Path, sign: str) -> None:
    formula = f"{sign}HYPERLINK(1)"
    (_, row) = rows(written(tmp_path, Entry(formula, found(formula))))
    assert row[0] == f"./{formula}", "still the same file"
    assert row[4] == f"'{formula}"


def test_a_sign_inside_a_name_stays_and_so_do_negative_numbers(tmp_path: Path) -> None:
    boxes = np.array([[-1.5, 0, 2, 1]], np.float32)
    outside = Detections(boxes, np.ones(1, np.float32), np.zeros(1, np.int32), ("a=b",), (9, 9))
    (_, row) = rows(written(tmp_path, Entry("in/-1+2.jpg", outside)))
    assert (row[0], row[4], row[6]) == ("in/-1+2.jpg", "a=b", "-1.5")


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\nb", "a\r\nb", "\t=1+1", "\u202egpj.a", "\udcff.jpg"])
def test_a_row_is_one_line_and_steers_no_terminal(tmp_path: Path, hostile: str) -> None:
    data = written(tmp_path, Entry(hostile, found(hostile)))
    assert data.count(b"\r\n") == 2
    assert data.count(b"\n") == 2
    text = data.decode().replace("\r\n", "")
    assert text.isprintable()
    assert rows(data)[1][0].isprintable()


def test_a_frame_of_a_video_has_its_place_its_time_and_its_tracks(tmp_path: Path) -> None:
    frame = Frame(17, "in/clip.mp4#17", None, 0.68, Stream("in/clip.mp4"))
    tracked = replace(found("cat", "dog"), track_ids=np.array([3, -1], np.int32))
    data = written(tmp_path, Entry(frame.name, tracked, index=99, frame=frame))
    first, second = rows(data)[1:]
    assert first[:3] == ["in/clip.mp4", "17", "0.68"]
    assert (first[-1], second[-1]) == ("3", "-1")
