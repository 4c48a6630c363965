"""What an operator sees: nothing by default, and through `logging` what was loaded, built, kept and fetched."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

import yoloship
from helpers.cli import run
from helpers.models import finds_a_cat
from helpers.shared import GENERATED, require
from yoloship._util import cache
from yoloship._util.writing import locked
from yoloship.errors import DownloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

HW = (64, 96)


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    Path("best.pt").symlink_to(require(GENERATED / "v7-yolov5n.pt"))
    Path("cat.onnx").write_bytes(finds_a_cat(HW).SerializeToString())
    cv2.imwrite("a.png", np.full((*HW, 3), 90, np.uint8))
    return tmp_path


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, "yoloship"):
        yield caplog


def lines(log: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [record.getMessage() for record in log.records if record.name == name]


def test_the_library_is_silent_unless_the_program_asks() -> None:
    program = (
        "import yoloship, pathlib, sys\n"
        "pathlib.Path(sys.argv[1], 'cache').mkdir(mode=0o777)\n"
        "pathlib.Path(sys.argv[1], 'cache').chmod(0o777)\n"
        "with yoloship.load(sys.argv[2], imgsz=64) as detector:\n    detector('a.png')\n"
        "import logging\n"
        "assert logging.getLogger('yoloship').level == logging.NOTSET\n"
        "assert [type(one).__name__ for one in logging.getLogger('yoloship').handlers] == ['NullHandler']\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, Path.cwd(), "best.pt"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_load_says_what_it_took_and_how_long(log: pytest.LogCaptureFixture) -> None:
    yoloship.load("cat.onnx").close()
    (loaded,) = lines(log, "yoloship.models")
    assert loaded.startswith("loaded cat.onnx on onnxruntime")
    assert loaded.endswith(" s")


def test_the_cache_says_what_it_had_and_what_not(log: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        yoloship.load("best.pt", imgsz=64).close()
    missed, hit = lines(log, "yoloship.cache")
    assert missed.startswith("graphs: ")
    assert missed.endswith(" is not in the cache, so it is created")
    assert hit.endswith(".onnx is in the cache")


def test_the_cache_says_what_it_lets_go(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "graphs"
    folder.mkdir(parents=True)
    old = folder / f"{'0' * 32}-{'1' * 32}.onnx"
    old.write_bytes(b"old")
    cache.make_room("graphs", folder, 2 << 30)
    assert not old.exists()
    assert lines(log, "yoloship.cache") == [
        f"graphs: {old.stem} was removed from the cache, which may use 2048 MB",
    ]


def test_an_export_says_what_was_written(log: pytest.LogCaptureFixture) -> None:
    yoloship.export("best.pt", imgsz=64)
    (exported,) = lines(log, "yoloship.conversion")
    assert exported.startswith("exported best.pt to best.onnx in ")


def test_batches_are_counted(log: pytest.LogCaptureFixture) -> None:
    with yoloship.load("cat.onnx") as detector:
        detector.submit("a.png").result()
    assert any(line.startswith("a batch of 1 took ") for line in lines(log, "yoloship.detect"))


@pytest.mark.timeout(60)
def test_waiting_for_another_process_is_said_once(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    lock = tmp_path / "an.engine.lock"
    asked = threading.Event()

    def wait() -> None:
        with locked(lock, on_progress=lambda *_: asked.set()):
            pass

    with locked(lock):
        other = threading.Thread(target=wait)
        other.start()
        asked.wait()
    other.join()
    assert lines(log, "yoloship.files") == [f"waiting for the process that holds {lock}"]


def test_names_from_outside_are_written_so_that_they_steer_nothing(log: pytest.LogCaptureFixture) -> None:
    hostile = Path("\x1b[2J\u202egpj.onnx")
    hostile.write_bytes(Path("cat.onnx").read_bytes())
    yoloship.load(hostile).close()
    (loaded,) = lines(log, "yoloship.models")
    assert loaded.startswith(r"loaded \x1b[2J\u202egpj.onnx on ")


def test_every_logger_is_below_one(log: pytest.LogCaptureFixture) -> None:
    yoloship.load("best.pt", imgsz=64).close()
    assert {record.name.partition(".")[0] for record in log.records} == {"yoloship"}


def test_the_command_line_shows_warnings_and_what_v_asks_for() -> None:
    quiet = run("detect", "cat.onnx", "a.png", "--no-draw")
    assert (quiet.code, quiet.err) == (0, "")
    told = run("-v", "detect", "cat.onnx", "a.png", "--no-draw")
    assert told.out == quiet.out
    assert any(line.startswith("loaded cat.onnx on onnxruntime") for line in told.err.splitlines())
    assert "cache" not in told.err
    more = run("-vv", "detect", "best.pt", "a.png", "--no-draw", "--imgsz", "64")
    assert "is not in the cache, so it is created" in more.err
    assert logging.getLogger("yoloship").level == logging.NOTSET


def test_the_command_line_shows_a_cache_that_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "graphs"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    ran = run("detect", "best.pt", "a.png", "--no-draw", "--imgsz", "64")
    assert ran.code == 0
    assert f"warning: {folder}: can be changed by other users, so it is not used as a cache" in ran.err


def test_the_command_line_shows_what_is_fetched_and_under_which_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(url: str, by_hand: str) -> Iterator[bytes]:
        raise DownloadError("cannot be downloaded: no network", subject=url, hint=by_hand)

    monkeypatch.setattr("yoloship.models.releases._chunks", offline)
    ran = run("detect", "yolov5n", "a.png", "--no-draw")
    assert ran.code == 1
    notice, error = ran.err.splitlines()
    assert notice.startswith("yolov5n: downloading https://")
    assert "licence AGPL-3.0" in notice
    assert error.startswith("error: ")
