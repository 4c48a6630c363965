"""What becomes of a model for each backend. Configurations are read back by Triton's published schema."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from helpers import shared
from helpers.engine_records import plan_bytes, record_of, write
from helpers.models import constant_raw, empty_rows
from helpers.samples import sample
from helpers.serving import cat_model
from yoloship.engine import BuildConfig
from yoloship.errors import EngineError, InputError
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.model import METADATA_KEY, ModelInfo
from yoloship.triton.artefact import Artefact, Wanted, default_backend, make_artefact, warm_image
from yoloship.triton.model_config import Port

PLAN = b"ftrt" + plan_bytes()[4:]


def make(model: Path, folder: Path, backend: Any, **how: Any) -> Artefact:
    folder.mkdir(exist_ok=True)
    return make_artefact(model, Wanted(backend, **how), folder, "model", pytest.fail)


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return shared.require(shared.TRAINED / "coco-yolov5n.pt")


def sample_file(folder: Path, task: str, **how: Any) -> Path:
    config = GraphConfig((64, 64), None, **how)
    (folder / "m.onnx").write_bytes(graph_bytes(build_graph(sample("ultralytics", task), config)))
    return folder / "m.onnx"


def engine(folder: Path, plan: bytes = PLAN, **changes: Any) -> Path:
    record = record_of(plan, **{"flavour": "tensorrt", "version": "10.14.1", "compute_capability": "sm90", **changes})
    return write(folder / "best.engine", plan, record)


def test_a_checkpoint_becomes_a_graph_with_suppression_inside_for_onnx_runtime(
    checkpoint: Path, tmp_path: Path
) -> None:
    made = make(checkpoint, tmp_path / "1", "onnxruntime", imgsz=(64, 96), options={"score_threshold": 0.4})
    assert made.file == "model.onnx"
    assert made.inputs == (Port("images", "uint8", (64, 96, 3)),)
    assert [(port.name, port.dims) for port in made.outputs] == [
        ("boxes_xyxy", (300, 4)), ("scores", (300,)), ("class_ids", (300,)), ("count", ()), ("exact", ()),
    ]  # fmt: skip
    assert made.info.nms is not None
    assert made.info.nms.score_threshold == 0.4
    assert made.warm_inputs[0].dims == (64, 96, 3)
    assert made.fixed_batch is None
    assert "metadata" not in made.parameters
    assert ModelInfo.from_json(made.parameters[METADATA_KEY]) == made.info


def test_the_raw_network_says_what_ultralytics_client_reads(checkpoint: Path, tmp_path: Path) -> None:
    made = make(checkpoint, tmp_path / "1", "onnxruntime", imgsz=(64, 96), input="float", output_form="raw")
    assert made.inputs == (Port("images", "float32", (3, 64, 96)),)
    assert [port.name for port in made.outputs] == ["output0"]
    metadata = ast.literal_eval(made.parameters["metadata"])
    assert {key: metadata[key] for key in ("task", "stride", "batch", "imgsz", "channels", "end2end")} == {
        "task": "detect", "stride": 32, "batch": 1, "imgsz": [64, 96], "channels": 3, "end2end": False,
    }  # fmt: skip
    assert metadata["names"][0] == "person"
    assert len(metadata["names"]) == 80


def test_a_classifier_has_its_labels_at_its_scores(tmp_path: Path) -> None:
    model = sample_file(tmp_path, "classify")
    assert make(model, tmp_path / "1", "onnxruntime").outputs[0].labels == "labels.txt"
    made = make(model, tmp_path / "2", "python")
    assert {port.name: port.labels for port in made.outputs} == {"result": None, "probabilities": "labels.txt"}


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_an_onnx_file_is_taken_as_it_is(tmp_path: Path, task: str) -> None:
    model = sample_file(tmp_path, task)
    made = make(model, tmp_path / "1", "onnxruntime")
    assert (tmp_path / "1/model.onnx").read_bytes() == model.read_bytes()
    session = onnxruntime.InferenceSession(str(model))
    assert [port.name for port in made.outputs] == [one.name for one in session.get_outputs()]
    assert made.info.task == task


def test_a_batch_that_is_fixed_in_the_graph_stays_in_the_extents(tmp_path: Path) -> None:
    model = cat_model(tmp_path)
    made = make(model, tmp_path / "1", "onnxruntime")
    assert made.fixed_batch == 1
    assert made.inputs[0].dims == (1, 3, 64, 64)
    assert made.warm_inputs[0].dims == (1, 3, 64, 64)


def test_weights_beside_an_onnx_file_come_with_it(tmp_path: Path) -> None:
    graph = constant_raw(empty_rows((64, 64), 7), (64, 64), {"names": "{0: 'cat', 1: 'dog'}", "stride": "32"})
    onnx.save(graph, str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.weights", size_threshold=0)
    made = make(tmp_path / "m.onnx", tmp_path / "1", "python")
    assert (tmp_path / "1/m.weights").read_bytes() == (tmp_path / "m.weights").read_bytes()
    assert made.info.class_names == ("cat", "dog")


def test_the_python_backend_takes_files_or_pixels_and_says_how_to_load_the_model(tmp_path: Path) -> None:
    model = cat_model(tmp_path)
    options = {"score_threshold": 0.5, "max_detections": 9}
    made = make(model, tmp_path / "1", "python", options=options)
    assert made.file == "model.py"
    assert made.inputs == (Port("image", "uint8", (-1,), is_ragged=True),)
    assert made.warm_inputs[0].dims == (len(warm_image()),)
    assert json.loads(made.parameters["yoloship.options"]) == options
    assert made.parameters["yoloship.file"] == "model.onnx"
    assert {port.name: port.dims for port in made.outputs}["boxes_xyxy"] == (9, 4)
    pixels = make(model, tmp_path / "2", "python", input="pixels")
    assert pixels.inputs == (Port("pixels", "uint8", (-1, -1, 3), is_ragged=True),)


def test_names_and_transform_of_a_checkpoint_are_in_its_graph_and_not_asked_for_again(
    checkpoint: Path, tmp_path: Path
) -> None:
    names = tuple(f"thing {number}" for number in range(80))
    made = make(checkpoint, tmp_path / "1", "python", imgsz=(64, 64), options={"class_names": names})
    assert made.info.class_names == names
    assert json.loads(made.parameters["yoloship.options"]) == {}


def test_an_engine_becomes_a_plain_plan_with_its_own_batches(tmp_path: Path) -> None:
    made = make(engine(tmp_path), tmp_path / "1", "tensorrt")
    assert (tmp_path / "1/model.plan").read_bytes() == PLAN
    assert made.inputs == (Port("images", "float32", (3, 640, 640)),)
    assert made.outputs == (Port("output0", "float32", (25200, 7)),)
    assert (made.largest_batch, made.best_batch) == (8, 4)
    assert made.notes == (
        "it needs a Triton with TensorRT 10.14.1 and a GPU of sm90: a plan runs only with the version that built it",
    )
    assert default_backend(tmp_path / "best.engine") == "tensorrt"


def test_an_engine_with_a_fixed_batch_has_no_batches(tmp_path: Path) -> None:
    record = record_of(PLAN)
    inputs, outputs = (
        tuple(replace(one, shape=(2, *one.shape[1:])) for one in specs) for specs in (record.inputs, record.outputs)
    )
    path = engine(tmp_path, inputs=inputs, outputs=outputs, config=BuildConfig(), profiles=())
    made = make(path, tmp_path / "1", "tensorrt")
    assert (made.fixed_batch, made.inputs[0].dims) == (2, (2, 3, 640, 640))


def test_an_engine_can_be_run_by_our_model_in_the_python_backend(tmp_path: Path) -> None:
    made = make(engine(tmp_path), tmp_path / "1", "python", imgsz=(640, 640))
    assert made.parameters["yoloship.file"] == "model.engine"
    assert (tmp_path / "1/model.engine").read_bytes() == PLAN
    assert (tmp_path / "1/model.engine.json").read_bytes() == (tmp_path / "best.engine.json").read_bytes()
    assert json.loads(made.parameters["yoloship.options"]) == {"imgsz": [640, 640]}


def test_an_engine_of_tensorrt_rtx_is_refused(tmp_path: Path) -> None:
    path = engine(tmp_path, plan_bytes(), flavour="rtx", version="1.7.1.116", compute_capability=None)
    with pytest.raises(EngineError, match="is an engine of TensorRT-RTX, which Triton does not run; build it with"):
        make(path, tmp_path / "1", "tensorrt")


def test_an_engine_that_does_not_say_what_it_is_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "best.engine", PLAN, None)
    with pytest.raises(EngineError, match=r"does not say what its inputs and outputs are: expected best.engine.json"):
        make(path, tmp_path / "1", "tensorrt")
    with pytest.raises(EngineError, match="does not say what model it is"):
        make(path, tmp_path / "2", "python")


def test_models_of_other_kinds_than_a_backend_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"best.engine: is a TensorRT engine, which the ONNX Runtime backend does not"):
        make(engine(tmp_path), tmp_path / "1", "onnxruntime")
    with pytest.raises(InputError, match=r"is not a TensorRT engine, .* got onnx; make one: yoloship build"):
        make(cat_model(tmp_path), tmp_path / "1", "tensorrt")


@pytest.mark.parametrize(
    ("backend", "how", "message"),
    [
        ("onnxruntime", {"input": "float"}, "so --input has no effect"),
        ("onnxruntime", {"output_form": "raw"}, "so --output has no effect"),
        ("onnxruntime", {"options": {"score_threshold": 0.5, "iou_threshold": 0.5}}, "--conf, --iou have no effect"),
        ("python", {"head": "one2one"}, "so --head has no effect"),
    ],
)
def test_options_of_an_export_are_refused_for_a_finished_graph(
    tmp_path: Path, backend: str, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"is an ONNX file, which is used unchanged, {message}|{message}"):
        make(cat_model(tmp_path), tmp_path / "1", backend, **how)


def test_options_have_no_effect_on_a_plan(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is an engine, which is used unchanged, so --conf has no effect"):
        make(engine(tmp_path), tmp_path / "1", "tensorrt", options={"score_threshold": 0.5})


def test_the_image_that_warms_up_is_one() -> None:
    import cv2

    pixels = cv2.imdecode(np.frombuffer(warm_image(), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert pixels.shape == (480, 640, 3)
