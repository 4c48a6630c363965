"""What a batch finds on this machine; object stores are tested with `buckets`."""

from __future__ import annotations

from pathlib import Path

import pytest

from yoloship.batch import listing
from yoloship.batch.listing import find, missing_names
from yoloship.errors import InputError


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/2.jpg", "in/10.jpg", "in/x.txt", "in/deep/3.png", "clip.mp4"):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" if name.endswith("mp4") else b"x")


def test_files_folders_and_patterns_are_found_in_order_and_once() -> None:
    assert find(["in"]).names == ["in/2.jpg", "in/10.jpg"]
    assert find(["in"], recursive=True).names == ["in/2.jpg", "in/10.jpg", "in/deep/3.png"]
    assert find(["in/deep/3.png", "in/*.jpg", "in/2.jpg"]).names == ["in/deep/3.png", "in/2.jpg", "in/10.jpg"]
    assert find(["in"]).notes == ["skipped in in: 1 folder (--recursive), 1 .txt"]


def test_a_list_may_name_files_folders_and_patterns() -> None:
    Path("plain.txt").write_text("in/10.jpg\nin/missing.jpg\n")
    assert find(["plain.txt"]).names == ["in/10.jpg", "in/missing.jpg"]
    Path("mixed.csv").write_text("source\nin/deep/3.png\nin\nin/1*.jpg\n")
    assert find(["mixed.csv", "in/2.jpg"]).names == ["in/deep/3.png", "in/2.jpg", "in/10.jpg"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip.mp4", r"clip\.mp4: cannot be part of a batch: got a source of the kind 'video'; give videos to"),
        ("https://host/a.jpg", "kind 'url'; download it"),
        ("rtsp://host/a", "kind 'live'"),
        ("-", "kind 'stdin'"),
        ("ftp://host/a.jpg", "ftp:// is not an object store that is known here"),
        ("nothing/*.jpg", "matches no images"),
        ("", "is empty"),
    ],
)
def test_what_cannot_be_known_in_advance_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find([text])


def test_too_many_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_NAMES", 1)
    with pytest.raises(InputError, match="too many images for one batch: expected at most 1"):
        find(["in"])


def test_how_two_listings_differ_is_counted() -> None:
    assert missing_names(["a", "b"], ["b", "a"]) == ""
    assert missing_names(["a", "b"], ["a", "c", "d"]) == "2 new images, 1 gone"
