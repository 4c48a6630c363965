"""Names of annotated images, and writing them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from yoloship.errors import OutputError
from yoloship.images import read_image
from yoloship.results.detections import Detections
from yoloship.sinks import AnnotatedImages, annotated_names, write_image

IMAGE = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


def names(*inputs: str) -> list[str]:
    return list(annotated_names([Path(name) for name in inputs]))


def test_a_name_and_its_format_are_kept() -> None:
    assert names("x/a.jpg", "x/b.PNG", "c.webp") == ["a.jpg", "b.PNG", "c.webp"]


def test_formats_that_are_not_written_become_jpeg() -> None:
    assert names("a.gif", "b.avif", "c", "d.txt") == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_an_inputs_own_name_stays_its_own_wherever_it_stands() -> None:
    assert names("p.avif", "p.jpg") == ["p-2.jpg", "p.jpg"]
    assert names("p.gif", "p.avif", "p-2.jpg", "p.jpg") == ["p-3.jpg", "p-4.jpg", "p-2.jpg", "p.jpg"]


def test_inputs_of_one_name_in_different_folders_do_not_share_an_output() -> None:
    inputs = ["x/a.jpg", "y/a.jpg", "z/A.JPG", "a.gif", "a-2.jpg"]
    assert names(*inputs) == ["a.jpg", "a-3.jpg", "A-4.JPG", "a-5.jpg", "a-2.jpg"]


def test_names_that_some_file_systems_take_for_one_are_different() -> None:
    assert names("x/\u00e9.jpg", "y/e\u0301.jpg", "z/STRASSE.png", "stra\u00dfe.png") == [
        "\u00e9.jpg",
        "e\u0301-2.jpg",
        "STRASSE.png",
        "stra\u00dfe-2.png",
    ]


def test_names_stay_legal_when_something_is_added_to_them() -> None:
    long = "\N{CJK UNIFIED IDEOGRAPH-5199}" * 83  # 249 bytes
    found = names(f"x/{long}.jpg", f"y/{long}.jpg", f"{long}.avif", f"z/{long}.tiff")
    assert len({*found}) == 4
    assert all(len(os.fsencode(name)) <= 255 for name in found)
    assert found[0] == f"{long}.jpg"


def test_thousands_of_equal_names_are_numbered_without_counting_each_time() -> None:
    found = names(*(f"cam{index}/0001.jpg" for index in range(3000)))
    assert found[-1] == "0001-3000.jpg"


def test_annotated_images_make_their_folder_for_the_first_of_them(tmp_path: Path) -> None:
    annotated = AnnotatedImages(["a.png", "b.png"], None, tmp_path / "runs", overwrite=False)
    assert list(tmp_path.iterdir()) == []
    found = Detections.empty((20, 30))
    assert annotated.draw(1, found, IMAGE) == tmp_path / "runs" / "predict" / "b.png"
    assert annotated.draw(0, found, IMAGE) == tmp_path / "runs" / "predict" / "a.png"
    assert np.array_equal(read_image(tmp_path / "runs" / "predict" / "a.png"), IMAGE)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".TIF"])
def test_a_lossless_image_is_written_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"照片{suffix}"
    write_image(IMAGE, path, overwrite=False)
    assert np.array_equal(read_image(path), IMAGE)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_a_lossy_image_is_written_in_its_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(IMAGE, path, overwrite=False)
    assert read_image(path).shape == IMAGE.shape


def test_a_full_disk_leaves_nothing_behind_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        write_image(IMAGE, tmp_path / "a.png", overwrite=False)
    assert str(caught.value) == f"{tmp_path / 'a.png'}: cannot be written: No space left on device; free some space"
    assert list(tmp_path.iterdir()) == []


def test_a_image_that_its_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be encoded"):
        write_image(np.zeros((1, 70_000, 3), np.uint8), tmp_path / "a.jpg", overwrite=False)
    assert list(tmp_path.iterdir()) == []
