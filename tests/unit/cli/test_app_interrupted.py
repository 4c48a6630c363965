"""Runs that end early keep what they found, and leave nothing half-written."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.models import finds_a_cat
from yoloship._util import writing
from yoloship.errors import OutputError
from yoloship.images import read_image
from yoloship.sinks import annotated as images

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(120)

HW = (64, 96)
LONG = "\N{CJK UNIFIED IDEOGRAPH-5199}" * 80 + ".png"  # 244 bytes

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    model = finds_a_cat(HW)
    Path("two.onnx").write_bytes(model.SerializeToString())
    Path("in").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Path("in", name).write_bytes(png())
    return tmp_path


def png(value: int = 90) -> bytes:
    done, data = cv2.imencode(".png", np.full((*HW, 3), value, np.uint8))
    assert done
    return data.tobytes()


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "yoloship", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def records(pattern: str) -> int:
    return sum(path.read_bytes().count(b'"input"') for path in Path().glob(pattern))


@needs_pipes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")])
def test_a_run_that_is_stopped_keeps_its_results(work: Path, number: signal.Signals, word: str) -> None:
    os.mkfifo("silent.png")
    writer = os.open("silent.png", os.O_RDWR)  # the run can never get to its end
    arguments = ("detect", "two.onnx", "in/a.png", "in/b.png", "silent.png", "-o", "out", "--json", "found.json")
    with started(*arguments) as process:
        until(lambda: records("found.json.*.part") == 2, process)
        process.send_signal(number)
        out, err = process.communicate()
    os.close(writer)
    assert process.returncode == 128 + number, err
    assert err == f"found.json holds the results of 2 of 3 images\n{word}\n"
    assert [entry["input"] for entry in json.loads(Path("found.json").read_bytes())] == ["in/a.png", "in/b.png"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b.png"]
    assert "2 images, 2 objects" in out
    assert not list(work.rglob("*.part"))


@needs_pipes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_run_that_is_killed_leaves_its_results_under_another_name() -> None:
    os.mkfifo("silent.png")
    writer = os.open("silent.png", os.O_RDWR)
    with started("detect", "two.onnx", "in", "silent.png", "--no-draw", "--json", "found.json") as process:
        until(lambda: records("found.json.*.part") == 3, process)
        process.kill()
    os.close(writer)
    (part,) = Path().glob("found.json.*.part")
    assert len(json.loads(part.read_bytes())) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_dataset_that_is_stopped_leaves_nothing(work: Path) -> None:
    before = sorted(path.name for path in work.iterdir())
    with started("demo", "--dataset", "set", "--count", "100000") as process:
        until(lambda: list(work.glob(".*.part/images/*.jpg")), process)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert sorted(path.name for path in work.iterdir()) == before


@needs_pipes
def test_an_image_comes_through_a_pipe_that_the_user_names() -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(png()))
    writer.start()
    ran = run("detect", "two.onnx", "pipe", "-o", "out", "--json", "found.json")
    writer.join()
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(Path("found.json").read_bytes())[0]["annotated"] == str(Path("out/pipe.jpg"))


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system has no /dev/fd")
def test_an_image_comes_through_a_descriptor_as_shells_name_it() -> None:
    reader, writer = os.pipe()
    os.write(writer, png())
    os.close(writer)
    try:
        assert run("detect", "two.onnx", f"/dev/fd/{reader}", "--no-draw").code == 0
    finally:
        os.close(reader)


def test_an_image_that_cannot_be_written_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    write = images.write_image

    def sometimes(image: object, path: Path, *, overwrite: bool) -> None:
        if path.name == "b.png":
            raise OutputError("cannot be written: Permission denied", subject=str(path))
        write(image, path, overwrite=overwrite)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "write_image", sometimes)
    ran = run("detect", "two.onnx", "in", "-o", "out", "--json", "found.json")
    assert ran.code == 1
    assert ran.err.splitlines() == [
        f"error: {Path('out/b.png')}: cannot be written: Permission denied",
        "error: 1 of 3 images failed",
    ]
    entries = json.loads(Path("found.json").read_bytes())
    assert [len(entry["detections"]) for entry in entries] == [1, 1, 1]  # it was found, whatever came after
    assert [entry.get("error") for entry in entries] == [None, f"{Path('out/b.png')}: {DENIED}", None]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "c.png"]


DENIED = "cannot be written: Permission denied"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such shells")
@pytest.mark.parametrize("stdout", ["reader that goes away", "/dev/full"])
def test_a_stdout_that_takes_nothing_does_not_end_the_run(stdout: str) -> None:
    if stdout == "/dev/full" and not Path(stdout).exists():
        pytest.skip("this system has no /dev/full")
    for index in range(60):  # more than a table holds back
        Path("in", f"{index}.png").write_bytes(png())
    arguments = [sys.executable, "-m", "yoloship", "detect", "two.onnx", "in", "-o", "out", "--json", "found.json"]
    if stdout == "/dev/full":
        with Path(stdout).open("wb") as full:
            done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.stderr == "error: stdout: cannot be written: No space left on device\n"
    else:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writer)
        assert done.stderr == ""
    assert done.returncode == 1
    assert len(json.loads(Path("found.json").read_bytes())) == len(list(Path("out").iterdir())) == 63


def test_a_full_disk_ends_the_run_and_keeps_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    create = writing.create_part
    count = 0

    def full(path: Path, replaced: os.stat_result | None) -> int:
        nonlocal count
        count += 1
        if count == 3:  # the JSON, a.png, then b.png
            raise OSError(28, "No space left on device")
        return create(path, replaced)

    monkeypatch.setattr(writing, "create_part", full)
    monkeypatch.setattr("yoloship.sinks.text_target.create_part", full)
    ran = run("detect", "two.onnx", "in", "-o", "out", "--json", "found.json")
    assert ran.code == 1
    assert ran.err.splitlines() == [
        "found.json holds the results of 2 of 3 images",
        f"error: {Path('out/b.png')}: cannot be written: No space left on device; free some space",
    ]
    entries = json.loads(Path("found.json").read_bytes())
    assert ["error" in entry for entry in entries] == [False, True]


def test_names_of_the_longest_legal_length_are_written() -> None:
    try:
        Path("in", LONG).write_bytes(png())
    except OSError:
        pytest.skip("this file system has shorter names")
    ran = run("detect", "two.onnx", "in", "-o", "out", "--json", "found.json")
    assert (ran.code, ran.err) == (0, "")
    assert len(json.loads(Path("found.json").read_bytes())) == 4
    assert read_image(Path("out", LONG)).shape == (*HW, 3)
    assert run("detect", "two.onnx", "in/a.png", "--no-draw", "--json", f"{LONG}.json").code == 0


def test_two_runs_at_once_get_a_folder_each() -> None:
    runs = [started("detect", "two.onnx", "in") for _ in range(3)]
    ends = [process.communicate() for process in runs]
    assert [process.returncode for process in runs] == [0, 0, 0], ends
    folders = sorted(path.name for path in Path("runs").iterdir())
    assert folders == ["detect", "detect-2", "detect-3"]
    assert all(len(list(Path("runs", folder).iterdir())) == 3 for folder in folders)


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_two_runs_at_once_into_one_folder_leave_whole_images_and_nothing_else(options: tuple[str, ...]) -> None:
    runs = [started("detect", "two.onnx", "in", "-o", "out", *options) for _ in range(2)]
    ends = [process.communicate() for process in runs]
    codes = [process.returncode for process in runs]
    assert set(codes) <= {0, 1}
    assert 0 in codes
    for code, (_, said) in zip(codes, ends, strict=True):  # whoever comes second is told so
        lines = said.splitlines()
        refusal = r"error: out\S*: (already exists|is in use by another run); .*"
        assert code == 0 or re.fullmatch(refusal, lines[0]), said
        assert len(lines) == 1 or "is in use" not in said
    assert options or 1 in codes
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(path.name for path in Path("in").iterdir())
    for path in Path("out").iterdir():
        assert read_image(path).shape == read_image(Path("in", path.name)).shape


def test_an_avif_and_a_jpeg_of_one_name_do_not_swap() -> None:
    data = png(30)
    Path("in/p.gif").write_bytes(data)  # what a file is called does not matter for reading it
    Path("in/p.png").write_bytes(png(220))
    ran = run("detect", "two.onnx", "in/p.gif", "in/p.png", "-o", "out", "--json", "found.json")
    assert ran.code == 0
    entries = json.loads(Path("found.json").read_bytes())
    assert [entry["annotated"] for entry in entries] == [str(Path("out/p.jpg")), str(Path("out/p.png"))]
    Path("in/q.jpg").write_bytes(png(220))
    Path("in/q.avif").write_bytes(data)
    assert run("detect", "two.onnx", "in/q.avif", "in/q.jpg", "-o", "two", "--json", "two.json").code == 0
    entries = json.loads(Path("two.json").read_bytes())
    assert [entry["annotated"] for entry in entries] == [str(Path("two/q-2.jpg")), str(Path("two/q.jpg"))]
    assert read_image("two/q.jpg")[0, 0, 0] > 200
    assert read_image("two/q-2.jpg")[0, 0, 0] < 50
