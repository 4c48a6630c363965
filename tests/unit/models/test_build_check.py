from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.networks import float_network
from yoloship.engine import BuildConfig, Range
from yoloship.errors import GraphError, InputError
from yoloship.models.build_check import BuildRequest, Finding, check_source, look

if TYPE_CHECKING:
    from pathlib import Path


def request(folder: Path, config: BuildConfig | None = None) -> BuildRequest:
    source = folder / "small.onnx"
    source.write_bytes(float_network(batch="batch").SerializeToString())
    return BuildRequest(source, folder / "small.engine", config or BuildConfig(batch=Range(1, 2, 4)))


def test_what_is_found_or_raised_becomes_a_finding() -> None:
    assert look("model", lambda: "float32") == Finding("model", True, "float32")

    def fail() -> str:
        raise GraphError("is damaged", subject="a.onnx")

    assert look("model", fail) == Finding("model", False, "a.onnx: is damaged")


def test_a_fault_of_our_own_is_not_a_finding() -> None:
    def fail() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look("model", fail)


def test_the_source_is_described_and_nothing_is_written(tmp_path: Path) -> None:
    made = request(tmp_path)
    words, size_bytes = check_source(made)
    assert "float32" in words
    assert size_bytes == made.source.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_shapes_that_the_graph_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images: height is fixed in the graph: expected 32, got 64"):
        check_source(request(tmp_path, BuildConfig(batch=Range(1, 2, 4), height=Range(64, 64, 64))))
