"""What TensorRT did not make is said in one line: the reason from its log, and what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from helpers import tensorrt_standin as standin
from helpers.networks import float_network
from yoloship.cuda.device import GpuInfo
from yoloship.engine import Flavour, build_engine, objects
from yoloship.engine.flavours import Messages
from yoloship.engine.inspect import load_facts
from yoloship.engine.objects import construct, device_memory_bytes, extents_of, hint_for, made
from yoloship.errors import EngineError

GPU = GpuInfo(0, "NVIDIA T4", (7, 5), 16 << 30, (12, 2))
NULL = "pybind11::init(): factory function returned nullptr"


def flavour_of(**members: Any) -> Flavour:
    return Flavour("tensorrt", "10.13.0.35", SimpleNamespace(**members))


def null(*_: object) -> None:
    raise TypeError(NULL)


def heard(*texts: tuple[str, str]) -> Messages:
    return Messages(list(texts))


def test_the_most_frequent_error_of_all_says_driver_reason_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "find_gpu", lambda: GPU)
    messages = heard(
        ("WARNING", "Unable to determine GPU memory usage"),
        ("ERROR", "createInferBuilder: Error Code 6: API Usage Error (CUDA initialization failure with error: 35.)"),
    )
    with pytest.raises(EngineError) as caught:
        construct(flavour_of(Builder=null), "Builder", messages, object())
    assert str(caught.value) == (
        "tensorrt 10.13.0.35: cannot make its Builder: createInferBuilder: Error Code 6: API Usage Error (CUDA "
        "initialization failure with error: 35.): got a driver for CUDA 12.2; update NVIDIA's driver, or install a "
        "TensorRT for an older CUDA, such as tensorrt-cu12"
    )


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("CUDA initialization failure with error: 2", "free memory on the GPU"),
        ("CUDA initialization failure with error: 46", "another process holds the GPU"),
        ("CUDA initialization failure with error: 100", "CUDA_VISIBLE_DEVICES"),
        ("CUDA initialization failure with error 802", "nvidia-fabricmanager"),
        ("cudaError 803", "restart the machine"),
        ("Cuda failure: 999", "restart the machine"),
        ("CUDA initialization failure with error: 7", None),
        ("nothing about codes", None),
    ],
)
def test_each_reason_has_its_remedy(said: str, hint: str | None) -> None:
    found = hint_for(said)
    assert found is None if hint is None else hint in (found or "")


def test_a_warning_is_the_reason_if_there_is_no_error_and_silence_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "find_gpu", lambda: None)
    with pytest.raises(EngineError, match=r"cannot make its network: CUDA is asleep$"):
        made(None, "network", flavour_of(), heard(("WARNING", "first"), ("WARNING", "CUDA is asleep.")))
    with pytest.raises(EngineError, match=r"no reason given \(is another logger registered in this process\?\)$"):
        made(None, "network", flavour_of(), heard())
    thing = object()
    assert made(thing, "network", flavour_of(), heard()) is thing


def test_a_mistake_in_a_call_is_not_taken_for_a_null_pointer() -> None:
    def wrong(*_: object) -> None:
        raise TypeError("__init__(): incompatible constructor arguments")

    with pytest.raises(TypeError, match="incompatible"):
        construct(flavour_of(Runtime=wrong), "Runtime", heard(), object())


def test_dims_of_length_minus_one_are_no_scalar() -> None:
    assert extents_of(standin.Dims((1, -1))) == (1, -1)
    assert extents_of(standin.Dims()) == ()
    assert extents_of(standin.UnknownDims()) is None


def test_the_memory_of_a_context_is_asked_for_by_the_name_that_the_version_has() -> None:
    assert device_memory_bytes(SimpleNamespace(device_memory_size_v2=3, device_memory_size=2)) == 3
    assert device_memory_bytes(SimpleNamespace(device_memory_size=2)) == 2
    assert device_memory_bytes(SimpleNamespace()) is None


@pytest.mark.parametrize("missing", ["Builder", "OnnxParser", "create_network", "create_builder_config"])
def test_a_build_says_what_tensorrt_did_not_make(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.engine.builder.find_gpu", lambda: GPU)
    path = tmp_path / "small.onnx"
    onnx.save(float_network(), path)

    class Builder:
        def __init__(self, _logger: object) -> None:
            if missing == "Builder":
                null()

        def create_network(self, flags: int) -> Any:
            assert flags == 1 << 5
            counts = SimpleNamespace(num_layers=1, num_inputs=1, num_outputs=1)
            return None if missing == "create_network" else counts

        def build_serialized_network(self) -> None: ...

        def create_builder_config(self) -> Any:
            return None

    class OnnxParser:
        def __init__(self, _network: object, _logger: object) -> None:
            if missing == "OnnxParser":
                null()

        def parse_from_file(self, _path: str) -> bool:
            return True

    module = type(
        "module",
        (),
        {
            "Builder": Builder,
            "OnnxParser": OnnxParser,
            "ILogger": standin.ILogger,
            "NetworkDefinitionCreationFlag": SimpleNamespace(STRONGLY_TYPED=5),  # whatever number a version has
        },
    )
    monkeypatch.setattr("yoloship.engine.builder.tensor_specs", lambda _: ((), ()))
    monkeypatch.setattr("yoloship.engine.builder.network_dtypes", lambda _: frozenset({"float32"}))
    what = {"create_network": "network", "create_builder_config": "build configuration"}.get(missing, missing)
    with pytest.raises(EngineError, match=rf"^tensorrt 10\.13: cannot make its {what}: no reason given"):
        build_engine(path, flavour=Flavour("tensorrt", "10.13", module))


def test_inspecting_says_why_there_is_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "find_gpu", lambda: None)
    flavour = standin.without("Runtime", "CUDA initialization failure with error: 100")
    with pytest.raises(EngineError, match=r"cannot make its Runtime: CUDA initialization failure with error: 100; no "):
        load_facts(flavour, memoryview(b""), subject="best.engine")
