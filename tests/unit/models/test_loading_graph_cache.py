from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from yoloship._util import cache as util
from yoloship.models.loading import cached_graph

KEY = ("0" * 64, (640, 640), 1)


class Builder:
    """Counts how often it had to build."""

    def __init__(self, data: bytes = b"a graph") -> None:
        self.data = data
        self.count = 0

    def __call__(self) -> bytes:
        self.count += 1
        return self.data


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_graph_is_built_once(cache: Path) -> None:
    build = Builder()
    assert cached_graph(KEY, build) == cached_graph(KEY, build) == b"a graph"
    assert build.count == 1
    (path,) = (cache / "graphs").iterdir()
    assert re.fullmatch(r"[0-9a-f]{32}-[0-9a-f]{32}\.onnx", path.name)
    assert path.read_bytes() == b"a graph"


def test_another_key_is_another_graph(cache: Path) -> None:
    cached_graph(KEY, Builder())
    other = Builder(b"another")
    assert cached_graph((*KEY[:2], 2), other) == b"another"
    assert other.count == 1


@pytest.mark.parametrize("damage", [b"", b"a grap", b"a graph!", b"A graph"])
def test_a_damaged_graph_is_built_again_without_a_word(cache: Path, damage: bytes) -> None:
    build = Builder()
    cached_graph(KEY, build)
    (path,) = (cache / "graphs").iterdir()
    path.write_bytes(damage)
    assert cached_graph(KEY, build) == b"a graph"
    assert build.count == 2
    cached_graph(KEY, build)
    assert build.count == 2


def test_another_version_of_the_code_builds_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder()
    cached_graph(KEY, build)
    monkeypatch.setattr("yoloship.models.loading.__version__", "999")
    cached_graph(KEY, build)
    assert build.count == 2


def test_a_cache_that_cannot_be_written_costs_time_and_no_error(cache: Path) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_bytes(b"a file where the folder should be")
    build = Builder()
    assert cached_graph(KEY, build) == b"a graph"
    assert cached_graph(KEY, build) == b"a graph"
    assert build.count == 2


def test_the_graphs_that_were_not_used_for_longest_make_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {**util._RULES, "graphs": replace(util._RULES["graphs"], limit_bytes=3 * len(b"a graph"))}
    monkeypatch.setattr(util, "_RULES", rules)
    first, second, third, fourth = (Builder() for _ in range(4))
    known: set[Path] = set()
    for age, build in ((30, first), (20, second), (10, third)):
        cached_graph((age,), build)
        (path,) = set((cache / "graphs").iterdir()) - known
        known.add(path)
        os.utime(path, (time.time() - age, time.time() - age))
    cached_graph((30,), first)
    cached_graph((0,), fourth)
    cached_graph((30,), first)
    cached_graph((10,), third)
    assert (first.count, second.count, third.count) == (1, 1, 1)
    cached_graph((20,), second)
    assert second.count == 2


def planted(cache: Path) -> Path:
    """A graph of another network, under the name that the next run looks for."""
    cached_graph(KEY, Builder(b"ours"))
    (path,) = (cache / "graphs").iterdir()
    evil = b"somebody else's"
    path.unlink()
    path = path.with_name(f"{path.name[:33]}{hashlib.sha256(evil).hexdigest()[:32]}.onnx")
    path.write_bytes(evil)
    path.chmod(0o600)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps users apart by other means")
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_graph_in_a_folder_that_others_can_write_to_is_not_used_and_said(
    cache: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = planted(cache)
    path.parent.chmod(mode)
    assert cached_graph(KEY, Builder()) == b"a graph"
    assert f"{path.parent}: can be changed by other users, so it is not used as a cache" in caplog.text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps users apart by other means")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_graph_that_others_can_write_to_is_built_again(
    cache: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = planted(cache)
    path.chmod(mode)
    build = Builder()
    assert cached_graph(KEY, build) == b"a graph"
    assert f"{path}: can be changed by other users" in caplog.text
    assert cached_graph(KEY, build) == b"a graph"
    assert build.count == 1
    (kept,) = path.parent.iterdir()
    assert kept.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps users apart by other means")
@pytest.mark.parametrize("target", ["folder", "file"])
def test_what_belongs_to_another_user_is_not_used(
    cache: Path, target: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = planted(cache)
    place = path.parent if target == "folder" else path
    if os.geteuid() != 0:
        somebody = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: somebody)
        place = path.parent  # the folder is asked first
    else:
        os.chown(place, 12345, -1)
    assert cached_graph(KEY, Builder()) == b"a graph"
    assert f"{place}: belongs to another user" in caplog.text


def test_what_is_no_file_is_not_read(cache: Path) -> None:
    path = planted(cache)
    path.unlink()
    path.mkdir()
    assert cached_graph(KEY, Builder()) == b"a graph"
    if hasattr(os, "mkfifo"):
        path.rmdir()
        os.mkfifo(path)
        assert cached_graph(KEY, Builder()) == b"a graph"


def test_a_graph_that_another_process_lets_go_is_no_matter(cache: Path) -> None:
    """What is handed out are the bytes that were checked."""
    cached_graph(KEY, Builder())
    graph = cached_graph(KEY, Builder())
    for path in (cache / "graphs").iterdir():
        path.unlink()
    assert graph == b"a graph"


def test_a_changed_module_builds_again_and_an_unchanged_one_is_not_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    for name in ("checkpoint", "graph/passes", "_util", "models"):
        (package / name).mkdir(parents=True)
    module = package / "graph" / "blocks.py"
    module.write_text("A = 1")
    stamp = module.stat().st_mtime_ns
    monkeypatch.setattr("yoloship.models.loading.__file__", str(package / "models" / "loading.py"))
    build = Builder()
    cached_graph(KEY, build)
    module.write_text("A = 2")  # of the same size and time: it is told by these, and not read
    os.utime(module, ns=(1, stamp))
    cached_graph(KEY, build)
    assert build.count == 1
    os.utime(module, ns=(1, stamp + 1))
    cached_graph(KEY, build)
    assert build.count == 2
    (package / "checkpoint" / "new.py").write_text("")
    cached_graph(KEY, build)
    assert build.count == 3
    (package / "graph" / "families").mkdir()
    (package / "graph" / "families" / "new.py").write_text("")
    cached_graph(KEY, build)
    assert build.count == 4


def test_another_onnx_builds_again(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build = Builder()
    cached_graph(KEY, build)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "__init__.py").write_text("")
    (tmp_path / "onnx" / "version.py").write_text("version = '99'")
    spec = importlib.util.spec_from_file_location("onnx", tmp_path / "onnx" / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    cached_graph(KEY, build)
    assert build.count == 2
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    cached_graph(KEY, build)
    assert build.count == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps users apart by other means")
def test_what_is_said_of_a_folder_cannot_steer_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "a\x1b[2Jb"))
    (tmp_path / "a\x1b[2Jb" / "graphs").mkdir(parents=True)
    (tmp_path / "a\x1b[2Jb" / "graphs").chmod(0o777)
    assert cached_graph(KEY, Builder()) == b"a graph"
    assert "\x1b" not in caplog.text
    assert r"a\x1b[2Jb" in caplog.text
