from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from helpers.cli import run
from helpers.networks import float_network

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(float_network(batch="batch").SerializeToString())
    return path


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Sequence[str]:
    """Netron's two functions, without a server and without waiting."""
    calls: list[str] = []

    def start(file: str) -> tuple[str, int]:
        calls.append(f"start {file}")
        return "localhost", 8080

    module = ModuleType("netron")
    module.__dict__.update(start=start, wait=lambda: calls.append("wait"))
    monkeypatch.setitem(sys.modules, "netron", module)
    return calls


def test_an_onnx_file_says_what_an_image_costs(small: Path) -> None:
    data = json.loads(run("inspect", small, "--json").out)
    assert data["figures_hw"] == [32, 32]
    assert data["gflops"] == round(2 * 8 * 3 * 9 * 32 * 32 / 1e9, 3)
    assert data["activation_bytes_at_once"] == 2 * 8 * 32 * 32 * 4
    assert data["activations_of_unknown_size"] == 0
    shown = run("inspect", small).out
    assert "arithmetic               0.000 GFLOPs at 32×32\n" in shown
    assert "about 0.1 MB at once, estimated\n" in shown


def test_an_onnx_file_is_opened_to_see_what_it_is_and_read_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    system_open = os.open

    def count(path: Any, *rest: Any) -> int:
        opened.append(str(path))
        return system_open(path, *rest)

    monkeypatch.setattr("yoloship._util.reading.os.open", count)
    assert json.loads(run("inspect", small, "--json").out)["kind"] == "onnx"
    assert opened == [str(small)] * 2


def test_a_graph_is_opened_in_netron_after_it_was_described(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(monkeypatch)
    ran = run("inspect", small, "--netron", "--json")
    assert json.loads(ran.out)["kind"] == "onnx"
    assert ran.err == f"Netron shows {small} at http://localhost:8080; Ctrl-C ends it\n"
    assert calls == [f"start {small}", "wait"]


def test_netron_that_is_not_installed_is_named_before_anything_is_printed(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "netron", None)
    ran = run("inspect", small, "--netron")
    assert ran.error == "netron: is not installed; pip install netron"
    assert not ran.out


def test_netron_is_for_onnx_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(monkeypatch)
    path = tmp_path / "best.pt"
    path.write_bytes(b"PK\x03\x04")
    ran = run("inspect", path, "--netron")
    assert ran.code == 2
    assert "--netron is for ONNX files" in ran.err
    assert not calls
