"""Parquet tables: what third parties' readers find in them, and what is left when something fails."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from yoloship.errors import DependencyError, ImageError, OutputError
from yoloship.results.classification import Classification
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks
from yoloship.sinks import Entry, parquet_file
from yoloship.sinks.parquet_file import ParquetFile
from yoloship.sources import Frame, Stream

HW = (48, 64)


def found(count: int = 2, **extras: Any) -> Detections:
    boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    return Detections(boxes, np.full(count, 0.7, np.float32), np.zeros(count, np.int32), ("cat",), HW, **extras)


def rows(path: Path) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return table


def written(folder: Path, *entries: Entry) -> list[dict[str, Any]]:
    with ParquetFile.open(folder / "found.parquet") as sink:
        for entry in entries:
            sink.write(entry)
    return rows(folder / "found.parquet")


def test_there_is_a_row_for_each_object_and_one_for_each_image_without(tmp_path: Path) -> None:
    first, second, nothing, failed = written(
        tmp_path,
        Entry("a.jpg", found()),
        Entry("b.jpg", Detections.empty(HW), index=1),
        Entry("c.jpg", None, ImageError("no such file", subject="c.jpg"), index=2),
    )
    assert {key: value for key, value in first.items() if value is not None} == {
        "input": "a.jpg", "index": 0, "width": 64, "height": 48, "class_id": 0, "class_name": "cat",
        "score": float(np.float32(0.7)), "x1": 0.0, "y1": 1.0, "x2": 2.0, "y2": 3.0,
    }  # fmt: skip
    assert [second[side] for side in ("x1", "y1", "x2", "y2")] == [4, 5, 6, 7]
    assert (nothing["input"], nothing["width"], nothing["class_id"], nothing["error"]) == ("b.jpg", 64, None, None)
    assert (failed["input"], failed["width"], failed["error"]) == ("c.jpg", None, "c.jpg: no such file")


def test_frames_tracks_masks_points_and_turned_boxes_have_columns(tmp_path: Path) -> None:
    mask = np.zeros((1, *HW), bool)
    mask[0, 10:20, 10:20] = True
    result = found(
        1, masks=Masks.from_array(mask), keypoints=np.ones((1, 2, 3), np.float32), track_ids=np.array([5], np.int32)
    )
    frame = Frame(17, "clip.mp4#17", None, 0.68, Stream("clip.mp4"))
    (row,) = written(tmp_path, Entry(frame.name, result, frame=frame, index=40))
    assert (row["input"], row["index"], row["time_s"], row["stream"]) == ("clip.mp4", 17, 0.68, "clip.mp4")
    assert row["track_id"] == 5
    assert row["keypoints"] == [[1, 1, 1], [1, 1, 1]]
    assert row["polygons"] == result.to_dict()["detections"][0]["polygons"]


def test_a_classification_has_its_five_best_classes(tmp_path: Path) -> None:
    share = np.full(10, 0.1, np.float32)
    table = written(tmp_path, Entry("a.jpg", Classification(share, tuple("abcdefghij"), HW)))
    assert [row["class_name"] for row in table] == list("abcde")
    assert table[0]["x1"] is None


def test_names_that_are_not_text_are_escaped(tmp_path: Path) -> None:
    (row,) = written(tmp_path, Entry("\udcff\x1b.jpg", Detections.empty(HW)))
    assert row["input"] == "\\udcff\\x1b.jpg"


def test_memory_is_bounded_by_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_file, "GROUP_ROWS", 10)
    path = tmp_path / "found.parquet"
    with ParquetFile.open(path) as sink:
        for index in range(33):
            sink.write(Entry(f"{index}.jpg", found(), index=index))
            assert len(sink._rows) < 10
    file = pyarrow.parquet.ParquetFile(path)
    assert (file.metadata.num_rows, file.num_row_groups) == (66, 7)
    assert [row["index"] for row in rows(path)[::2]] == list(range(33))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_group_that_cannot_be_written_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_file, "GROUP_ROWS", 4)
    full = r"found.parquet: cannot be written: No space left on device; free some space"
    with pytest.raises(OutputError, match=full), ParquetFile.open(tmp_path / "found.parquet") as sink:
        sink.write(Entry("a.jpg", found()))
        with Path("/dev/full").open("wb") as disk:
            os.dup2(disk.fileno(), sink._file.fileno())
        sink.write(Entry("b.jpg", found()))
    assert not sink.is_finished
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="is not a regular file, which Parquet needs"):
        ParquetFile.open(tmp_path / "pipe")


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return usual(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DependencyError, match=r"pyarrow is not installed; pip install 'yoloship\[parquet\]'"):
        ParquetFile.open(tmp_path / "found.parquet")
    assert list(tmp_path.iterdir()) == []
