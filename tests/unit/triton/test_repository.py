"""Whole repositories, by Triton's published schema."""

from __future__ import annotations

import compileall
from pathlib import Path
from typing import Any

import pytest

from helpers.engine_records import plan_bytes, record_of, write
from helpers.models import finds_a_cat
from helpers.serving import cat_model
from helpers.triton_schema import parsed, schema
from yoloship.errors import InputError, OutputError, SessionError
from yoloship.triton.artefact import Wanted
from yoloship.triton.model_config import Instances
from yoloship.triton.repository import NamedModel, Request, Serving, Variant, write_repository

PLAN = b"ftrt" + plan_bytes()[4:]
PYTHON = Wanted("python")


def engine(path: Path, **changes: Any) -> Path:
    return write(path, PLAN, record_of(PLAN, **{"flavour": "tensorrt", "version": "10.14.1", **changes}))


def written(request: Request, repository: Path, **how: Any) -> Any:
    return write_repository(request, repository, on_note=pytest.fail, **how)


def config(folder: Path) -> Any:
    return parsed((folder / "config.pbtxt").read_text())


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_model_for_the_python_backend_has_all_its_files(tmp_path: Path) -> None:
    (one,) = written(Request((NamedModel("cat", cat_model(tmp_path)),), PYTHON), tmp_path / "r")
    assert one.folder == tmp_path / "r/cat"
    assert files(one.folder) == ["1/model.onnx", "1/model.py", "config.pbtxt", "labels.txt", "warmup/image"]
    assert (one.folder / "labels.txt").read_text() == "cat\ndog\n"
    found = config(one.folder)
    assert (found.name, found.backend, found.default_model_filename) == ("cat", "python", "model.py")
    assert found.max_batch_size == 8
    assert found.dynamic_batching.max_queue_delay_microseconds == 0
    assert found.instance_group[0].kind == schema().ModelInstanceGroup.KIND_CPU
    assert found.model_warmup[0].inputs["image"].dims[0] == (one.folder / "warmup/image").stat().st_size
    assert compileall.compile_file(one.folder / "1/model.py", quiet=2)


def test_the_written_program_says_what_a_server_without_yoloship_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = written(Request((NamedModel("cat", cat_model(tmp_path)),), PYTHON), tmp_path / "r")
    monkeypatch.setitem(__import__("sys").modules, "yoloship.triton.python_model", None)
    with pytest.raises(
        ModuleNotFoundError, match="this model needs yoloship in the Python of this server: pip install"
    ):
        exec((one.folder / "1/model.py").read_text(), {})


def test_how_a_server_runs_it_is_written_down(tmp_path: Path) -> None:
    serving = Serving(16, (4, 8), 2500, Instances("KIND_GPU", gpus=(1,)), 2)
    request = Request((NamedModel("cat", cat_model(tmp_path)),), PYTHON, serving=serving)
    written(request, tmp_path / "r")
    found = config(tmp_path / "r/cat")
    assert (found.max_batch_size, list(found.dynamic_batching.preferred_batch_size)) == (16, [4, 8])
    assert found.dynamic_batching.max_queue_delay_microseconds == 2500
    (group,) = found.instance_group
    assert (group.kind, group.count, list(group.gpus)) == (schema().ModelInstanceGroup.KIND_GPU, 2, [1])
    assert [one.batch_size for one in found.model_warmup] == [1, 4, 8, 16]


def test_an_engine_brings_its_batches_and_runs_on_gpus(tmp_path: Path) -> None:
    (one,) = written(Request((NamedModel("best", engine(tmp_path / "best.engine")),), PYTHON), tmp_path / "r")
    found = config(tmp_path / "r/best")
    assert (found.backend, found.platform, found.default_model_filename) == ("tensorrt", "tensorrt_plan", "model.plan")
    assert (found.max_batch_size, list(found.dynamic_batching.preferred_batch_size)) == (8, [4])
    assert found.instance_group[0].kind == schema().ModelInstanceGroup.KIND_GPU
    assert "needs a Triton with TensorRT 10.14.1" in one.notes[0]
    request = Request((NamedModel("best", tmp_path / "best.engine"),), PYTHON, serving=Serving(max_batch=9))
    with pytest.raises(
        InputError, match="best: --max-batch: the engine takes smaller batches only: expected 8 or less"
    ):
        written(request, tmp_path / "r", overwrite=True)
    assert config(tmp_path / "r/best").max_batch_size == 8


def test_further_configurations_have_files_of_their_own(tmp_path: Path) -> None:
    usual, large = engine(tmp_path / "a.engine"), engine(tmp_path / "h.engine")
    variants = (Variant("h100", Serving(max_batch=2), large), Variant("slow", Serving(queue_delay_us=9)))
    written(Request((NamedModel("best", usual),), PYTHON, variants=variants), tmp_path / "r")
    folder = tmp_path / "r/best"
    assert files(folder / "1") == ["model.h100.plan", "model.plan"]
    h100, slow = (parsed((folder / f"configs/{name}.pbtxt").read_text()) for name in ("h100", "slow"))
    assert (h100.default_model_filename, h100.max_batch_size) == ("model.h100.plan", 2)
    assert (slow.default_model_filename, slow.dynamic_batching.max_queue_delay_microseconds) == ("model.plan", 9)


def test_a_configuration_of_another_model_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    import onnx

    onnx.save(finds_a_cat((64, 64), "{0: 'cow', 1: 'dog'}"), str(tmp_path / "cow.onnx"))
    variants = (Variant("h100", Serving(), tmp_path / "cow.onnx"),)
    with pytest.raises(InputError, match=r"cow.onnx: is not the same model as .*cat.onnx: expected the same task"):
        written(Request((NamedModel("cat", cat_model(tmp_path)),), PYTHON, variants=variants), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_several_models_are_written_or_none(tmp_path: Path) -> None:
    model, bad = cat_model(tmp_path), tmp_path / "bad.onnx"
    bad.write_bytes(b"text")
    with pytest.raises(SessionError, match=r"bad.onnx"):
        written(Request((NamedModel("a", model), NamedModel("b", bad)), PYTHON, backend="python"), tmp_path / "r")
    assert not (tmp_path / "r").exists()
    both = written(Request((NamedModel("a", model), NamedModel("b", model)), PYTHON), tmp_path / "r")
    assert [one.folder.name for one in both] == ["a", "b"]


def test_models_are_added_to_a_repository_and_replaced_only_when_asked(tmp_path: Path) -> None:
    model = cat_model(tmp_path)
    written(Request((NamedModel("a", model),), PYTHON), tmp_path / "r")
    written(Request((NamedModel("b", model),), PYTHON), tmp_path / "r")
    with pytest.raises(OutputError, match=r"r/a: already exists; --overwrite replaces this model"):
        written(Request((NamedModel("a", model),), PYTHON), tmp_path / "r")
    written(Request((NamedModel("a", model),), PYTHON, serving=Serving(max_batch=3)), tmp_path / "r", overwrite=True)
    assert config(tmp_path / "r/a").max_batch_size == 3
    assert config(tmp_path / "r/b").max_batch_size == 8


def test_a_fixed_batch_takes_no_options_for_batches(tmp_path: Path) -> None:
    models = (NamedModel("cat", cat_model(tmp_path)),)
    with pytest.raises(InputError, match="cat: has a batch fixed at 1, so the server cannot make batches"):
        written(Request(models, PYTHON, "onnxruntime", Serving(max_batch=4)), tmp_path / "r")
    written(Request(models, PYTHON, "onnxruntime"), tmp_path / "r")
    found = config(tmp_path / "r/cat")
    assert (found.max_batch_size, list(found.input[0].dims)) == (0, [1, 3, 64, 64])
    assert not found.HasField("dynamic_batching")
    assert found.platform == "onnxruntime_onnx"
    assert found.instance_group[0].kind == schema().ModelInstanceGroup.KIND_AUTO


@pytest.mark.parametrize("name", ["../up", "a b", ""])
def test_names_that_are_no_folders_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a model"):
        Request((NamedModel(name, tmp_path),), PYTHON)
    with pytest.raises(InputError, match="cannot be the name of a configuration"):
        Request((NamedModel("a", tmp_path),), PYTHON, variants=(Variant(name, Serving()),))


def test_a_name_is_used_once_and_a_file_of_a_configuration_belongs_to_one_model(tmp_path: Path) -> None:
    two = (NamedModel("a", tmp_path), NamedModel("a", tmp_path))
    with pytest.raises(InputError, match="the name of a model: a: is given to two"):
        Request(two, PYTHON)
    both = (NamedModel("a", tmp_path), NamedModel("b", tmp_path))
    with pytest.raises(InputError, match="a configuration with a file of its own: is for one model: got 2 models"):
        Request(both, PYTHON, variants=(Variant("x", Serving(), tmp_path),))


def test_a_class_name_cannot_add_a_label(tmp_path: Path) -> None:
    import onnx

    onnx.save(finds_a_cat((64, 64), r"{0: 'a\nb', 1: 'dog'}"), str(tmp_path / "odd.onnx"))
    written(Request((NamedModel("odd", tmp_path / "odd.onnx"),), PYTHON), tmp_path / "r")
    assert len((tmp_path / "r/odd/labels.txt").read_text().splitlines()) == 2
