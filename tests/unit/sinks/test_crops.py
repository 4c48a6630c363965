"""Objects cut out of their images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from yoloship.errors import ImageError
from yoloship.images import read_image
from yoloship.results.detections import Detections
from yoloship.sinks import Entry
from yoloship.sinks.crops import Crops, cut_out

if TYPE_CHECKING:
    from pathlib import Path

HW = (100, 200)
IMAGE = np.random.default_rng(3).integers(0, 256, (*HW, 3), dtype=np.uint8)


def found(*boxes: tuple[float, ...], oriented: tuple[tuple[float, ...], ...] | None = None) -> Detections:
    turned = None if oriented is None else np.array(oriented, np.float32)
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32), np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.arange(count, dtype=np.int32) % 2, ("cat", "../dog"), HW, boxes_xywhr=turned,
    )  # fmt: skip


def test_a_box_is_enlarged_by_two_percent_and_ten_pixels() -> None:
    (one,) = found((50, 20, 150, 70))
    assert cut_out(one, IMAGE).shape == (50 * 1.02 + 10 + 1, 100 * 1.02 + 10, 3)  # 61 rows are touched in 62
    np.testing.assert_array_equal(cut_out(one, IMAGE), IMAGE[14:76, 44:156])


def test_it_ends_where_the_image_ends() -> None:
    (one,) = found((0, 0, 200, 100))
    np.testing.assert_array_equal(cut_out(one, IMAGE), IMAGE)


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (200, 100, 200, 100), (np.nan, 0, np.inf, 1), (-9e9, -9e9, -9e9, -9e9)])
def test_a_box_without_area_still_has_a_pixel(box: tuple[float, ...]) -> None:
    (one,) = found(box)
    assert min(cut_out(one, IMAGE).shape) >= 1


def test_a_turned_box_comes_out_upright() -> None:
    """A bright rectangle with a dark left half, turned by 30 degrees."""
    corners = cv2.boxPoints(((100.0, 50.0), (80.0, 30.0), 30.0))
    image = np.zeros((*HW, 3), np.uint8)
    cv2.fillPoly(image, [np.round(corners).astype(np.int32)], (255, 255, 255))
    angle = np.radians(30)
    half = np.array(corners, np.float64)
    centre = half.mean(axis=0)
    along = np.array([np.cos(angle), np.sin(angle)])
    for y in range(HW[0]):
        for x in range(HW[1]):
            if (np.array([x, y]) - centre) @ along < 0:
                image[y, x] //= 3
    box = found((60, 20, 140, 80), oriented=((100.5, 50.5, 80, 30, float(angle)),))
    (one,) = box
    crop = cut_out(one, image)
    assert crop.shape == (round(30 * 1.02 + 10), round(80 * 1.02 + 10), 3)
    inside = crop[8:-8, 8:-8, 0].astype(int)
    assert abs(inside[:, :35] - 85).max() <= 2, "the left half is dark, with nothing of the background"
    assert abs(inside[:, -35:] - 255).max() <= 2


def test_a_turned_box_without_a_turn_is_the_upright_one() -> None:
    (one,) = found((50, 30, 110, 70), oriented=((80, 50, 61, 41, 0),))
    np.testing.assert_array_equal(cut_out(one, IMAGE), IMAGE[24:76, 44:116])


def test_each_object_has_its_place_in_the_record_in_its_name(tmp_path: Path) -> None:
    result = found((10, 10, 40, 40), (50, 10, 90, 40), (100, 10, 140, 60))
    with Crops.open(tmp_path) as sink:
        sink.write(Entry("in/photo.jpg", result, image=IMAGE, stem="photo"))
        sink.write(Entry("bad.jpg", None, ImageError("no such file"), index=1))
        sink.write(Entry("clip.mp4#3", result, image=IMAGE, index=2))
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg"))
    stems = ("000003", "photo")
    assert files == sorted(f"{name}/{stem}-{number}.jpg" for stem in stems for name, number in
                           (("cat", 1), ("_dog", 2), ("cat", 3)))  # fmt: skip
    crop = read_image(tmp_path / "cat" / "photo-3.jpg")
    assert crop.shape == cut_out(list(result)[2], IMAGE).shape


def test_a_crop_of_one_image_never_has_the_name_of_another(tmp_path: Path) -> None:
    """``photo-1.jpg`` is the first object of ``photo``; those of ``photo-1`` are ``photo-1-1.jpg`` and so on."""
    with Crops.open(tmp_path) as sink:
        for index, stem in enumerate(("photo", "photo-1", "photo-1-1")):
            sink.write(Entry(stem, found((10, 10, 40, 40), (10, 10, 40, 40)), image=IMAGE, index=index, stem=stem))
    assert len(list(tmp_path.rglob("*.jpg"))) == 6


def test_what_a_killed_run_left_in_the_folder_of_a_class_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "cat" / f".{'0' * 12}.part"
    left.parent.mkdir()
    left.write_bytes(b"")
    with Crops.open(tmp_path) as sink:
        sink.write(Entry("photo.jpg", found((10, 10, 40, 40)), image=IMAGE))
    assert [path.name for path in left.parent.iterdir()] == ["000001-1.jpg"]
