from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from yoloship.pipeline.cache import cached_graph

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


def content(graph: Path | bytes) -> bytes:
    return graph if isinstance(graph, bytes) else graph.read_bytes()


def test_a_graph_is_built_once(cache: Path) -> None:
    build = Builder()
    first, second = cached_graph(KEY, build), cached_graph(KEY, build)
    assert build.count == 1
    assert first == second
    assert content(second) == b"a graph"
    assert [path.name for path in (cache / "graphs").iterdir()] == [getattr(first, "name", "")]


def test_another_key_is_another_graph(cache: Path) -> None:
    cached_graph(KEY, Builder())
    other = Builder(b"another")
    assert content(cached_graph((*KEY[:2], 2), other)) == b"another"
    assert other.count == 1


@pytest.mark.parametrize("damage", [b"", b"a grap", b"a graph!", b"A graph"])
def test_a_damaged_graph_is_built_again_without_a_word(cache: Path, damage: bytes) -> None:
    build = Builder()
    cached_graph(KEY, build)
    (path,) = (cache / "graphs").iterdir()
    path.write_bytes(damage)
    assert content(cached_graph(KEY, build)) == b"a graph"
    assert build.count == 2
    cached_graph(KEY, build)
    assert build.count == 2


def test_another_version_of_the_code_builds_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder()
    cached_graph(KEY, build)
    monkeypatch.setattr("yoloship.pipeline.cache.__version__", "999")
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
    monkeypatch.setattr("yoloship.pipeline.cache.MAX_BYTES", 3 * len(b"a graph"))
    first, second, third, fourth = (Builder() for _ in range(4))
    for age, build in ((30, first), (20, second), (10, third)):
        path = cached_graph((age,), build)
        assert isinstance(path, Path)
        os.utime(path, (time.time() - age, time.time() - age))
    cached_graph((30,), first)
    cached_graph((0,), fourth)
    cached_graph((30,), first)
    cached_graph((10,), third)
    assert (first.count, second.count, third.count) == (1, 1, 1)
    cached_graph((20,), second)
    assert second.count == 2
