"""A batch on a Ray cluster: what is refused before one is used."""

from __future__ import annotations

import hashlib
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from yoloship._version import __version__
from yoloship.batch.cluster import Actors, Proof, _check, _pool, _signals_kept, connected
from yoloship.batch.parts import Parts
from yoloship.batch.worker import Job
from yoloship.errors import DependencyError, InputError, YoloshipError


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"--ray: Ray is not installed; pip install 'yoloship\[ray\]'"):
        connected("auto", 0).__enter__()


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "somewhere", "http://a:1", ":1"])
def test_what_is_not_an_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="is not the address of a cluster: expected HOST:PORT or auto"):
        connected(address, 0).__enter__()


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InputError, match=rf"--ray {address}: cannot be reached: .*; check the address"):
        connected(address, 0).__enter__()


def test_the_signals_of_the_command_stay_its_own() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with _signals_kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is before


class Resources:
    def __init__(self, **has: float) -> None:
        self.cluster_resources = lambda: has


@pytest.mark.parametrize(
    ("actors", "parts", "size"),
    [
        (Actors(), 100, (8, 8)),
        (Actors(), 3, (3, 3)),
        (Actors(cpus=3), 100, (2, 2)),
        (Actors(gpus=1), 100, (2, 2)),
        (Actors(gpus=0.5), 100, (4, 4)),
        (Actors(5), 100, (5, 5)),
        (Actors(2, 30), 100, (2, 30)),
        (Actors(2, 300), 100, (2, 100)),
        (Actors(20, 30), 100, (20, 30)),
    ],
)
def test_there_are_as_many_actors_as_fit_or_as_are_asked_for(actors: Actors, parts: int, size: tuple[int, int]) -> None:
    assert _pool(Resources(CPU=8, GPU=2), actors, parts) == size


@pytest.mark.parametrize("actors", [Actors(9), Actors(cpus=9), Actors(gpus=3)])
def test_a_cluster_that_is_too_small_is_said(actors: Actors) -> None:
    with pytest.raises(InputError, match=r"--actors: the cluster is too small: .*got 8 CPU and 2 GPU; request less"):
        _pool(Resources(CPU=8, GPU=2), actors, 100)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": "0.0"}, f"another version of yoloship is installed: expected 0.0, got {__version__}; install the"),
        ({"model_sha256": "0" * 64}, "another model arrived: expected SHA-256 000000000000…, got "),
        (
            {"manifest_sha256": "0" * 64},
            "out: is not the folder of this batch here; give a folder that all nodes share",
        ),
        ({"image": "/nowhere/a.jpg"}, "/nowhere/a.jpg: does not exist here; images must be on a file system that all"),
    ],
)
def test_an_actor_checks_the_version_the_model_the_folder_and_an_image(
    tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_yoloship.json").write_bytes(b"{}")
    job = Job(str(tmp_path / "out"), Parts(1, 1, "jsonl"), "best.pt", str(tmp_path))
    right = Proof(__version__, hashlib.sha256(b"model").hexdigest(), hashlib.sha256(b"{}").hexdigest(), str(tmp_path))
    _check(job, right, b"model")
    with pytest.raises(YoloshipError) as caught:
        _check(job, replace(right, **changes), b"model")
    assert words in str(caught.value)
    (tmp_path / "out" / "_yoloship.json").unlink()
    with pytest.raises(YoloshipError, match="is not the folder of this batch here"):
        _check(job, right, b"model")
