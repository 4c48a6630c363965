"""``--resume``: a run that is stopped anywhere and given again leaves what one whole run leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.models import finds_a_cat
from helpers.videos import write_clip
from yoloship._util import writing
from yoloship.job.log import Log

HW = (64, 96)
COUNT = 40
OUTPUTS = ("-o", "out", "--json", "found.json", "--csv", "found.csv", "--coco", "coco.json", "--txt", "labels")
COMMAND = ("detect", "two.onnx", "in", *OUTPUTS, "--resume")

PROGRAM = """
import sys
import yoloship.job.ledger as ledger
ledger.COMMIT_FRAMES = 3
from yoloship.cli import main
main()
"""
SLOW = "import time, cv2; before = cv2.imdecode; cv2.imdecode = lambda *a: (time.sleep(0.2), before(*a))[1]"
"""So that a signal comes before the end, however busy the machine is."""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("two.onnx").write_bytes(finds_a_cat(HW).SerializeToString())
    Path("in").mkdir()
    for index in range(COUNT):
        write(f"{index:02}.png", index)
    return tmp_path


def write(name: str, value: int) -> None:
    done, data = cv2.imencode(".png", np.full((*HW, 3), value, np.uint8))
    assert done
    Path("in", name).write_bytes(b"broken" if value % 13 == 5 else data.tobytes())


def outputs(folder: Path = Path()) -> dict[str, Any]:
    """Everything that a run wrote, except its log."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and inside.parts[0] not in {"in", "two.onnx", "out.resume", "whole"}:
            data = path.read_bytes()
            found[str(inside)] = json.loads(data) if path.suffix == ".json" else data
    return found


def whole() -> dict[str, Any]:
    """What one run leaves that is not stopped."""
    folder = Path("whole")
    folder.mkdir()
    (folder / "in").symlink_to(Path("in").absolute())
    (folder / "two.onnx").symlink_to(Path("two.onnx").absolute())
    arguments = [sys.executable, "-m", "yoloship", *COMMAND[:-1]]
    assert subprocess.run(arguments, cwd=folder, capture_output=True, check=False).returncode == 1
    return outputs(folder)


def records() -> int:
    part = Path("found.json.part")
    return part.read_bytes().count(b'"input"') if part.exists() else 0


def stopped_after(count: int, number: int, slow: str = "") -> tuple[int, str]:
    """Run the command, and stop it when this number of records is written; its exit code and what it said."""
    arguments = [sys.executable, "-c", slow + PROGRAM, *COMMAND]
    before = records()
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and records() - before < count:
            time.sleep(0.001)
        process.send_signal(number)
        said = process.communicate()[1]
    return process.returncode, said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_run_that_is_killed_again_and_again_leaves_what_a_whole_run_leaves() -> None:
    random = np.random.default_rng(12)
    for _ in range(10):
        stopped_after(int(random.integers(0, 12)), signal.SIGKILL)
    time.sleep(0.6)  # what a run leaves when it is killed is removed by the next one, unless it is as young as this
    assert run(*COMMAND).code == 1  # three images are broken
    assert outputs() == whole()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_how_to_go_on_and_loses_nothing(number: signal.Signals) -> None:
    code, said = stopped_after(5, number, SLOW)
    assert code == 128 + number, said
    assert "out.resume records what is done: run the same command again to continue\n" in said
    with Log.open(Path("out.resume")) as log:
        done = len(log.contents.done)
    assert done == records() >= 5  # nothing is done twice
    ran = run(*COMMAND)
    assert f"{done} images done before" in ran.err
    assert outputs() == whole()


def test_a_finished_run_has_nothing_left_and_does_new_images() -> None:
    assert run(*COMMAND).code == 1
    before = outputs()
    ran = run(*COMMAND)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"nothing left to do: {COUNT} images done before (out.resume)\nerror: 3 of {COUNT} images failed\n"
    )
    assert outputs() == before
    write("00-new.png", 0)
    ran = run(*COMMAND)
    assert ran.code == 1
    assert f"{COUNT} images done before, 3 of them failed, 1 left" in ran.err
    after = outputs()
    assert [record["input"] for record in after["found.json"]][COUNT:] == [str(Path("in/00-new.png"))]
    assert after["found.json"][:COUNT] == before["found.json"]
    assert {name for name in after if name not in before} == {"labels/00-new.txt", "out/00-new.png"}


def test_a_full_disk_is_gone_on_from_when_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    create, count = writing.create_part, 0

    def full(path: Path, replaced: os.stat_result | None) -> int:
        nonlocal count
        count += 1
        if count == 9:
            raise OSError(28, "No space left on device")
        return create(path, replaced)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "create_part", full)
        ran = run(*COMMAND)
    assert ran.code == 1
    assert "out.resume records what is done: run the same command again to continue\n" in ran.err
    assert ran.err.splitlines()[-1].endswith("cannot be written: No space left on device; free some space")
    assert run(*COMMAND).code == 1
    assert outputs() == whole()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--conf", "0.3"), "another option: expected no --conf, got --conf 0.3"),
        (("--rect",), "another option: expected no --rect, got --rect"),
        (("--txt-conf", "scores"), "another output: expected no --txt-conf, got --txt-conf scores"),
    ],
)
def test_another_command_with_the_same_log_is_refused(change: tuple[str, ...], said: str) -> None:
    run(*COMMAND)
    before = outputs()
    ran = run(*COMMAND, *change)
    assert ran.code == 1
    assert ran.err.startswith(f"error: out.resume: the run was started with {said}; give the same command, or remove")
    assert outputs() == before


def test_another_model_with_the_same_log_is_refused() -> None:
    run(*COMMAND)
    Path("two.onnx").write_bytes(finds_a_cat((64, 128)).SerializeToString())
    assert "the run was started with another model: expected SHA-256" in run(*COMMAND).err


def test_a_run_that_another_one_is_writing_is_refused() -> None:
    with Log.open(Path("out.resume")):
        ran = run(*COMMAND)
    assert ran.code == 1
    assert ran.err == "error: out.resume: is in use by another run; wait for its end\n"


@pytest.mark.parametrize("sources", [("clip.mkv",), ("in", "clip.mkv")])
def test_a_video_that_would_be_drawn_is_refused_before_there_is_a_log(sources: tuple[str, ...]) -> None:
    write_clip(Path("clip.mkv"))
    ran = run("detect", "two.onnx", *sources, "-o", "out", "--resume")
    assert ran.code == 2
    assert "--resume does not go with annotated videos, which cannot be continued: give --no-draw" in ran.err
    assert not Path("out.resume").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--json", "found.json"), "--resume needs a folder that it can continue: -o DIR, or --no-draw"),
        (("--no-draw",), "--resume needs an output to continue, such as --json FILE"),
        (("--no-draw", "--json", "-"), "--resume does not go with --json -: give it a file"),
        (("-o", "out", "--overwrite"), "--resume continues the outputs that --overwrite would replace"),
    ],
)
def test_what_cannot_be_continued_is_refused(options: tuple[str, ...], said: str) -> None:
    ran = run("detect", "two.onnx", "in", *options, "--resume")
    assert ran.code == 2
    assert said in ran.err
    assert not list(Path().glob("*.resume"))


def test_outputs_of_somebody_else_are_not_replaced_by_a_run_with_a_log() -> None:
    Path("found.json").write_text("theirs")
    for _ in range(2):
        ran = run(*COMMAND)
        assert ran.code == 1
        assert "found.json: already exists" in ran.err
    assert Path("found.json").read_text() == "theirs"
    assert not Path("out.resume").exists()


def test_a_log_and_its_outputs_can_be_moved_together(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(*COMMAND)
    (work / "moved").mkdir()
    for path in list(work.iterdir()):
        if path.name != "moved":
            path.rename(work / "moved" / path.name)
    monkeypatch.chdir(work / "moved")
    assert "nothing left to do" in run(*COMMAND).err
