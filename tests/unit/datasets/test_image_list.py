from __future__ import annotations

from pathlib import Path

import pytest

from helpers.datasets import write_image, write_text
from yoloship.datasets.image_list import images_of
from yoloship.errors import InputError


def test_a_folder_gives_the_images_of_all_folders_inside_sorted_by_path(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.JPG", "sub/c.png", "sub.d/e.webp"):
        write_image(tmp_path / name)
    for name in ("a.txt", "b.gif", ".hidden.jpg"):
        write_text(tmp_path / name, "x")
    found, faults = images_of([tmp_path], tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names == ["a.JPG", "b.jpg", "sub.d/e.webp", "sub/c.png"]
    assert not faults


def test_a_list_names_images_from_its_own_folder_or_from_that_of_the_dataset(tmp_path: Path) -> None:
    for name in ("lists/a.jpg", "images/b.jpg", "images/c.jpg"):
        write_image(tmp_path / name)
    listed = write_text(
        tmp_path / "lists" / "val.txt", f"./a.jpg\r\nimages/c.jpg\n\n{tmp_path}/images/b.jpg\n./missing.jpg\n"
    )
    found, faults = images_of([listed], tmp_path)
    assert found == [tmp_path / name for name in ("images/b.jpg", "images/c.jpg", "lists/a.jpg", "lists/missing.jpg")]
    assert not faults


def test_a_path_that_begins_with_a_dot_never_means_the_dataset(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    found, _ = images_of([write_text(tmp_path / "lists" / "val.txt", "./a.jpg\n")], tmp_path)
    assert found == [tmp_path / "lists" / "a.jpg"]


def test_what_stands_twice_or_is_not_an_image_is_said_with_its_line(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    found, faults = images_of([write_text(tmp_path / "val.txt", "a.jpg\nb.gif\n./a.jpg\n")], tmp_path)
    assert found == [tmp_path / "a.jpg"]
    assert [(fault.line, fault.consequence) for fault in faults] == [(2, "row dropped"), (3, "row dropped")]
    assert faults[1].problem == "repeats line 1"


def test_several_places_are_one_list(tmp_path: Path) -> None:
    write_image(tmp_path / "a" / "1.jpg")
    write_image(tmp_path / "b" / "1.jpg")
    found, _ = images_of([tmp_path / "b", tmp_path / "a", tmp_path / "b"], tmp_path)
    assert found == [tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg"]


def test_a_place_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no images"):
        images_of([tmp_path], tmp_path)
    with pytest.raises(InputError, match="no such file"):
        images_of([tmp_path / "no.txt"], tmp_path)


@pytest.mark.parametrize("line", ["a\0.jpg", "a" * 5000 + ".jpg"])
def test_what_cannot_be_a_path_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"val\.txt, line 2: is not a path"):
        images_of([write_text(tmp_path / "val.txt", f"\n{line}\n")], tmp_path)
