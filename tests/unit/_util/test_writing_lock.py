from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.engine_records import MODEL, VERSION, plan_bytes
from yoloship._util.writing import lock_path, locked
from yoloship.engine import BuildConfig, BuiltEngine, read_engine, write_engine
from yoloship.errors import OutputError
from yoloship.model import TensorSpec

ROUNDS = 25
SPEC = TensorSpec("images", "float32", (1, 3, 640, 640))
BUILT = BuiltEngine(
    b"", "rtx", VERSION, None, (SPEC,), (SPEC,), (), frozenset({"float32"}), "ab" * 32, BuildConfig(), (), 0.1
)

WRITER = """
import os, random, sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
import test_writing_lock
os.fsync = lambda _: time.sleep(random.random() * 0.004)  # a slow disk, so that two builds do cross
for number in range(test_writing_lock.ROUNDS):
    test_writing_lock.publish(Path({path!r}), {first} + number)
"""


def publish(path: Path, number: int) -> None:
    """Write an engine that differs from that of every other number."""
    plan = plan_bytes()
    built = replace(BUILT, plan=plan[:-4] + number.to_bytes(4, "little"))
    write_engine(path, built, source_name="best.pt", model=MODEL)


def writer(path: Path, first: int) -> subprocess.Popen[bytes]:
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    return subprocess.Popen([sys.executable, "-c", WRITER.format(paths=paths, path=str(path), first=first)])


def test_two_processes_that_write_one_engine_never_leave_a_plan_with_the_sidecar_of_another(tmp_path: Path) -> None:
    path = tmp_path / "cam.engine"
    publish(path, 0)
    writers = [writer(path, first) for first in (1000, 2000)]
    while any(process.poll() is None for process in writers):
        with locked(lock_path(tmp_path / "cam.engine")):
            read_engine(path)  # raises where the two do not belong together
        time.sleep(0.01)
    assert [process.wait() for process in writers] == [0, 0]
    last = int.from_bytes(read_engine(path).plan[-4:], "little")
    assert last in {1000 + ROUNDS - 1, 2000 + ROUNDS - 1}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cam.engine", "cam.engine.json"]


def test_one_holder_at_a_time_though_each_removes_the_file(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "lock", 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            with locked(path):
                inside += 1
                most = max(most, inside)
                time.sleep(0.002)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not path.exists()


def test_a_lock_is_given_back_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(LookupError), locked(tmp_path / "lock"):
        raise LookupError
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


def test_a_lock_that_cannot_be_made_names_what_should_be_locked(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, locked(tmp_path / "none" / "lock", subject="cam.engine"):
        raise AssertionError("it was locked")
    assert str(caught.value) == (
        "cam.engine: cannot be locked: No such file or directory; check the folder and its permissions"
    )
