"""Every door of the library refuses in the same way: by what the caller can do next, in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import yoloship
from helpers.models import finds_a_cat
from yoloship.checkpoint.limits import Limits
from yoloship.engine import BuildConfig, Range, parse_target, read_engine
from yoloship.engine.inspect import inspect_engine
from yoloship.errors import CheckpointError, EngineError, GraphError, ImageError, InputError, SessionError
from yoloship.graph import GraphConfig
from yoloship.graph.check import read_onnx
from yoloship.images import read_image
from yoloship.models.building import build_source
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.sources import find_images, open_source


def _build_source(path: Path) -> None:
    with build_source(path):
        pass


def _detect(path: Path) -> None:
    with yoloship.load(MODEL) as detector:
        detector(path)


def _stream(path: Path) -> None:
    with yoloship.load(MODEL) as detector:
        for outcome in detector.stream([path]):
            outcome.unwrap()


MODEL = finds_a_cat((64, 96)).SerializeToString()

DOORS: dict[str, Callable[[Path], Any]] = {
    "load": yoloship.load,
    "export": lambda path: yoloship.export(path, "out.onnx"),
    "build": lambda path: yoloship.build(path, "out.engine"),
    "read_checkpoint": yoloship.read_checkpoint,
    "detector": _detect,
    "stream": _stream,
    "read_image": read_image,
    "read_engine": read_engine,
    "inspect_engine": inspect_engine,
    "read_onnx": read_onnx,
    "build_source": _build_source,
    "session": OnnxRuntimeSession.open,
}


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", ["missing.pt", "missing.onnx", "missing.engine", "missing.jpg", "no/such/folder.pt"])
def test_a_missing_file_is_an_input_error_at_every_door(door: str, name: str) -> None:
    with pytest.raises(InputError) as caught:
        DOORS[door](Path(name))
    assert str(caught.value).startswith(f"{name}: no such file")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("door", DOORS)
def test_a_folder_is_an_input_error_at_every_door(door: str) -> None:
    Path("folder").mkdir()
    with pytest.raises(InputError, match="folder: is a folder, not "):
        DOORS[door](Path("folder"))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read_is_an_input_error_at_every_door(door: str) -> None:
    Path("closed").touch(mode=0o000)
    with pytest.raises(InputError, match="closed: cannot be read: Permission denied"):
        DOORS[door](Path("closed"))


CONTENT: dict[str, type[Exception]] = {
    "load": SessionError,
    "export": CheckpointError,
    "build": GraphError,
    "read_checkpoint": CheckpointError,
    "detector": ImageError,
    "stream": ImageError,
    "read_image": ImageError,
    "read_engine": EngineError,
    "inspect_engine": EngineError,
    "read_onnx": GraphError,
    "build_source": GraphError,
    "session": SessionError,
}
"""What each door raises about a file that is there, and holds something else."""


@pytest.mark.parametrize("door", DOORS)
def test_content_is_an_error_of_what_was_expected_there(door: str) -> None:
    Path("notes.txt").write_text("hello\n")
    with pytest.raises(CONTENT[door]) as caught:
        DOORS[door](Path("notes.txt"))
    assert str(caught.value).startswith("notes.txt: ")
    assert "\n" not in str(caught.value)
    assert type(caught.value) is CONTENT[door]


ARGUMENTS: dict[str, Callable[[], Any]] = {
    "load(imgsz)": lambda: yoloship.load(MODEL, imgsz=-1),
    "load(device)": lambda: yoloship.load(MODEL, device="tpu"),
    "load(tuned_for)": lambda: yoloship.load(MODEL, tuned_for="speed"),  # type: ignore[arg-type]
    "load(model)": lambda: yoloship.load(7),  # type: ignore[arg-type]
    "export(imgsz)": lambda: yoloship.export("best.pt", imgsz=-1),
    "export(precision)": lambda: yoloship.export("best.pt", precision="fp4"),  # type: ignore[arg-type]
    "build(batch)": lambda: yoloship.build("best.pt", batch=(3, 2, 1)),
    "DetectOptions": lambda: yoloship.DetectOptions(score_threshold=2),
    "GraphConfig(batch)": lambda: GraphConfig(batch=0),
    "GraphConfig(input_hw)": lambda: GraphConfig(input_hw=(0, 1)),
    "BuildConfig": lambda: BuildConfig(optimization_level=9),
    "Range": lambda: Range(2, 1, 1),
    "Range.parse": lambda: Range.parse("a", option="--batch"),
    "parse_target": lambda: parse_target("sm42"),
    "Limits": lambda: Limits(opcodes=0),
    "Detections": lambda: yoloship.Detections.merge([]),
    "find_images": lambda: find_images([""]),
    "open_source": lambda: open_source(["http://example.org/a.jpg"]),
    "read_image": lambda: read_image(7),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("door", ARGUMENTS)
def test_a_bad_argument_is_an_input_error_at_every_door(door: str) -> None:
    Path("best.pt").touch()
    with pytest.raises(InputError) as caught:
        ARGUMENTS[door]()
    assert "\n" not in str(caught.value)


def test_a_release_with_its_suffix_is_told_its_name() -> None:
    for door in (yoloship.load, yoloship.export, yoloship.build):
        with pytest.raises(
            InputError, match=r"yolov5s.pt: no such file; give 'yolov5s', without .pt, to download the official"
        ):
            door("yolov5s.pt")


def test_every_error_is_caught_by_its_base_and_drawn_in_the_tree() -> None:
    from yoloship import errors

    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    for kind in classes:
        assert issubclass(kind, yoloship.YoloshipError)
        assert str(errors.__doc__).count(kind.__name__) >= 1
        assert kind.__name__ in yoloship.__all__


def test_images_of_every_kind_reach_the_doors(work: Path) -> None:
    """The doors above do work, given what they expect."""
    cv2.imwrite("a.png", np.full((64, 96, 3), 90, np.uint8))
    DOORS["detector"](Path("a.png"))
    DOORS["stream"](Path("a.png"))
    assert DOORS["read_image"](Path("a.png")).shape == (64, 96, 3)
