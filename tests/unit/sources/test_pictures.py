"""Which files a list of sources stands for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from yoloship.errors import InputError
from yoloship.sources import find_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "c.txt", ".hidden.jpg", "d.tif", "below/e.jpg", "below/deeper/f.webp", "empty/x.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_stands_for_its_own_pictures_sorted(folder: Path) -> None:
    assert names(find_pictures([folder])) == ["a.PNG", "b.jpg", "d.tif"]


def test_a_pattern_stands_for_the_pictures_that_it_matches_sorted(folder: Path) -> None:
    assert names(find_pictures([f"{folder}/*"])) == ["a.PNG", "b.jpg", "d.tif"]
    assert names(find_pictures([f"{folder}/**/*"])) == ["a.PNG", "b.jpg", "f.webp", "e.jpg", "d.tif"]
    assert names(find_pictures([f"{folder}/*.jpg"])) == ["b.jpg"]


def test_a_file_stands_for_itself_whatever_its_suffix(folder: Path) -> None:
    assert names(find_pictures([folder / "c.txt"])) == ["c.txt"]


def test_a_missing_file_is_left_for_reading_to_report() -> None:
    assert find_pictures(["no-such.jpg"]) == (Path("no-such.jpg"),)


def test_sources_keep_their_order_and_a_file_reached_twice_comes_once(folder: Path) -> None:
    sources = [folder / "d.tif", folder, folder / "below" / ".." / "b.jpg"]
    assert names(find_pictures(sources)) == ["d.tif", "a.PNG", "b.jpg"]


def test_the_path_comes_back_as_it_was_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert [str(path) for path in find_pictures(["b.jpg", "below"])] == ["b.jpg", str(Path("below/e.jpg"))]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    odd = folder / "a[1].jpg"
    odd.touch()
    assert find_pictures([odd]) == (odd,)


def test_a_folder_without_pictures_is_refused(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        find_pictures([folder / "empty"])
    assert str(caught.value) == (
        f"{folder / 'empty'}: folder without pictures: expected files such as .jpg, .png or .webp"
    )


def test_a_folder_with_pictures_only_below_it_says_how_to_reach_them(tmp_path: Path) -> None:
    (tmp_path / "day1").mkdir()
    (tmp_path / "day1" / "a.jpg").touch()
    with pytest.raises(InputError) as caught:
        find_pictures([tmp_path])
    assert f"for the folders below it, give '{tmp_path}/**/*'" in str(caught.value)
    assert len(find_pictures([f"{tmp_path}/**/*"])) == 1


def test_a_pattern_that_matches_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="matches no pictures"):
        find_pictures([f"{folder}/*.gif"])


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert names(find_pictures([f"{tmp_path}/**/*.jpg"])) == ["a.jpg"]


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 5000])
def test_a_name_that_no_system_takes_is_left_for_reading_to_report(name: str) -> None:
    assert len(find_pictures([name])) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may list everything")
def test_a_folder_that_may_not_be_listed_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    with pytest.raises(InputError, match="cannot be listed"):
        find_pictures([closed])
