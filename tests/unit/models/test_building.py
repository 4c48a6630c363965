from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import yoloship
from helpers.networks import float_network, require_rtx
from helpers.shared import TRAINED, listed, require
from yoloship.engine import open_flavour
from yoloship.engine.network import parse_network
from yoloship.errors import CheckpointError, EngineError, GraphError, InputError
from yoloship.graph import GraphConfig
from yoloship.models import building


def test_a_size_that_is_no_multiple_of_the_stride_is_refused_before_tensorrt() -> None:
    require_rtx()
    path = require(listed(TRAINED, "*.pt")[0])
    with pytest.raises(InputError, match="input size is not a multiple of 32"):
        building.build(path, graph=GraphConfig(input_hw=(640, 650)))


def test_a_file_that_is_neither_is_refused(tmp_path: Path) -> None:
    require_rtx()
    for name, data, error in (
        ("a.onnx", b"", GraphError),
        ("a.pt", b"PK\x03\x04" + bytes(40), CheckpointError),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(error):
            building.build(tmp_path / name)
    with pytest.raises(InputError, match=r"none\.onnx: no such file"):
        building.build(tmp_path / "none.onnx")


def test_a_file_that_changes_between_its_check_and_its_parsing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_rtx()
    path = tmp_path / "small.onnx"
    path.write_bytes(float_network().SerializeToString())

    def exchange(flavour: Any, builder: Any, logger: Any, onnx: Path, messages: Any) -> Any:
        network = parse_network(flavour, builder, logger, onnx, messages)
        onnx.write_bytes(float_network(batch="batch").SerializeToString())
        return network

    monkeypatch.setattr("yoloship.engine.builder.parse_network", exchange)
    with pytest.raises(EngineError, match=r"small\.onnx: was changed while it was being read"):
        building.build(path)
    monkeypatch.undo()
    with building.build_source(path) as source:
        path.write_bytes(float_network().SerializeToString())
        with pytest.raises(EngineError, match="was changed while it was being read"):
            building.build_prepared(source, None, open_flavour("rtx"))


def test_the_graph_that_a_killed_build_left_is_removed_by_the_next_and_one_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    checkpoint = Path(yoloship.__file__).parent / "demo" / "codes-yolov5n.pt"
    left = tmp_path / "yoloship-build-killed"
    with building.build_source(checkpoint, graph=GraphConfig()) as running:
        onnx = running.file.path
        assert onnx.stat().st_size > 1_000_000
        shutil.copytree(onnx.parent, left)
        for path in (onnx, *left.iterdir()):
            os.utime(path, (0, 0))
        with building.build_source(checkpoint, graph=GraphConfig()):
            assert onnx.exists()
            assert not left.exists()
    assert list(tmp_path.iterdir()) == []
