from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.engine_records import MODEL, VERSION, plan_bytes
from yoloship._util import cache
from yoloship.engine import BuildConfig, BuiltEngine, EngineKey, Flavour, Range, cached_engine
from yoloship.engine.file import sidecar_path
from yoloship.errors import EngineError
from yoloship.model import TensorSpec

if TYPE_CHECKING:
    from yoloship.model import ModelInfo

KEY = EngineKey("ab" * 32, BuildConfig(), "rtx", VERSION, None)
PLAN = plan_bytes()

BUILDER = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
import test_file_cache
def build():
    with open({log!r}, "a") as log:
        log.write("built\\n")
    print("building", flush=True)
    sys.stdin.readline()
    return test_file_cache.built()
test_file_cache.cached_engine(Path({folder!r}), test_file_cache.KEY, build, source_name="best.onnx")
"""


def built() -> tuple[BuiltEngine, ModelInfo | None]:
    spec = TensorSpec("images", "float32", (1, 3, 640, 640))
    engine = BuiltEngine(
        PLAN, "rtx", VERSION, None, (spec,), (spec,), (), frozenset({"float32"}), "ab" * 32, BuildConfig(), (), 0.1
    )
    return engine, MODEL


def never() -> tuple[BuiltEngine, ModelInfo | None]:
    raise AssertionError("it is in the cache already")


def start(folder: Path) -> subprocess.Popen[str]:
    """A process that builds; it ends the build when it is told so by `go`."""
    tests = Path(__file__).parents[2]
    code = BUILDER.format(paths=[str(tests), str(Path(__file__).parent)], folder=str(folder), log=str(folder) + ".log")
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(worker: subprocess.Popen[str]) -> None:
    worker.communicate("go\n")
    assert worker.returncode == 0


def test_an_engine_is_built_once_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    first = cached_engine(tmp_path / "engines", KEY, built, source_name="best.onnx")
    again = cached_engine(tmp_path / "engines", KEY, never, source_name="best.onnx")
    assert bytes(first.plan) == bytes(again.plan) == PLAN
    assert again.info == MODEL


def test_the_key_is_all_that_decides_and_nothing_else() -> None:
    others = [
        replace(KEY, onnx_sha256="cd" * 32),
        replace(KEY, config=BuildConfig(batch=Range(1, 2, 3))),
        replace(KEY, flavour="tensorrt"),
        replace(KEY, version="1.8"),
        replace(KEY, device="sm89"),
    ]
    assert len({key.digest for key in [KEY, *others]}) == 6
    assert replace(KEY, config=BuildConfig(timing_cache=Path("anywhere"))).digest == KEY.digest


def test_the_gpu_counts_only_where_the_plan_is_tuned_on_it() -> None:
    rtx, full = Flavour("rtx", "1.7", None), Flavour("tensorrt", "10.9", None)
    assert EngineKey.of("ab", BuildConfig(), rtx, "sm89").device is None
    assert EngineKey.of("ab", BuildConfig(targets=("current",)), rtx, "sm89").device == "sm89"
    assert EngineKey.of("ab", BuildConfig(), full, "sm89").device == "sm89"


@pytest.mark.parametrize("harm", ["cut the plan", "change the plan", "cut the sidecar", "remove the sidecar"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, harm: str) -> None:
    path = cached_engine(tmp_path, KEY, built, source_name="best.onnx").path
    sidecar = sidecar_path(path)
    if harm == "cut the plan":
        path.write_bytes(PLAN[:-1])
    elif harm == "change the plan":
        path.write_bytes(PLAN[:-1] + b"!")
    elif harm == "cut the sidecar":
        sidecar.write_bytes(sidecar.read_bytes()[:50])
    else:
        sidecar.unlink()
    assert bytes(cached_engine(tmp_path, KEY, built, source_name="best.onnx").plan) == PLAN
    assert bytes(cached_engine(tmp_path, KEY, never, source_name="best.onnx").plan) == PLAN


def test_a_failed_build_leaves_no_entry_and_no_lock_behind(tmp_path: Path) -> None:
    def fail() -> tuple[BuiltEngine, ModelInfo | None]:
        raise EngineError("no")

    with pytest.raises(EngineError, match="no"):
        cached_engine(tmp_path, KEY, fail, source_name="best.onnx")
    assert not list(tmp_path.glob("*.engine*"))
    assert bytes(cached_engine(tmp_path, KEY, built, source_name="best.onnx").plan) == PLAN


def test_two_processes_that_want_the_same_engine_build_it_once(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    workers = [start(folder) for _ in range(2)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")  # whichever builds: the other one reads nothing
        worker.stdin.flush()
    for worker in workers:
        go(worker)
    assert Path(f"{folder}.log").read_text() == "built\n"
    assert bytes(cached_engine(folder, KEY, never, source_name="best.onnx").plan) == PLAN


def test_who_waits_for_another_process_is_told_for_how_long(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    waited: list[float] = []
    worker = start(folder)
    assert worker.stdout is not None
    worker.stdout.readline()

    def waiting(what: str, seconds: float, total: float) -> None:
        assert (what, total) == ("waiting for another process", 0)
        waited.append(seconds)
        if len(waited) == 3:
            go(worker)

    assert bytes(cached_engine(folder, KEY, never, source_name="best.onnx", on_progress=waiting).plan) == PLAN
    assert waited == sorted(waited)
    assert len(waited) >= 3


def test_what_waiting_raises_ends_the_waiting(tmp_path: Path) -> None:
    def give_up(*_: object) -> None:
        raise KeyboardInterrupt

    worker = start(tmp_path / "engines")
    assert worker.stdout is not None
    worker.stdout.readline()
    with pytest.raises(KeyboardInterrupt):
        cached_engine(tmp_path / "engines", KEY, never, source_name="best.onnx", on_progress=give_up)
    go(worker)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.timeout(120)  # of a lock that nobody gives back
def test_a_builder_that_was_killed_leaves_no_stale_lock(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    worker = start(folder)
    assert worker.stdout is not None
    worker.stdout.readline()
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    assert bytes(cached_engine(folder, KEY, built, source_name="best.onnx").plan) == PLAN


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EngineError, match="cache folder cannot be created"):
        cached_engine(tmp_path / "file" / "engines", KEY, built, source_name="best.onnx")


def test_the_command_that_builds_it_again_names_the_model(tmp_path: Path) -> None:
    found = cached_engine(tmp_path, KEY, built, source_name="best.onnx")
    assert found.record is not None
    assert found.record.source_name == "best.onnx"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps users apart by other means")
def test_an_engine_that_somebody_else_may_have_written_is_not_loaded(tmp_path: Path) -> None:
    path = cached_engine(tmp_path, KEY, built, source_name="best.onnx").path
    assert path.stat().st_mode & 0o077 == 0
    for file in (path, sidecar_path(path)):
        file.chmod(0o666)
        builds: list[int] = []

        def build(builds: list[int] = builds) -> tuple[BuiltEngine, ModelInfo | None]:
            builds.append(1)
            return built()

        cached_engine(tmp_path, KEY, build, source_name="best.onnx")
        assert builds == [1]
    tmp_path.chmod(0o777)
    with pytest.raises(EngineError, match="can be changed by other users, so engines in it cannot be trusted"):
        cached_engine(tmp_path, KEY, never, source_name="best.onnx")


def test_old_engines_make_room_for_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_engine(tmp_path, KEY, built, source_name="best.onnx").path
    os.utime(first, (1, 1))
    os.utime(sidecar_path(first), (1, 1))
    rules = {**cache._RULES, "engines": replace(cache._RULES["engines"], limit_bytes=len(PLAN))}
    monkeypatch.setattr(cache, "_RULES", rules)
    second = cached_engine(tmp_path, replace(KEY, version="1.8"), built, source_name="best.onnx").path
    assert not first.exists()
    assert not sidecar_path(first).exists()
    assert second.exists()
