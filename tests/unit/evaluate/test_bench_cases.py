from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from helpers.engine_records import ADA, plan_bytes, record_of, write
from helpers.graphs import ours
from helpers.resnets import resnet_arrays, state_dict_bytes
from yoloship.errors import DependencyError, EngineError, InputError, SessionError
from yoloship.evaluate.bench_cases import BenchRuntime, bench_cases
from yoloship.graph import GraphConfig, graph_bytes
from yoloship.graph.passes.half import convert_precision

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def onnx(tmp_path: Path) -> str:
    path = tmp_path / "best.onnx"
    path.write_bytes(graph_bytes(ours("heads", "image")))
    return str(path)


@pytest.fixture
def engine(tmp_path: Path) -> str:
    plan = plan_bytes()
    return str(write(tmp_path / "best.engine", plan, record_of(plan)))


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.evaluate.bench_cases.find_gpus", lambda: (ADA,))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.evaluate.bench_cases.find_gpus", lambda: ())


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("yoloship.models.loading.load", fail)
    monkeypatch.setattr("yoloship.models.building.engine_for", fail)


def cases(
    models: list[str], devices: tuple[str | None, ...] = (None,), backends: tuple[Any, ...] = (None,), **more: Any
) -> list[tuple[str, str, int, int]]:
    runtimes = tuple(None if backend is None else BenchRuntime.parse(backend) for backend in backends)
    found = bench_cases(models, devices, runtimes, more.get("batches", (1,)), more.get("streams", (1,)), None)
    return [(case.model, case.device, case.batch, case.streams) for case in found]


def test_every_combination_is_a_case(onnx: str) -> None:
    found = cases([onnx], batches=(1, 4), streams=(1, 2))
    assert found == [("best.onnx", "cpu", batch, streams) for batch in (1, 4) for streams in (1, 2)]
    assert cases([onnx], backends=("onnxruntime",)) == [("best.onnx, onnxruntime", "cpu", 1, 1)]


def test_models_of_one_name_keep_their_folders_and_one_given_twice_counts_once(onnx: str, tmp_path: Path) -> None:
    other = tmp_path / "more" / "best.onnx"
    other.parent.mkdir()
    other.write_bytes(graph_bytes(ours()))
    assert [case[0] for case in cases([onnx, str(other), onnx])] == [onnx, str(other)]


def test_all_gpus_together_are_one_case(onnx: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = (ADA, replace(ADA, ordinal=1))
    for module in ("yoloship.evaluate.bench_cases", "yoloship.cuda.device"):
        monkeypatch.setattr(f"{module}.find_gpus", lambda: gpus)
    monkeypatch.setattr("yoloship.evaluate.bench_cases._check_provider", lambda: None)
    found = cases([onnx], ("cpu", "cuda:all", "cuda:1"))
    assert [device for _, device, *_ in found] == ["cpu", "cuda:0,cuda:1", "cuda:1"]


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("model", "device", "backend", "words"),
    [
        ("onnx", "cuda", None, "on cuda: needs an NVIDIA GPU: got no driver, or no GPU; 'yoloship doctor"),
        ("onnx", "cuda:3", None, "on cuda:3: needs an NVIDIA GPU"),
        ("onnx", None, "tensorrt", "on cuda: needs an NVIDIA GPU"),
        ("engine", None, None, "on cuda: needs an NVIDIA GPU"),
        ("onnx", "gpu", None, "--device: no such device: expected cpu, cuda, cuda:N or cuda:all, got 'gpu'"),
        ("onnx", "cuda:all", None, "on cuda:0: needs an NVIDIA GPU"),
        ("onnx", "cuda:x", None, "--device: no such device"),
        ("onnx", "cpu", "tensorrt", "runtime: TensorRT does not run on a CPU: expected another device"),
        ("engine", "cpu", None, "runtime: TensorRT does not run on a CPU: expected another device"),
    ],
)
def test_what_cannot_run_here_is_refused_before_anything_is_loaded(
    request: pytest.FixtureRequest, onnx: str, model: str, device: str | None, backend: str | None, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        cases([onnx, request.getfixturevalue(model)], (device,), (backend,))
    assert words in str(caught.value)


@pytest.mark.usefixtures("one_gpu")
def test_an_engine_is_for_tensorrt_alone(engine: str) -> None:
    with pytest.raises(InputError, match=r"best\.engine: is a TensorRT engine, which ONNX Runtime does not run"):
        cases([engine], ("cuda",), ("onnxruntime",))


def test_files_that_are_not_models_are_refused_before_others_are_loaded(onnx: str, tmp_path: Path) -> None:
    page = tmp_path / "page.onnx"
    page.write_text("<html></html>")
    with pytest.raises(SessionError, match="is a web page, not a checkpoint"):
        cases([onnx, str(page)])
    with pytest.raises(InputError, match=r"none\.pt: no such file"):
        cases([onnx, str(tmp_path / "none.pt")])
    page.write_bytes(graph_bytes(convert_precision(ours(), "bfloat16")))
    with pytest.raises(SessionError, match="computes in bfloat16, for which ONNX Runtime has no kernels on a CPU"):
        cases([onnx, str(page)])


@pytest.mark.usefixtures("one_gpu")
def test_packages_that_a_gpu_needs_are_missed_before_anything_is_loaded(
    onnx: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DependencyError, match="is the build without CUDA: expected onnxruntime-gpu"):
        cases([onnx], ("cuda",))
    monkeypatch.setattr("yoloship.engine.flavours.find_spec", lambda _: None)
    with pytest.raises(DependencyError, match="no TensorRT is installed"):
        cases([onnx], ("cuda",), ("tensorrt",))
    with pytest.raises(EngineError, match="needs tensorrt_rtx, which is not installed"):
        cases([engine])
    with pytest.raises(InputError, match=r"on cuda:1: needs an NVIDIA GPU: got 1 of them"):
        cases([engine], ("cuda:1",))


@pytest.mark.usefixtures("one_gpu")
def test_an_engine_of_a_checkpoint_has_the_usual_size_and_the_transform_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tmp_path / "resnet.pt"
    network.write_bytes(state_dict_bytes(resnet_arrays()))
    asked: list[tuple[Any, Any]] = []

    def engine_for(_path: Path, _build: Any, *, graph: GraphConfig) -> Any:
        asked.append((graph.input_hw, graph.transform))
        return SimpleNamespace(path=network)

    monkeypatch.setattr("yoloship.models.building.engine_for", engine_for)
    monkeypatch.setattr("yoloship.models.loading.load", lambda _path, **options: options["transform"])
    monkeypatch.setattr("yoloship.evaluate.bench_cases._check", lambda _target: None)
    tensorrt = (BenchRuntime("tensorrt"),)
    (case,) = bench_cases([str(network)], ("cuda",), tensorrt, (1,), (1,), None, "torchvision-v1")
    assert case.open() is None  # the engine has it
    assert asked == [("usual", "torchvision-v1")]
