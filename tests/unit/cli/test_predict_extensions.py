"""`yoloship detect` with a source of an installed package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.cat_folder import work_in_cat_folder
from helpers.cli import run
from helpers.plugins import install
from yoloship.sources import SOURCES, Frame

HW = (64, 96)

THEIR_SOURCE = '''
"""A third party's source: all that it takes."""

import numpy as np
from yoloship.sources import Frame, Source


class Noise(Source):
    help = "So many frames of noise."

    def __init__(self, count):
        self._count, self.closed = count, False

    @classmethod
    def open(cls, texts, options):
        return cls(int(texts[0]))

    def __iter__(self):
        for index in range(self._count):
            yield Frame(index, f"frame {index}", np.full((64, 96, 3), index, np.uint8))
'''


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that finds a cat in any image, and two images."""
    return work_in_cat_folder(tmp_path / "work", HW, monkeypatch)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a source, on the path as pip would install it."""
    entries, modules = {"noise": "their_source:Noise"}, {"their_source": THEIR_SOURCE}
    install(monkeypatch, tmp_path / "site", "yoloship.sources", entries, package="their-package", modules=modules)


def files() -> set[str]:
    return {path.as_posix() for path in Path().rglob("*") if path.is_file()} - {"cat.onnx", "a.png", "b.png"}


def test_a_third_partys_source_is_named_with_a_colon(installed: None) -> None:
    ran = run("detect", "cat.onnx", "noise:3", "-o", "out", "--json", "found.json")
    assert (ran.code, ran.err) == (0, "")
    assert [entry["input"] for entry in json.loads(Path("found.json").read_bytes())] == [
        "frame 0",
        "frame 1",
        "frame 2",
    ]
    assert files() == {"found.json", "out/frame 0.jpg", "out/frame 1.jpg", "out/frame 2.jpg"}
    assert "3 images, 3 objects: 3 cat" in ran.out
    assert "noise" not in SOURCES.own


def test_a_frame_may_be_the_bytes_of_a_file_and_an_error_names_the_frame(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Frame(0, "good", Path("a.png").read_bytes()), Frame(1, "cut short", Path("a.png").read_bytes()[:20])]
    monkeypatch.setattr(SOURCES.load("noise"), "__iter__", lambda source: iter(frames))
    ran = run("detect", "cat.onnx", "noise:2", "--no-draw", "--json", "found.json")
    good, bad = json.loads(Path("found.json").read_bytes())
    assert len(good["detections"]) == 1
    assert bad["error"].startswith("cut short: ")
    assert ran.err == f"error: {bad['error']}\nerror: 1 of 2 images failed\n"


def test_a_source_that_miscounts_its_frames_gives_no_result_another_ones_name(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Frame(7, name, np.full((*HW, 3), 90, np.uint8)) for name in ("first", "second")]
    monkeypatch.setattr(SOURCES.load("noise"), "__iter__", lambda source: iter(frames))
    assert run("detect", "cat.onnx", "noise:2", "--no-draw", "--json", "found.json").code == 0
    assert [entry["input"] for entry in json.loads(Path("found.json").read_bytes())] == ["first", "second"]


def test_a_file_with_a_colon_in_its_name_is_that_file(installed: None) -> None:
    Path("noise:3").write_bytes(Path("a.png").read_bytes())
    ran = run("detect", "cat.onnx", "noise:3", "--no-draw", "--json", "-")
    assert [entry["input"] for entry in json.loads(ran.out)] == ["noise:3"]


def test_sources_of_two_kinds_follow_each_other(installed: None) -> None:
    ran = run("detect", "cat.onnx", "noise:2", "a.png", "--no-draw", "--json", "-")
    assert [entry["input"] for entry in json.loads(ran.out)] == ["frame 0", "frame 1", "a.png"]


def test_a_name_with_a_colon_that_is_neither_is_a_missing_file() -> None:
    assert run("detect", "cat.onnx", "nosuch:3", "--no-draw").error == "nosuch:3: no such file"
