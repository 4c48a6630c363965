"""`yoloship inspect --times`, with TensorRT's profiler, over the stand-in or the bindings with a stand-in library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import tensorrt_standin as standin
from helpers.cli import run
from helpers.device_sessions import SIDES, is_stand_in, small
from helpers.tensorrt_library.wheels import chosen
from yoloship.engine import Installation
from yoloship.engine.inspect import load_facts
from yoloship.errors import SessionError
from yoloship.runtime.layer_times import layer_times

if TYPE_CHECKING:
    from yoloship.cuda.device import Device


@pytest.fixture
def engine(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not is_stand_in(device):
        pytest.importorskip("torch")
    flavour = standin.flavour()
    there = Installation({flavour.name: flavour.version}, device.info)
    for module in ("yoloship.runtime.tensorrt", "yoloship.engine.inspect"):
        monkeypatch.setattr(f"{module}.find_installation", lambda: there)
        monkeypatch.setattr(f"{module}.open_flavour", lambda *_, **__: flavour)
    return standin.write_plan(
        tmp_path / "small.engine", small(), [{"images": SIDES}], compute_capability=device.info.sm
    )


def test_each_layer_has_a_time_and_what_the_inspector_says_of_it(engine: Path, device: Device) -> None:
    flavour = standin.flavour()
    layers = load_facts(flavour, memoryview(engine.read_bytes()), subject="engine").layers
    times = layer_times(engine, layers, runs=3, flavour=flavour)
    assert times.input_shapes == {"images": SIDES[1]}
    assert (times.runs, times.device) == (3, device.name)
    assert len(times.layers) == len(small().graph.node)
    assert {layer.name for layer in times.layers} == {layer.name for layer in layers}
    assert sum(layer.share for layer in times.layers) == pytest.approx(1)
    assert [layer.ms for layer in times.layers] == sorted((layer.ms for layer in times.layers), reverse=True)


def test_the_command_prints_a_table_and_json_and_draws(engine: Path) -> None:
    plot = engine.with_name("layers.svg")
    ran = run("inspect", engine, "--times", "--plot", plot)
    assert ran.code == 0, ran
    assert "median of 20 runs on" in ran.out
    assert plot.read_text().startswith("<svg ")
    assert "layers.svg" in run("inspect", engine, "--times", "--plot", plot).error  # it exists
    data = json.loads(run("inspect", engine, "--times", "--json").out)
    assert len(data["times"]["layers"]) == len(small().graph.node)


def test_a_profiler_that_reports_nothing_is_an_error(device: Device, tmp_path: Path) -> None:
    if not is_stand_in(device):
        pytest.importorskip("torch")
    path = standin.write_plan(tmp_path / "a.engine", small(), [{"images": SIDES}], faults=["report"])
    if chosen() is not None:
        pytest.skip("the library always reports")
    with pytest.raises(SessionError, match="TensorRT does not report its profile: there is nothing to report"):
        layer_times(path, flavour=standin.flavour())
