from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from yoloship._util import cache

GRAPH = f"{'a' * 32}-{'b' * 32}.onnx"
ENGINE = f"{'c' * 64}.engine"
KERNEL = f"letterbox-sm90-{'d' * 32}.cubin"
WEIGHTS = f"{'e' * 12}-yolov5n.pt"
COMPILED = f"{'3' * 32}-{'4' * 32}.blob"
PART = f".{'f' * 12}.part"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path))
    for name, size in (
        (f"graphs/{GRAPH}", 10), (f"engines/{ENGINE}", 100), (f"engines/{ENGINE}.json", 5), (f"kernels/{KERNEL}", 7),
        (f"weights/{WEIGHTS}", 20), (f"compiled/{COMPILED}", 30),
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size)
    return tmp_path


def old(path: Path, size: int = 3) -> Path:
    path.write_bytes(b"x" * size)
    os.utime(path, (1, 1))
    return path


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {}, ".cache/yoloship"),
        ("linux", {"XDG_CACHE_HOME": "/elsewhere"}, "/elsewhere/yoloship"),
        ("linux", {"XDG_CACHE_HOME": "/elsewhere", "YOLOSHIP_CACHE": "/mine"}, "/mine"),
        ("darwin", {"XDG_CACHE_HOME": "/elsewhere"}, "Library/Caches/yoloship"),
        ("win32", {}, "AppData/Local/yoloship/cache"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/yoloship/cache"),
    ],
)
def test_one_rule_says_where_everything_is_kept(
    platform: str, environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("YOLOSHIP_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache.cache_folder() == tmp_path / folder
    assert [one.folder for one in cache.usage()] == [tmp_path / folder / kind for kind in cache.KINDS]


def test_a_new_folder_is_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "new"))
    before = os.umask(0)
    try:
        folder = cache.trusted_folder("kernels")
        assert folder is not None
        assert cache.write_entry("kernels", folder / KERNEL, b"code")
    finally:
        os.umask(before)
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / KERNEL).stat().st_mode & 0o777 == 0o600
    assert cache.read_entry(folder / KERNEL, 100) == b"code"
    assert cache.read_entry(folder / KERNEL, 3) is None


def test_no_home_folder_means_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("YOLOSHIP_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache.trusted_folder("graphs") is None


def test_usage_counts_entries_and_what_was_left_half_written(root: Path) -> None:
    (root / "graphs" / "notes.txt").write_bytes(b"not ours")
    (root / "graphs" / PART).write_bytes(b"four")
    found = {one.kind: (one.files, one.size_bytes) for one in cache.usage()}
    assert found == {"graphs": (2, 14), "engines": (2, 105), "kernels": (1, 7), "weights": (1, 20), "compiled": (1, 30)}
    assert cache.usage(["kernels"])[0].limit_bytes == 256 << 20


def test_clearing_removes_the_entries_and_nothing_else(root: Path, tmp_path: Path) -> None:
    mine = root / "graphs" / "my-model.onnx"
    mine.write_bytes(b"the user's own")
    folder = root / "engines" / f"{'9' * 64}.engine"
    folder.mkdir()
    precious = tmp_path / "precious.onnx"
    precious.write_bytes(b"elsewhere")
    link = root / "graphs" / f"{'1' * 32}-{'2' * 32}.onnx"
    link.symlink_to(precious)
    removed = {one.kind: (one.files, one.size_bytes) for one in cache.clear(["graphs", "engines"])}
    assert removed == {"graphs": (1, 10), "engines": (2, 105)}
    assert mine.exists()
    assert folder.is_dir()
    assert precious.read_bytes() == b"elsewhere"
    assert (root / "kernels" / KERNEL).exists()
    assert [(one.files, one.size_bytes) for one in cache.clear()] == [(0, 0), (0, 0), (1, 7), (1, 20), (1, 30)]


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is known about locks there")
def test_what_was_left_half_written_goes_and_what_is_being_written_stays(root: Path) -> None:
    stale, fresh = old(root / "graphs" / PART), root / "graphs" / f".{'0' * 12}.part"
    fresh.write_bytes(b"is being written")
    assert cache.clear(["graphs"])[0].files == 2
    assert not stale.exists()
    assert fresh.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is known about locks there")
def test_a_new_entry_removes_what_was_left_half_written(root: Path) -> None:
    stale = old(root / "graphs" / PART)
    cache.write_entry("graphs", root / "graphs" / GRAPH, b"new")
    assert not stale.exists()
    weights = old(root / "weights" / PART)
    cache.make_room("weights", root / "weights", 1 << 40)
    assert not weights.exists()
    assert (root / "weights" / WEIGHTS).exists()


def test_nothing_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "none"))
    assert sum(one.files for one in cache.usage()) == 0
    assert sum(one.files for one in cache.clear()) == 0
    assert not (tmp_path / "none").exists()


def test_a_pair_of_files_is_as_fresh_as_the_one_that_was_used_last(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine's plan is touched when it is used, and its sidecar is not."""
    folder = root / "engines"
    used, forgotten = folder / ENGINE, folder / f"{'9' * 64}.engine"
    forgotten.write_bytes(b"x" * 100)
    for path, seconds in ((used, 1000), (folder / f"{ENGINE}.json", 1), (forgotten, 500)):
        os.utime(path, (seconds, seconds))
    rule = cache._RULES["engines"]
    monkeypatch.setattr(cache, "_RULES", {**cache._RULES, "engines": cache._Rule(rule.names, 120)})
    cache.make_room("engines", folder, 10)
    assert used.exists()
    assert not forgotten.exists()
