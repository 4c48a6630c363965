"""Which files a list of sources stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from yoloship.errors import InputError
from yoloship.sources import find_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "c.txt", ".hidden.jpg", "d.tif", "below/e.jpg", "below/deeper/f.webp", "empty/x.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


def names(paths: Sequence[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_stands_for_its_own_images_sorted(folder: Path) -> None:
    assert names(find_images([folder]).paths) == ["a.PNG", "b.jpg", "d.tif"]


def test_a_pattern_stands_for_the_images_that_it_matches_sorted(folder: Path) -> None:
    assert names(find_images([f"{folder}/*"]).paths) == ["a.PNG", "b.jpg", "d.tif"]
    assert names(find_images([f"{folder}/**/*"]).paths) == ["a.PNG", "b.jpg", "f.webp", "e.jpg", "d.tif"]
    assert names(find_images([f"{folder}/*.jpg"]).paths) == ["b.jpg"]


def test_a_file_stands_for_itself_whatever_its_suffix(folder: Path) -> None:
    assert names(find_images([folder / "c.txt"]).paths) == ["c.txt"]


def test_a_missing_file_is_left_for_reading_to_report() -> None:
    assert find_images(["no-such.jpg"]).paths == (Path("no-such.jpg"),)


def test_sources_keep_their_order_and_a_file_reached_twice_comes_once(folder: Path) -> None:
    sources = [folder / "d.tif", folder, folder / "below" / ".." / "b.jpg"]
    assert names(find_images(sources).paths) == ["d.tif", "a.PNG", "b.jpg"]


def test_the_path_comes_back_as_it_was_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert [str(path) for path in find_images(["b.jpg", "below"]).paths] == ["b.jpg", str(Path("below/e.jpg"))]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    odd = folder / "a[1].jpg"
    odd.touch()
    assert find_images([odd]).paths == (odd,)


def test_a_folder_without_images_is_refused(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        find_images([folder / "empty"])
    assert str(caught.value) == (
        f"{folder / 'empty'}: has no images: expected files such as .jpg, .png or .webp, got 1 .md"
    )


def test_a_folder_with_images_only_below_it_says_how_to_reach_them(tmp_path: Path) -> None:
    (tmp_path / "day1").mkdir()
    (tmp_path / "day1" / "a.jpg").touch()
    with pytest.raises(InputError) as caught:
        find_images([tmp_path])
    assert "got 1 folder (--recursive)" in str(caught.value)
    assert len(find_images([tmp_path], recursive=True).paths) == 1
    assert len(find_images([f"{tmp_path}/**/*"]).paths) == 1


def test_a_pattern_that_matches_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="matches no images"):
        find_images([f"{folder}/*.gif"])


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert names(find_images([f"{tmp_path}/**/*.jpg"]).paths) == ["a.jpg"]


def skipped_in(source: Path | str) -> str:
    (skipped,) = find_images([source]).skipped
    return str(skipped)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_folder_tells_what_it_leaves_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.sources.finding.find_spec", lambda _: None)
    for name in ("x.heic", "y.HEIC", "notes.TXT", "README", "odd.\x1b[31m", "Thumbs.db"):
        (folder / name).touch()
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    (folder / "self.png").symlink_to("self.png")
    os.mkfifo(folder / "pipe.jpg")
    assert skipped_in(folder) == (
        f"skipped in {folder}: 3 folders (--recursive), 2 .heic (pip install 'yoloship[heic]'), 2 .txt, "
        "2 broken links, 2 other files, 1 .db, 1 hidden image, 1 pipe, socket or device"
    )


def test_a_folder_says_how_the_videos_in_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    advice = r"1 \.mp4 \(give videos by a pattern such as 'videos/\*\.mp4'\)"
    with pytest.raises(InputError, match=f"has no images: .*{advice}"):
        find_images([tmp_path])
    (tmp_path / "a.jpg").touch()
    assert re.search(advice, skipped_in(tmp_path))


def test_many_kinds_are_cut_to_one_line(folder: Path) -> None:
    for number in range(40):
        (folder / f"a.x{number}").touch()
    text = skipped_in(folder)
    assert text.endswith(", 35 of other kinds")
    assert len(text) < 300


def test_a_folder_of_images_alone_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / ".DS_Store").touch()
    assert find_images([tmp_path]).skipped == ()


def test_a_pattern_tells_what_it_matches_and_leaves_out(folder: Path) -> None:
    assert skipped_in(f"{folder}/*") == f"skipped in {folder}/*: 3 folders (--recursive), 1 .txt"


def test_heic_is_taken_if_it_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.sources.finding.find_spec", lambda _: object())
    for name in ("a.heic", "b.HEIF", "c.hif"):
        (tmp_path / name).touch()
    assert names(find_images([tmp_path]).paths) == ["a.heic", "b.HEIF", "c.hif"]


@pytest.mark.parametrize("name", ["a.jfif", "a.JFIF", "a.mpo", "a.jif", "a.j2k", "a.apng"])
def test_rarer_suffixes_of_the_same_formats_are_images(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert names(find_images([tmp_path]).paths) == [name]


def test_recursive_takes_the_images_of_all_folders_below(folder: Path) -> None:
    (folder / "below" / "n.txt").touch()
    found = find_images([folder], recursive=True)
    assert names(found.paths) == ["a.PNG", "b.jpg", "f.webp", "e.jpg", "d.tif"]
    assert str(found.skipped[0]) == f"skipped in {folder}: 2 .txt, 1 .md, 1 hidden image"


def test_hidden_folders_are_not_entered(folder: Path) -> None:
    (folder / ".cache").mkdir()
    (folder / ".cache" / "z.jpg").touch()
    assert "z.jpg" not in names(find_images([folder], recursive=True).paths)
    assert "z.jpg" not in names(find_images([f"{folder}/**/*"]).paths)


def test_numbers_in_names_are_sorted_by_their_value(tmp_path: Path) -> None:
    wanted = ["img.jpg", "img2.jpg", "img10.jpg", "img10b1.jpg", "img10b02.jpg", "imh.jpg"]
    for name in [*wanted, "9" * 200 + ".jpg"]:
        (tmp_path / name).touch()
    assert names(find_images([tmp_path]).paths) == ["9" * 200 + ".jpg", *wanted]
    assert names(find_images([f"{tmp_path}/img*"]).paths) == wanted[:5]


def linked(tmp_path: Path, links: int) -> Path:
    """Folders that link to one another crosswise: a walk that remembers nothing would find endless ways."""
    for number in range(links):
        (tmp_path / f"d{number}").mkdir()
    for number in range(links):
        (tmp_path / f"d{number}" / f"{number}.jpg").touch()
        for other in range(links):
            (tmp_path / f"d{number}" / f"to{other}").symlink_to(tmp_path / f"d{other}", target_is_directory=True)
    (tmp_path / "up").symlink_to(tmp_path, target_is_directory=True)
    return tmp_path


@pytest.mark.timeout(60)
@pytest.mark.parametrize("pattern", ["**/*.jpg", "**/**/*.jpg", "**/d*/**/*"])
def test_a_pattern_over_loops_of_links_ends_and_finds_each_image_once(tmp_path: Path, pattern: str) -> None:
    folder = linked(tmp_path, 9)
    found = find_images([f"{folder}/{pattern}"]).paths
    assert sorted(path.name for path in found) == [f"{number}.jpg" for number in range(9)]


@pytest.mark.timeout(60)
def test_a_recursive_folder_over_loops_of_links_finds_each_image_once_by_its_own_path(tmp_path: Path) -> None:
    folder = linked(tmp_path, 9)
    found = find_images([folder], recursive=True).paths
    assert found == tuple(folder / f"d{number}" / f"{number}.jpg" for number in range(9))


def test_a_folder_outside_is_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").touch()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert find_images([tmp_path / "set"], recursive=True).paths == (tmp_path / "set" / "link" / "a.jpg",)
    assert find_images([f"{tmp_path}/set/**/*.jpg"]).paths == (tmp_path / "set" / "link" / "a.jpg",)


def test_a_folder_whose_name_looks_like_a_pattern_is_that_folder(tmp_path: Path) -> None:
    for name in ("day[1]", "day1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    assert find_images([tmp_path / "day[1]"]).paths == (tmp_path / "day[1]" / "a.jpg",)
    assert find_images([f"{tmp_path}/day[1]/*.jpg"]).paths == (tmp_path / "day[1]" / "a.jpg",)
    assert find_images([f"{tmp_path}/day[12]/*.jpg"]).paths == (tmp_path / "day1" / "a.jpg",)


def test_a_broken_link_that_is_named_itself_is_left_for_reading_to_report(tmp_path: Path) -> None:
    link = tmp_path / "a*.jpg"
    link.symlink_to("nowhere")
    assert find_images([link]).paths == (link,)


def test_patterns_are_taken_relative_to_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "below")
    assert [str(path) for path in find_images(["*.jpg", "../*.jpg"]).paths] == ["e.jpg", str(Path("../b.jpg"))]


def test_there_is_a_limit_to_how_many_images_are_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.sources.finding.MAX_IMAGES", 2)
    with pytest.raises(InputError, match="too many images for one run: expected at most 2"):
        find_images([folder])


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 5000])
def test_a_name_that_no_system_takes_is_left_for_reading_to_report(name: str) -> None:
    assert len(find_images([name]).paths) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may list everything")
def test_a_folder_that_may_not_be_listed_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    with pytest.raises(InputError, match="cannot be listed"):
        find_images([closed])
