from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from helpers.datasets import write_image, write_text
from yoloship.datasets.pictures import look_at


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_an_image_has_its_size(tmp_path: Path, suffix: str) -> None:
    picture = look_at(write_image(tmp_path / f"a{suffix}", (40, 80)))
    assert (picture.image_hw, picture.problem, picture.remark) == ((40, 80), "", "")


def test_the_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(tmp_path / "a.jpg", exif=exif)
    assert look_at(tmp_path / "a.jpg").image_hw == (80, 40)


def test_a_png_that_is_called_jpg_is_taken(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert look_at(tmp_path / "a.jpg").image_hw == (40, 80)


@pytest.mark.parametrize("size", [(9, 80), (80, 9)])
def test_a_side_below_ten_pixels_is_left_out(tmp_path: Path, size: tuple[int, int]) -> None:
    assert "trainings leave out sides below 10" in look_at(write_image(tmp_path / "a.png", size)).problem


def test_ten_pixels_are_enough(tmp_path: Path) -> None:
    assert look_at(write_image(tmp_path / "a.png", (10, 10))).image_hw == (10, 10)


def test_a_gif_is_left_out_whatever_its_name(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.jpg", "GIF")
    assert look_at(tmp_path / "a.jpg").problem == "is a GIF image, which training tools do not accept"


@pytest.mark.parametrize(
    ("data", "problem"), [(b"", "is empty"), (b"\xd9\xa3" * 200, "is not an image"), (b"<html>", "is a web page")]
)
def test_what_is_not_an_image_is_left_out(tmp_path: Path, data: bytes, problem: str) -> None:
    assert problem in look_at(write_text(tmp_path / "a.jpg", data)).problem


def test_a_missing_file_and_a_folder_are_left_out(tmp_path: Path) -> None:
    assert "no such file" in look_at(tmp_path / "a.jpg").problem
    (tmp_path / "b.jpg").mkdir()
    assert "is a folder" in look_at(tmp_path / "b.jpg").problem


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_jpeg_that_is_cut_is_left_out(tmp_path: Path, share: float) -> None:
    path = write_image(tmp_path / "a.jpg")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "JPEG" in look_at(path).problem


def test_a_jpeg_with_zeros_behind_its_end_is_kept_and_left_as_it_is(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg")
    data = path.read_bytes() + bytes(10)
    path.write_bytes(data)
    picture = look_at(path)
    assert picture.image_hw == (40, 80)
    assert "does not end with its end marker" in picture.remark
    assert path.read_bytes() == data
