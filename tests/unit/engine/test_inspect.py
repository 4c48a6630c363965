"""What an engine says: from its files, and through a stand-in for what only a GPU can run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.engine_records import HERE, MODEL, plan_bytes, record_of, write
from yoloship.engine import Flavour, Installation, inspect_engine
from yoloship.engine import inspect as inspecting
from yoloship.engine.inspect import LoadedLayer, LoadedTensor, load_facts, other_precision, read_layers
from yoloship.errors import EngineError

PLAN = plan_bytes()
LAYERS = {
    "Layers": [
        {
            "Name": "conv",
            "LayerType": "CaskConvolution",
            "Outputs": [{"Name": "m", "Format/Datatype": "Row major FP16"}],
        },
        {"Name": "cast", "LayerType": "Reformat", "Outputs": [{"Name": "o", "Datatype": "FP32"}]},
        "a name alone",
        {"Name": "odd", "Outputs": 3},
    ]
}


class Logger:
    def __init__(self) -> None:
        return


class Engine:
    num_io_tensors = 2
    num_optimization_profiles = 1
    device_memory_size_v2 = 4096

    def get_tensor_name(self, index: int) -> str:
        return ("images", "output0")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == "images" else "OUTPUT"

    def get_tensor_shape(self, _name: str) -> tuple[int, ...]:
        return (-1, 3, 640, 640)

    def get_tensor_dtype(self, _name: str) -> Any:
        return SimpleNamespace(name="HALF")

    def get_tensor_profile_shape(self, _name: str, _number: int) -> list[tuple[int, ...]]:
        return [(1, 3, 640, 640), (4, 3, 640, 640), (8, 3, 640, 640)]

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=lambda _format: json.dumps(LAYERS))


def flavour_of(engine: Engine | None) -> Flavour:
    class Runtime:
        def __init__(self, logger: object) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, _plan: memoryview) -> Engine | None:
            return engine

    module = SimpleNamespace(
        ILogger=Logger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="INPUT"),
        LayerInformationFormat=SimpleNamespace(JSON="JSON"),
    )
    return Flavour("rtx", "1.7.1.116", _hashable(module))


def _hashable(namespace: SimpleNamespace) -> Any:
    return type("module", (), vars(namespace))


def test_a_loaded_engine_tells_tensors_profiles_and_layers_with_their_precision() -> None:
    loaded = load_facts(flavour_of(Engine()), memoryview(PLAN), subject="best.engine")
    assert loaded.tensors == (
        LoadedTensor(
            "images",
            True,
            "float16",
            (-1, 3, 640, 640),
            (((1, 3, 640, 640), (4, 3, 640, 640), (8, 3, 640, 640)),),
        ),
        LoadedTensor("output0", False, "float16", (-1, 3, 640, 640), ()),
    )
    assert loaded.layers[0] == LoadedLayer("conv", "CaskConvolution", "Row major FP16")
    assert loaded.device_memory_bytes == 4096


def test_an_engine_that_tensorrt_does_not_load_is_an_error() -> None:
    with pytest.raises(EngineError, match=r"best\.engine: TensorRT does not load it: no reason given"):
        load_facts(flavour_of(None), memoryview(PLAN), subject="best.engine")


def test_layers_of_any_text_are_read_or_none() -> None:
    assert [layer.name for layer in read_layers(json.dumps(LAYERS))] == ["conv", "cast", "a name alone", "odd"]
    assert read_layers(json.dumps(LAYERS))[1].precision == "FP32"
    for text in ("", "[]", "{}", '{"Layers": 3}', "[" * 100_000):
        assert read_layers(text) == ()


def test_without_a_gpu_the_sidecar_speaks_and_the_reason_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "best.engine", PLAN, record_of(PLAN))
    facts = inspect_engine(path, installation=Installation(HERE.versions, None))
    assert facts.loaded is None
    assert facts.not_loaded is not None
    assert "needs an NVIDIA GPU" in facts.not_loaded
    assert facts.tensor_lines == (
        ("input", "images float32(batch, 3, 640, 640)"),
        ("output", "output0 float32(batch, 25200, 7)"),
    )
    data = facts.to_dict()
    assert data["model"]["class_names"] == list(MODEL.class_names)
    assert json.loads(json.dumps(data))["sidecar"]["inputs"][0]["shape"] == ["batch", 3, 640, 640]


def test_with_a_gpu_tensorrt_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "open_flavour", lambda _name, to_build: flavour_of(Engine()))
    path = write(tmp_path / "best.engine", PLAN, record_of(PLAN))
    facts = inspect_engine(path, installation=HERE)
    assert facts.not_loaded is None
    assert facts.tensor_lines[0] == ("input", "images float16(-1, 3, 640, 640)")


def test_a_plain_plan_has_no_tensors_to_tell(tmp_path: Path) -> None:
    path = write(tmp_path / "best.engine", PLAN, None)
    assert inspect_engine(path, installation=Installation(HERE.versions, None)).tensor_lines == ()


@pytest.mark.parametrize(
    ("precision", "taken"),
    [("float16", "Half"), ("float16", "FP16"), ("bfloat16", "BFloat16"), ("int8", "Int8"), ("float8", "FP8")],
)
def test_layers_whose_weights_are_of_another_type_did_not_take_the_precision(precision: str, taken: str) -> None:
    entries = [
        {"Name": "a", "LayerType": "conv", "Weights": {"Type": taken, "Count": 9}},
        {"Name": "b", "LayerType": "conv", "Weights": {"Type": "Float", "Count": 9}},
        {"Name": "c", "LayerType": "Reformat"},
        {"Name": "d", "Weights": 3},
    ]
    layers = read_layers(json.dumps({"Layers": entries}))
    others, told = other_precision(layers, precision)
    assert ([layer.name for layer in others], told) == (["b"], 2)
    assert other_precision(layers, "float32") == ((), 2)
