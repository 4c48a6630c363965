"""What builds leave behind that meet one another, are killed, or find no space: whole pairs of files, or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.cli import run
from helpers.networks import float_network, require_rtx
from yoloship.engine import read_engine

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.only_rtx


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    require_rtx()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    Path("small.onnx").write_bytes(float_network().SerializeToString())
    return tmp_path


def started(*options: str, most_bytes: int | None = None) -> subprocess.Popen[str]:
    code = "import resource, sys; "
    if most_bytes is not None:
        code += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes},) * 2); "
    code += "from yoloship.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "build", "small.onnx", "-o", "best.engine", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def files() -> set[str]:
    return {path.name for path in Path().iterdir()} - {"tmp", "small.onnx"}


def test_two_builds_of_one_name_leave_the_pair_of_one_of_them() -> None:
    builds = [started("--overwrite", "--target", target) for target in ("portable", "8.9")]
    for build in builds:
        build.communicate()
    assert [build.returncode for build in builds] == [0, 0]
    record = read_engine(Path("best.engine")).record
    assert record is not None
    assert record.config.targets in {("portable",), ("sm89",)}
    assert files() == {"best.engine", "best.engine.json"}


def test_a_build_that_finds_no_space_leaves_the_earlier_pair() -> None:
    assert run("build", "small.onnx", "-o", "best.engine").code == 0
    before = {name: Path(name).read_bytes() for name in files()}
    build = started("--overwrite", most_bytes=len(before["best.engine"]) - 1)  # the last byte does not fit
    assert build.communicate()[1] == "error: best.engine: cannot be written: File too large; free some space\n"
    assert build.returncode == 1
    assert {name: Path(name).read_bytes() for name in files()} == before
    assert list(Path("tmp").iterdir()) == []


@pytest.mark.parametrize(("number", "after_s"), [(signal.SIGINT, 0.7), (signal.SIGKILL, 0.6), (signal.SIGKILL, 0.9)])
def test_a_build_that_is_ended_leaves_a_whole_pair_or_nothing_with_a_name(
    number: signal.Signals, after_s: float
) -> None:
    build = started()
    time.sleep(after_s)
    os.kill(build.pid, number)
    build.communicate()
    named = {name for name in files() if not name.startswith(".")}
    assert named in ({"best.engine", "best.engine.json"}, set())
    if number == signal.SIGINT:
        assert files() == named
        assert list(Path("tmp").iterdir()) == []
    assert run("build", "small.onnx", "-o", "best.engine", "--overwrite").code == 0  # nothing is in the way of the next
    assert read_engine(Path("best.engine")).record is not None
