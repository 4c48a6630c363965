"""COCO's results format: pycocotools reads it, and finds the boxes, masks and keypoints that were given."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from yoloship.errors import ImageError, OutputError
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks
from yoloship.sinks import Entry
from yoloship.sinks.coco_results import COCO_IDS, CocoResults, category_ids, image_id
from yoloship.sinks.naming import RunNames
from yoloship.sources import Frame, Stream

if TYPE_CHECKING:
    from pathlib import Path

HW = (60, 80)


def discs() -> Masks:
    y, x = np.mgrid[: HW[0], : HW[1]]
    return Masks.from_array(np.array([(x - cx) ** 2 + (y - 30) ** 2 < 100 for cx in (20, 50)]))


def found(names: tuple[str, ...] = ("cat", "dog"), **extras: Any) -> Detections:
    boxes = np.array([[10.5, 20, 30.25, 40], [40, 20, 60, 40.1]], np.float32)
    ids = np.array([1, len(names) - 1], np.int32)
    return Detections(boxes, np.array([0.9, 0.5], np.float32), ids, names, HW, **extras)


def written(folder: Path, *entries: Entry) -> list[dict[str, Any]]:
    with CocoResults.open(folder / "found.json") as sink:
        for entry in entries:
            sink.write(entry)
    data: list[dict[str, Any]] = json.loads((folder / "found.json").read_bytes())
    return data


def test_an_object_has_the_documented_keys(tmp_path: Path) -> None:
    first, _ = written(tmp_path, Entry("val/000000000139.jpg", found()))
    assert first == {"image_id": 139, "category_id": 2, "bbox": [10.5, 20.0, 19.75, 20.0], "score": 0.9}


def test_images_without_objects_and_failed_ones_have_none(tmp_path: Path) -> None:
    entries = (
        Entry("nothing.jpg", Detections.empty(HW)),
        Entry("failed.jpg", None, ImageError("no such file")),
        Entry("a.jpg", found()),
        Entry("nothing.jpg", Detections.empty(HW)),
        Entry("b.jpg", found()),
    )
    assert [record["image_id"] for record in written(tmp_path, *entries)] == ["a", "a", "b", "b"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_boxes_masks_and_keypoints(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    mask_library = pytest.importorskip("pycocotools.mask")
    keypoints = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    written(tmp_path, Entry("7.jpg", found(masks=discs(), keypoints=keypoints)))
    with redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 7, "height": HW[0], "width": HW[1]}],
            "annotations": [],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        truth.createIndex()
        read = truth.loadRes(str(tmp_path / "found.json"))
    objects = read.loadAnns(read.getAnnIds(imgIds=[7]))
    assert [one["category_id"] for one in objects] == [2, 2]
    for one, mask, points, box in zip(objects, discs(), keypoints, found().boxes_xyxy, strict=True):
        np.testing.assert_array_equal(mask_library.decode(one["segmentation"]).astype(bool), mask)
        assert one["keypoints"] == points.ravel().tolist()
        np.testing.assert_allclose(one["bbox"], [*box[:2], *(box[2:] - box[:2])], rtol=1e-6)


def test_points_without_visibility_count_as_visible(tmp_path: Path) -> None:
    first, _ = written(tmp_path, Entry("a.jpg", found(keypoints=np.full((2, 1, 2), 5, np.float32))))
    assert first["keypoints"] == [5.0, 5.0, 1.0]


def test_an_oriented_box_is_the_polygon_of_its_corners(tmp_path: Path) -> None:
    oriented = found(boxes_xywhr=np.array([[20, 30, 10, 4, 0], [50, 30, 20, 6, 1]], np.float32))
    first, _ = written(tmp_path, Entry("a.jpg", oriented))
    assert first["segmentation"] == [[25.0, 32.0, 25.0, 28.0, 15.0, 28.0, 15.0, 32.0]]


def test_cocos_own_classes_have_their_official_ids(tmp_path: Path) -> None:
    names = ("person", *(f"class{number}" for number in range(1, 79)), "toothbrush")
    assert [record["category_id"] for record in written(tmp_path, Entry("a.jpg", found(names)))] == [2, 90]
    assert (len(COCO_IDS), COCO_IDS[11], COCO_IDS[79]) == (80, 13, 90)
    assert category_ids(names[:-1]) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val/000000000139.jpg", 139), ("bus.jpg", "bus"), ("12a.png", "12a"), ("image 3", "image 3"),
        ("9" * 30 + ".jpg", "9" * 30), ("١٢.jpg", "١٢"), ("-5.jpg", "-5"),
    ],
)  # fmt: skip
def test_the_image_id_is_the_number_that_the_file_is_named_after(name: str, expected: int | str) -> None:
    assert image_id(Entry(name, None)) == expected


def test_a_result_without_boxes_is_refused(tmp_path: Path) -> None:
    class Label:
        task = "classify"

    other: Any = Label()
    with (
        CocoResults.open(tmp_path / "x.json") as sink,
        pytest.raises(OutputError, match=r"a.jpg: has no boxes, which this format needs: got a result of the ta"),
    ):
        sink.write(Entry("a.jpg", other))


def test_a_frame_of_a_video_has_the_videos_name_and_its_number(tmp_path: Path) -> None:
    frame = Frame(17, "in/clip.mp4#17", None, 0.68, Stream("in/clip.mp4"))
    first, _ = written(tmp_path, Entry(frame.name, found(), index=40, frame=frame))
    assert first["image_id"] == "clip_17"


def test_a_second_image_of_one_id_has_an_id_of_its_own(tmp_path: Path) -> None:
    names = RunNames()
    paths = ("a/1.jpg", "b/1.jpg", "c/a b.jpg", "a:b.jpg")
    entries = [Entry(name, found(), index=index, stem=names.stem(name)) for index, name in enumerate(paths)]
    assert [record["image_id"] for record in written(tmp_path, *entries)][::2] == [1, "1-2", "a b", "a:b"]
