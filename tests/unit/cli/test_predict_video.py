"""`yoloship predict` on videos: what is written, drawn and printed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import yoloship
from helpers.cli import run
from helpers.models import finds_a_cat
from helpers.videos import TIMES_MS, Clip, packets_of, read_back, scene, write_clip


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    Path("cat.onnx").write_bytes(finds_a_cat((64, 96)).SerializeToString())
    return write_clip(tmp_path / "clip.mp4", Clip(audio="aac"))


def records() -> list[dict[str, object]]:
    return [json.loads(line) for line in Path("found.jsonl").read_text().splitlines()]


def test_a_video_is_drawn_into_a_video_and_each_frame_has_a_record_with_its_time() -> None:
    cv2.imwrite("photo.png", np.full((64, 96, 3), 90, np.uint8))
    ran = run("predict", "cat.onnx", "clip.mp4", "photo.png", "-o", "out", "--jsonl", "found.jsonl")
    assert (ran.code, ran.err) == (0, "")
    assert sorted(path.name for path in Path("out").iterdir() if not path.name.startswith(".")) == [
        "clip.mp4", "photo.jpg",
    ]  # fmt: skip
    found, whole = read_back(Path("out/clip.mp4")), read_back(Path("clip.mp4"))
    assert (found.times, found.audio) == (whole.times, whole.audio)
    drawn = np.abs(found.images[3].astype(int) - whole.images[3])
    assert drawn[14:16, 10:50].mean() > 20, "the upper edge of the box"
    assert drawn[50:, 60:].mean() < 6
    frames = records()[:12]
    assert [record["time_s"] for record in frames] == [time / 1000 for time in TIMES_MS]
    assert [record["index"] for record in frames] == list(range(12))
    assert {(record["input"], record["annotated"]) for record in frames} == {("clip.mp4", str(Path("out/clip.mp4")))}


def test_a_stride_takes_every_nth_frame() -> None:
    ran = run("predict", "cat.onnx", "clip.mp4", "-o", "out", "--jsonl", "found.jsonl", "--vid-stride", "4")
    assert (ran.code, ran.err) == (0, "")
    assert [record["index"] for record in records()] == [0, 4, 8]
    whole = read_back(Path("clip.mp4")).times
    assert read_back(Path("out/clip.mp4")).times == whole[::4]
    assert run("predict", "cat.onnx", "clip.mp4", "--vid-stride", "0").code == 2


def test_a_damaged_frame_is_one_line_and_the_exit_code_says_so() -> None:
    data = bytearray(Path("clip.mp4").read_bytes())
    at, size = packets_of(Path("clip.mp4"))[5]
    data[at : at + size] = bytes(size)
    Path("clip.mp4").write_bytes(data)
    ran = run("predict", "cat.onnx", "clip.mp4", "--no-draw", "--jsonl", "found.jsonl")
    first, last = ran.err.splitlines()
    assert ran.code == 1
    assert first.startswith("error: clip.mp4#")
    assert "frame is damaged" in first
    assert last == "error: 1 of 12 images failed"
    assert len(records()) == 12


def test_a_video_that_would_be_replaced_is_said_once_and_the_rest_is_written() -> None:
    Path("out").mkdir()
    Path("out/clip.mp4").write_bytes(b"mine")
    ran = run("predict", "cat.onnx", "clip.mp4", "-o", "out", "--jsonl", "found.jsonl")
    assert ran.code == 1
    assert ran.err.splitlines() == [
        f"error: {Path('out/clip.mp4')}: already exists; give another name, or --overwrite",
        "error: 1 of 12 images failed",
    ]
    assert Path("out/clip.mp4").read_bytes() == b"mine"
    assert len(records()) == 12


def test_without_pyav_a_video_is_refused_before_the_run_unless_it_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("yoloship.sources.video.has_pyav", lambda: False)
    ran = run("predict", "cat.onnx", "clip.mp4", "--jsonl", "found.jsonl")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "error: writing annotated videos: needs PyAV; pip install 'yoloship[video]', or give --no-draw\n"
    )
    assert not Path("found.jsonl").exists()
    ran = run("predict", "cat.onnx", "clip.mp4", "--jsonl", "found.jsonl", "--no-draw")
    assert ran.code == 0
    assert len(records()) == 12


def test_the_video_itself_is_never_replaced() -> None:
    before = Path("clip.mp4").read_bytes()
    ran = run("predict", "cat.onnx", "clip.mp4", "-o", ".", "--overwrite")
    assert ran.code == 1
    assert "clip.mp4: would replace an input" in ran.err
    assert Path("clip.mp4").read_bytes() == before


def test_no_output_replaces_a_video_that_comes_later() -> None:
    write_clip(Path("a/clip.mp4"), Clip(times_ms=(0, 40)))
    before = Path("clip.mp4").read_bytes()
    for outputs in (("-o", "."), ("--no-draw", "--json", "clip.mp4")):
        ran = run("predict", "cat.onnx", "a/clip.mp4", "clip.mp4", *outputs, "--overwrite")
        assert ran.code == 1
        assert "clip.mp4: would replace an input" in ran.err
        assert Path("clip.mp4").read_bytes() == before


def test_standard_input_may_be_a_stream_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images = b"".join(cv2.imencode(".jpg", scene(index, (96, 64)))[1].tobytes() for index in range(3))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(images)))
    ran = run("predict", "cat.onnx", "-", "-o", "out", "--jsonl", "found.jsonl")
    assert (ran.code, ran.err) == (0, "warning: stdin: MJPEG has no times, so 25 frames a second are assumed\n")
    assert [(record["input"], record["time_s"]) for record in records()] == [
        ("stdin", 0),
        ("stdin", 0.04),
        ("stdin", 0.08),
    ]
    assert [float(time) for time in read_back(Path("out/stdin.mp4")).times] == [0, 0.04, 0.08]


def test_python_streams_a_video_by_its_name() -> None:
    with yoloship.load("cat.onnx") as detector:
        outcomes = list(detector.stream("clip.mp4"))
    assert [outcome.frame.time_s for outcome in outcomes if outcome.frame is not None] == [ms / 1000 for ms in TIMES_MS]
    assert all(len(outcome.unwrap()) == 1 for outcome in outcomes)


def test_images_have_no_frames_to_leave_out() -> None:
    assert cv2.imwrite("a.png", np.zeros((64, 96, 3), np.uint8))
    ran = run("predict", "cat.onnx", "a.png", "--no-draw", "--vid-stride", "2")
    assert (ran.code, ran.out) == (2, "")
    assert "--vid-stride: only videos and cameras have frames to skip" in ran.err
    assert run("predict", "cat.onnx", "a.png", "clip.mp4", "--no-draw", "--vid-stride", "2").code == 0
