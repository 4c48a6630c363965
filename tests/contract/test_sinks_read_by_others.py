"""What every sink writes is opened by a reader of somebody else, which finds in it what was given."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pandas as pd
import PIL.Image
import pyarrow.parquet
import pytest

from yoloship.errors import ImageError
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks
from yoloship.sinks import SINKS, Entry
from yoloship.sources import Frame, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

HW = (64, 96)
IMAGE = np.random.default_rng(7).integers(0, 256, (*HW, 3), dtype=np.uint8)
BOXES = np.array([[1.5, 2.25, 30.1, 40], [40, 10, 60.5, 50]], np.float32)
SCORES = np.array([0.9, 0.55], np.float32)
ELSEWHERE = {"show": "it is a page, not a file"}


def masks() -> Masks:
    made = np.zeros((2, *HW), bool)
    made[0, 5:35, 5:25] = made[1, 15:45, 42:58] = True
    return Masks.from_array(made)


def entries() -> list[Entry]:
    """An image, a frame of a video with tracks, one with nothing on it, and one that failed."""
    ids = np.array([1, 0], np.int32)
    plain = Detections(BOXES, SCORES, ids, ("cat", 'a "dog", big'), HW, masks=masks())
    tracked = Detections(BOXES, SCORES, ids, ("cat", 'a "dog", big'), HW, track_ids=np.array([3, -1], np.int32))
    frame = Frame(17, "in/clip.mp4#17", None, 0.68, Stream("in/clip.mp4"))
    return [
        Entry("in/1.jpg", plain, index=0, image=IMAGE, stem="1"),
        Entry(frame.name, tracked, index=1, image=IMAGE, frame=frame, stem="clip_17"),
        Entry("in/nothing 日本.jpg", Detections.empty(HW, ("cat",)), index=2, image=IMAGE, stem="nothing"),
        Entry("in/failed.jpg", None, ImageError("no such file", subject="in/failed.jpg"), index=3, stem="failed"),
    ]


@pytest.fixture(params=[name for name in SINKS.own if name not in ELSEWHERE])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    kind = SINKS.load(request.param)
    path = tmp_path / ("found" if kind.target == "folder" else f"found{kind.suffix}")
    with kind.open(path) as sink:
        for entry in entries():
            sink.write(entry)
    return request.param, path


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on NumPy 2
def test_every_sink_is_read(written: tuple[str, Path]) -> None:
    name, path = written
    READERS[name](path)


def _records(table: pd.DataFrame) -> None:
    assert table["input"].tolist() == ["in/1.jpg", "in/clip.mp4", "in/nothing 日本.jpg", "in/failed.jpg"]
    assert table["index"].tolist() == [0, 17, 2, 3]
    assert table["time_s"].dropna().tolist() == [0.68]
    assert table["stream"].dropna().tolist() == ["in/clip.mp4"]
    assert table["error"].dropna().tolist() == ["in/failed.jpg: no such file"]
    first, second, nothing, failed = table["detections"]
    np.testing.assert_array_equal(np.array([one["box_xyxy"] for one in first], np.float32), BOXES)
    assert [one["track_id"] for one in second] == [3, -1]
    assert nothing == []
    assert not isinstance(failed, list)


def _json(path: Path) -> None:
    _records(pd.read_json(path, orient="records"))


def _jsonl(path: Path) -> None:
    _records(pd.read_json(path, lines=True))


def _csv(path: Path) -> None:
    table = pd.read_csv(path)
    assert table["input"].tolist() == ["in/1.jpg"] * 2 + ["in/clip.mp4"] * 2
    assert table["time_s"].dropna().tolist() == [0.68, 0.68]
    assert table["track_id"].dropna().tolist() == [3, -1]
    assert table["class_name"].tolist() == ['a "dog", big', "cat"] * 2
    np.testing.assert_array_equal(table[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)[:2], BOXES)
    np.testing.assert_array_equal(table["score"].to_numpy(np.float32)[2:], SCORES)


def _parquet(path: Path) -> None:
    table = pd.read_parquet(path)
    assert table["input"].tolist() == ["in/1.jpg"] * 2 + ["in/clip.mp4"] * 2 + ["in/nothing 日本.jpg", "in/failed.jpg"]
    found = table.dropna(subset="class_id")
    np.testing.assert_array_equal(found[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)[2:], BOXES)
    assert found["track_id"].dropna().tolist() == [3, -1]
    assert table["error"].dropna().tolist() == ["in/failed.jpg: no such file"]
    arrow = pyarrow.parquet.read_table(path)
    assert str(arrow.schema.field("time_s").type) == "double"
    assert arrow.num_rows == 6


def _coco(path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.mask import decode

    images = sorted({str(one["image_id"]): one["image_id"] for one in json.loads(path.read_bytes())}.values(), key=str)
    assert images == [1, "clip_17"]
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image, "height": HW[0], "width": HW[1]} for image in images],
            "annotations": [],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        truth.createIndex()
        read = truth.loadRes(str(path))
    objects: list[Any] = read.loadAnns(read.getAnnIds(imgIds=[1]))
    assert [one["category_id"] for one in objects] == [2, 1]
    for one, mask in zip(objects, masks(), strict=True):
        np.testing.assert_array_equal(decode(one["segmentation"]).astype(bool), mask)
    assert len(read.getAnnIds(imgIds=["clip_17"])) == 2


def _labels(path: Path, columns: int) -> None:
    assert sorted(file.name for file in path.iterdir()) == ["1.txt", "clip_17.txt", "nothing.txt"]
    table = np.loadtxt(path / "clip_17.txt", ndmin=2)
    assert table.shape == (2, columns)
    centre, size = (BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]
    np.testing.assert_allclose(table[:, 1:5] * [96, 64, 96, 64], np.concatenate([centre, size], axis=1), atol=1e-3)
    assert table[:, -1].tolist() == [3, -1]
    outlines = [np.array(line.split(), float) for line in (path / "1.txt").read_text(encoding="utf-8").splitlines()]
    assert [line[0] for line in outlines] == [1, 0]
    assert (path / "nothing.txt").read_bytes() == b""


def _images(path: Path) -> None:
    assert sorted(file.name for file in path.iterdir()) == ["1.jpg", "clip.mp4", "nothing.jpg"]
    _opened(path, HW)
    with av.open(str(path / "clip.mp4")) as video:
        (frame,) = video.decode(video=0)
    assert (frame.height, frame.width) == HW


def _crops(path: Path) -> None:
    files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*.jpg"))
    assert files == ["a _dog_, big/1-1.jpg", "a _dog_, big/clip_17-1.jpg", "cat/1-2.jpg", "cat/clip_17-2.jpg"]
    _opened(path, None)


def _opened(folder: Path, image_hw: tuple[int, int] | None) -> None:
    for file in folder.rglob("*.jpg"):
        with PIL.Image.open(file) as image:
            image.load()
            size = image.size[::-1]
        by_opencv = cv2.imread(str(file))
        assert by_opencv is not None
        assert by_opencv.shape[:2] == size
        assert image_hw in {None, size}


READERS: dict[str, Callable[[Path], None]] = {
    "images": _images,
    "jsonl": _jsonl,
    "json": _json,
    "csv": _csv,
    "coco": _coco,
    "txt": lambda path: _labels(path, 6),
    "txt-conf": lambda path: _labels(path, 7),
    "parquet": _parquet,
    "crops": _crops,
}
