"""Names of files for images, videos, addresses and classes, however they are called."""

from __future__ import annotations

import os
from itertools import product

import pytest

from yoloship._util.writing import name_key
from yoloship.sinks.naming import RunNames, class_folders, safe_name, stem_of
from yoloship.sources import Frame, Stream


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("in/photo.jpg", "photo"),
        ("photo", "photo"),
        ("a.zip/sub/b.tar.jpg", "b.tar"),
        (r"C:\in\photo.jpg", "photo"),
        ("https://host/a/b.jpg?size=9#x", "b"),
        ("https://host:8000/", "host_8000"),
        ("tcp://127.0.0.1:8000", "127.0.0.1_8000"),
        ("rtsp://host:554/cam/1", "1"),
        (".jpg", "jpg"),
        ("..", "image"),
        ("", "image"),
        ("a/", "a"),
        ("con.jpg", "_con"),
        ("nul", "_nul"),
        ("a\nb\x1b.jpg", "a_x0ab_x1b"),
        ("汽车 1.jpg", "汽车 1"),
        ("http://[bad/b.jpg", "http___[bad_b.jpg"),
    ],
)
def test_a_name_becomes_the_stem_of_a_file(name: str, stem: str) -> None:
    assert stem_of(name) == stem


@pytest.mark.parametrize("text", ["../../etc", "a/b", "/abs", "x" * 999, "写" * 999, "a.", " a ", "\0", "..", "a:b"])
def test_nothing_leads_out_of_its_folder(text: str) -> None:
    name = safe_name(text, "empty")
    assert not {*name} & {*"/\\\0"}
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert 0 < len(os.fsencode(name)) <= 200


def test_images_of_a_run_have_different_stems() -> None:
    names = RunNames()
    given = ["a/1.jpg", "b/1.png", "1.JPG", "1-2.jpg", "É.jpg", "é.png"]
    assert [names.stem(name) for name in given] == ["1", "1-2", "1-3", "1-2-2", "É", "é-2"]


def frame(stream: str, index: int) -> Frame:
    return Frame(index, f"{stream}#{index}", None, stream=Stream(stream))


def test_frames_have_the_stem_of_their_video_and_their_number() -> None:
    names = RunNames()
    order = [("a/clip.mp4", 0), ("b/clip.mp4", 0), ("a/clip.mp4", 17), ("b/clip.mp4", 1)]
    stems = [names.stem("", frame(stream, index)) for stream, index in order]
    assert stems == ["clip_0", "clip-2_0", "clip_17", "clip-2_1"]


def test_images_that_are_called_like_frames_stay_apart_from_them() -> None:
    for first in (True, False):
        names = RunNames()
        still = [names.stem("clip_17.jpg")] if first else []
        frames = [names.stem("", frame("clip.mp4", index)) for index in range(20)]
        still += [] if first else [names.stem("clip_17.jpg"), names.stem("other_17.jpg")]
        assert len({name_key(stem) for stem in frames + still}) == len(frames + still)


def test_frames_cost_no_memory() -> None:
    names = RunNames()
    for index in range(1000):
        names.stem("", frame("clip.mp4", index))
    assert sum(len(kept) for kept in (names._taken, names._streams, names._prefixes, names._numbered)) < 5


def test_each_class_has_a_folder_of_its_own() -> None:
    hostile = ("../x", "a/b", "a\\b", "Cat", "cat", "", ".", "con", "x" * 300, "x" * 301, "\x1b[2J")
    folders = class_folders(hostile)
    assert folders[:8] == ("_x", "a_b", "a_b-2", "Cat", "cat-2", "class 5", "class 6", "_con")
    assert len({name_key(name) for name in folders}) == len(hostile)
    assert all("/" not in name and name not in {"", ".", ".."} for name in folders)


def test_a_class_without_a_name_does_not_share_the_folder_of_one_that_is_called_so() -> None:
    for names in product(["", "class 1", "class 0"], repeat=2):
        assert len(set(class_folders(names))) == 2
