"""Names of annotated pictures, and writing them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from yoloship.errors import OutputError
from yoloship.images import read_image
from yoloship.sinks import fresh_folder, plan_file, plan_outputs, write_picture

PICTURE = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


def planned(inputs: list[str], folder: Path) -> list[str]:
    return [path.name for path in plan_outputs([Path(name) for name in inputs], folder, overwrite=False)]


def test_a_name_and_its_format_are_kept(tmp_path: Path) -> None:
    assert planned(["x/a.jpg", "x/b.PNG", "c.webp"], tmp_path) == ["a.jpg", "b.PNG", "c.webp"]


def test_formats_that_are_not_written_become_jpeg(tmp_path: Path) -> None:
    assert planned(["a.gif", "b.avif", "c", "d.txt"], tmp_path) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_inputs_of_one_name_in_different_folders_do_not_share_an_output(tmp_path: Path) -> None:
    inputs = ["x/a.jpg", "y/a.jpg", "z/A.JPG", "a.gif", "a-2.jpg"]
    assert planned(inputs, tmp_path) == ["a.jpg", "a-2.jpg", "A-3.JPG", "a-4.jpg", "a-2-2.jpg"]


def test_a_name_that_is_taken_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(OutputError) as caught:
        plan_outputs([Path("a.jpg")], tmp_path, overwrite=False)
    assert str(caught.value) == f"{tmp_path / 'a.jpg'}: exists already; give another name, or --overwrite"
    assert plan_outputs([Path("a.jpg")], tmp_path, overwrite=True) == (tmp_path / "a.jpg",)


def test_an_input_is_never_replaced_not_even_with_overwrite(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    source.touch()
    with pytest.raises(OutputError, match="would replace an input picture"):
        plan_outputs([source], tmp_path / "b" / "..", overwrite=True)
    with pytest.raises(OutputError, match="would replace an input"):
        plan_file(source, [source], overwrite=True)


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="is a file, not a folder"):
        plan_outputs([Path("a.jpg")], tmp_path / "out", overwrite=True)


def test_a_file_output_is_checked_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder, not a file"):
        plan_file(tmp_path, [], overwrite=True)
    with pytest.raises(OutputError, match="folder does not exist"):
        plan_file(tmp_path / "no" / "a.json", [], overwrite=True)
    plan_file(tmp_path / "a.json", [], overwrite=False)
    (tmp_path / "a.json").touch()
    with pytest.raises(OutputError, match="exists already"):
        plan_file(tmp_path / "a.json", [], overwrite=False)


def test_a_fresh_folder_has_a_name_of_its_own(tmp_path: Path) -> None:
    assert fresh_folder(tmp_path, "detect").name == "detect"
    (tmp_path / "detect").mkdir()
    (tmp_path / "detect-2").mkdir()
    assert fresh_folder(tmp_path, "detect").name == "detect-3"


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".TIF"])
def test_a_lossless_picture_is_written_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"照片{suffix}"
    write_picture(PICTURE, path, overwrite=False)
    assert np.array_equal(read_image(path), PICTURE)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_a_lossy_picture_is_written_in_its_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_picture(PICTURE, path, overwrite=False)
    assert read_image(path).shape == PICTURE.shape


def test_a_full_disk_leaves_nothing_behind_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        write_picture(PICTURE, tmp_path / "a.png", overwrite=False)
    assert str(caught.value) == f"{tmp_path / 'a.png'}: cannot be written: No space left on device; free some space"
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_its_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be encoded"):
        write_picture(np.zeros((1, 70_000, 3), np.uint8), tmp_path / "a.jpg", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="folder cannot be made: Not a directory"):
        write_picture(PICTURE, tmp_path / "file" / "below" / "a.png", overwrite=False)
