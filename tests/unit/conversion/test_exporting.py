"""`yoloship.export`: what the command writes, from Python."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import yoloship
from helpers.cli import run
from helpers.shared import GENERATED, require
from yoloship.errors import CheckpointError, InputError, OutputError, YoloshipError
from yoloship.graph.onnx_file import read_metadata, read_model_info


@pytest.fixture(autouse=True)
def best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkpoint in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "best.pt"
    path.symlink_to(require(GENERATED / "v7-yolov5n.pt"))
    return Path("best.pt")


def test_the_defaults_write_the_same_file_as_the_command(best: Path) -> None:
    written = yoloship.export(best)
    assert written.path == Path("best.onnx")
    assert written.size_bytes == written.path.stat().st_size
    assert (len(written.class_names), written.precision, written.details) == (3, "float32", "")
    assert run("export", best, "-o", "by-command.onnx").code == 0
    assert Path("by-command.onnx").read_bytes() == Path("best.onnx").read_bytes()


def test_keywords_decide_what_is_written(best: Path) -> None:
    yoloship.export(
        str(best), "x.onnx", imgsz=(np.int64(64), 96), batch="dynamic", input_form="image", output_form="nms",
        score_threshold=0.4, max_detections=600, precision="float16", class_names=["a", "b", "c"],
    )  # fmt: skip
    info = read_model_info(read_metadata(onnx.load("x.onnx")), "x.onnx")
    assert info is not None
    assert (info.input_hw, info.batch, info.input_form, info.output_form) == ((64, 96), None, "image", "nms")
    assert (info.precision, info.class_names) == ("float16", ("a", "b", "c"))
    assert info.nms is not None
    assert (info.nms.score_threshold, info.nms.max_detections, info.nms.candidates) == (0.4, 600, 600)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"imgsz": "big"}, "imgsz: is not a size: expected a side or .height, width., in pixels, got 'big'"),
        ({"imgsz": (64, 64, 64)}, "imgsz: is not a size"),
        ({"imgsz": 0}, "imgsz: is not a size"),
        ({"batch": 0}, "batch: is not a batch size: expected 1 or more, got 0"),
        ({"batch": "two"}, "batch: is not a batch size"),
        ({"precision": "fp4"}, "precision: there is no such precision: expected float32, float16"),
        ({"precision": "int8"}, "calibrate: int8 needs images like those in production; name a folder"),
        ({"max_drop": 0.1}, "max_drop: has no effect: it is for the precisions int8 and float8: got float32"),
        ({"score_threshold": 0.1}, "score_threshold: has no effect, because there is no NMS in the graph"),
        ({"output_form": "nms", "iou_threshold": 2}, "iou_threshold: .* expected a number from 0 to 1, got 2"),
        ({"precision": "int8", "calibrate": "photos", "labels": "nowhere"}, "nowhere: there is no such folder"),
        ({"model": 7}, "model: is not a file's name: got int"),
        ({"output": "-"}, "output: is not a file: got '-'; give /dev/stdout"),
        ({"model": "missing.pt"}, "missing.pt: no such file"),
        ({"input_form": "rgb"}, "rgb"),
        ({"class_names": 3}, "class_names: wrong type: expected a sequence of names, got 3"),
        ({"class_names": "abc"}, "class_names: wrong type: expected a sequence of names, got 'abc'"),
        ({"aliases": "ab"}, "aliases: wrong type: expected a mapping from class paths to class paths, got 'ab'"),
        ({"aliases": {1: 2}}, "aliases: wrong type"),
        ({"protected": "x.onnx"}, "protected: wrong type: expected a sequence of files, got 'x.onnx'"),
        ({"calibrate": 3}, "calibrate: wrong type: expected files, folders and patterns, got 3"),
        ({"precision": "int8", "calibrate": "p", "labels": 3}, "labels: is not a file's name: got int"),
        ({"precision": "int8", "calibrate": "p", "calibrator": "x"}, "calibrator: no such choice: .* got 'x'"),
        ({"precision": "int8", "calibrate": "p", "placement": "x"}, "placement: no such choice: .* got 'x'"),
        ({"precision": "int8", "calibrate": "p", "other_layers": 8}, "other_layers: no such choice: .* got 8"),
        ({"precision": "int8", "calibrate": "p", "max_drop": "a"}, "max_drop: out of range: .* got 'a'"),
        ({"output_form": "boxes"}, "boxes"),
        ({"output_form": ["nms"]}, "output_form: is not an output form"),
    ],
)
def test_a_wrong_argument_is_an_input_error_and_nothing_is_written(
    best: Path, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        yoloship.export(**{"model": best, **arguments})
    assert [path.name for path in Path().iterdir()] == ["best.pt"]


def test_what_is_not_a_checkpoint_is_a_checkpoint_error() -> None:
    Path("notes.pt").write_text("hello\n")
    with pytest.raises(CheckpointError, match=r"notes.pt: is a text file, not a checkpoint"):
        yoloship.export("notes.pt")


def test_no_file_is_replaced_unless_it_may_be(best: Path) -> None:
    Path("best.onnx").write_bytes(b"mine")
    with pytest.raises(OutputError, match="already exists"):
        yoloship.export(best)
    with pytest.raises(OutputError, match="would replace an input"):
        yoloship.export(best, best, overwrite=True)
    with pytest.raises(OutputError, match="would replace an input"):
        yoloship.export(best, overwrite=True, protected=[Path("best.onnx")])
    assert Path("best.onnx").read_bytes() == b"mine"
    yoloship.export(best, overwrite=True)
    onnx.load("best.onnx")


def test_notes_are_logged_unless_somebody_takes_them(best: Path, caplog: pytest.LogCaptureFixture) -> None:
    notes: list[str] = []
    with caplog.at_level(logging.INFO, "yoloship"):
        yoloship.export(best, "a.onnx", imgsz=64, precision="bfloat16", on_note=notes.append)
        assert any(note.startswith("note: it does not run on this CPU: ") for note in notes)
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        yoloship.export(best, "b.onnx", imgsz=64, precision="bfloat16")
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warned == notes
    assert any("exported best.pt to a.onnx in " in record.getMessage() for record in caplog.records)


def test_progress_can_be_followed_and_stops_the_work(best: Path, tmp_path: Path) -> None:
    import cv2

    (tmp_path / "photos").mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(f"photos/{index}.png", noise)
    steps: list[str] = []

    class StopError(Exception):
        pass

    def follow(what: str, done: float = 0, total: float = 0) -> None:
        steps.append(what)
        if len(steps) == 3:
            raise StopError

    with pytest.raises(StopError):
        yoloship.export(
            best, imgsz=64, precision="int8", calibrate="photos", max_drop=1, on_progress=follow, on_note=print
        )
    assert len(steps) == 3
    assert not Path("best.onnx").exists()


def test_every_error_is_one_of_ours(best: Path) -> None:
    with pytest.raises(YoloshipError):
        yoloship.export(best, "no/such/folder.onnx")
