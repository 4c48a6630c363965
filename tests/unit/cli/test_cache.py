"""`yoloship cache`: what it shows, and what it removes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from helpers.cli import run

GRAPH = f"{'0a' * 16}-{'1b' * 16}.onnx"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a graph, fetched weights, and things of the user's own beside them."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("YOLOSHIP_CACHE", str(cache))
    for kind in ("graphs", "weights"):
        (cache / kind).mkdir(parents=True, mode=0o700)
    (cache / "graphs" / GRAPH).write_bytes(bytes(2_000_000))
    (cache / "weights" / "0123456789ab-yolov5n.pt").write_bytes(bytes(500_000))
    (cache / "graphs" / "mine.onnx").write_bytes(b"mine")
    (cache / "notes.txt").write_text("mine")
    return cache


def test_it_shows_where_the_cache_is_and_what_it_holds(folder: Path) -> None:
    ran = run("cache")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == f"cache: {folder}"
    assert lines[1].split() == ["kind", "files", "size", "limit"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:7]}
    assert rows["graphs"] == ["1", "2.0", "MB", "2.15", "GB"]
    assert rows["weights"] == ["1", "0.5", "MB", "none"]
    assert rows["engines"][0] == rows["kernels"][0] == rows["compiled"][0] == "0"
    assert lines[7] == "2 files, 2.5 MB"


def test_it_removes_its_own_files_and_no_other(folder: Path) -> None:
    ran = run("cache", "--clear")
    assert ran.out.splitlines()[-1] == "removed 2 files, 2.5 MB"
    left = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert left == ["mine.onnx", "notes.txt"]
    assert run("cache").out.splitlines()[-1] == "0 files, 0.0 MB"


def test_programs_get_json(folder: Path) -> None:
    data = json.loads(run("cache", "--json").out)
    assert (data["folder"], data["cleared"]) == (str(folder), False)
    assert data["kinds"][0] == {"kind": "graphs", "files": 1, "bytes": 2_000_000, "limit": 2 << 30}
    assert json.loads(run("cache", "--clear", "--json").out)["kinds"][0]["bytes"] == 2_000_000


def test_a_cache_that_does_not_exist_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "none"))
    assert run("cache").out.splitlines()[-1] == "0 files, 0.0 MB"
    assert run("cache", "--clear").code == 0
    assert not (tmp_path / "none").exists()


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("yoloship._util.cache.cache_folder", homeless)
    assert run("cache").error == (
        "the cache: there is no home folder to keep it in; set YOLOSHIP_CACHE to a folder that you can write to"
    )


def test_a_home_folder_that_no_shell_has_filled_in_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("YOLOSHIP_CACHE", "~/mine")
    assert json.loads(run("cache", "--json").out)["folder"] == str(tmp_path / "mine")


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="XDG is Linux's")
def test_a_relative_folder_of_xdg_is_left_alone_as_its_specification_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("YOLOSHIP_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert json.loads(run("cache", "--json").out)["folder"] == str(tmp_path / ".cache" / "yoloship")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert json.loads(run("cache", "--json").out)["folder"] == str(tmp_path / "there" / "yoloship")
