"""What the engine room says on a machine with an NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.networks import float_network, require_rtx
from yoloship.cuda.device import find_gpu, find_gpus
from yoloship.doctor import run_trial
from yoloship.engine import build_engine, inspect_engine, open_flavour, write_engine

pytestmark = pytest.mark.gpu


def test_the_driver_shows_the_gpu_with_its_compute_capability() -> None:
    device = find_gpu()
    assert device is not None
    assert device in find_gpus()
    assert device.name.startswith("NVIDIA")
    assert device.compute_capability >= (5, 0)
    assert device.memory_bytes > 1 << 30
    assert device.cuda_version >= (11, 0)


def test_a_portable_engine_is_loaded_or_refused_by_the_rules(tmp_path: Path) -> None:
    require_rtx()
    device = find_gpu()
    assert device is not None
    onnx = tmp_path / "small.onnx"
    onnx.write_bytes(float_network().SerializeToString())
    path = tmp_path / "small.engine"
    write_engine(path, build_engine(onnx, flavour=open_flavour("rtx")), source_name="small.onnx", model=None)
    facts = inspect_engine(path)
    if device.compute_capability in {(8, 6), (8, 9)} or device.compute_capability >= (12, 0):
        assert facts.not_loaded is None
        assert facts.loaded is not None
        assert [tensor.name for tensor in facts.loaded.tensors] == ["images", "output0"]
    else:
        assert facts.not_loaded is not None
        assert "was built for another GPU" in facts.not_loaded


def test_the_doctor_survives_trying_every_flavour() -> None:
    for trial in ("run_rtx", "run_tensorrt", "run_lean"):
        result = run_trial(trial)
        assert result.works or result.problem
