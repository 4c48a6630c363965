"""Engines of every model, precision, batch and ending, built for real by TensorRT-RTX, and what they say they are.

No engine is run: that needs a GPU. What is asserted are facts of the network that TensorRT compiled, of the plan's own
header, and of the sidecar as it is read back.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest

import yoloship
from _networks import require_rtx
from _shared import PHOTOS, TRAINED, listed, require
from yoloship.checkpoint import read_checkpoint
from yoloship.demo.scene import make_scene
from yoloship.engine import BuildConfig, InputProfile, Range, open_flavour, read_engine, write_engine
from yoloship.engine.plan import RTX_MAGIC
from yoloship.evaluate.quantization import channel_means
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.calibrate import calibrate
from yoloship.graph.precision import convert_precision
from yoloship.graph.quantize import layers, quantize, values_to_watch
from yoloship.pipeline import Detector
from yoloship.pipeline.building import build
from yoloship.pipeline.feeds import feed_of
from yoloship.runtime import OnnxRuntimeSession
from yoloship.tensors import TensorSpec

if TYPE_CHECKING:
    from yoloship.engine import BuiltEngine
    from yoloship.model import InputForm, ModelInfo, OutputForm, Precision
    from yoloship.tensors import Axis

DEMO = Path(yoloship.__file__).parent / "demo" / "codes-yolov5n.pt"
CHECKPOINTS = [*listed(TRAINED, "*.pt"), DEMO]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "int8", "float8")
INPUT_HW = (256, 320)
ROWS = 3 * sum((256 // stride) * (320 // stride) for stride in (8, 16, 32))
DYNAMIC = Range(1, 2, 4)

MARKS = {"float16": "float16", "bfloat16": "bfloat16", "int8": "int8", "float8": "float8_e4m3fn"}
"""The element type that tells a precision: each is in the engines of its own precision and of no other."""
INPUT_FORMS: dict[OutputForm, InputForm] = {"raw": "float", "nms": "image"}
"""Both forms of input are built, one with each form of output."""


@pytest.fixture(scope="module", autouse=True)
def _needs_tensorrt() -> None:
    require_rtx()


@pytest.mark.parametrize("output_form", list(INPUT_FORMS))
@pytest.mark.parametrize("batch", [1, None], ids=["static", "dynamic"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.stem)
def test_a_checkpoint_becomes_an_engine_that_knows_what_it_is(
    checkpoint: Path, precision: Precision, batch: int | None, output_form: OutputForm, tmp_path: Path
) -> None:
    form = INPUT_FORMS[output_form]
    config = GraphConfig(input_hw=INPUT_HW, batch=batch, input_form=form, output_form=output_form)
    source = require(checkpoint)
    if precision in {"int8", "float8"}:
        source = tmp_path / "quantized.onnx"
        source.write_bytes(graph_bytes(quantized(checkpoint, precision, config)))
    built, info = build_and_check(source, precision, batch, tmp_path, config)

    assert info.class_names == read_checkpoint(checkpoint).class_names
    assert info.checkpoint_sha256 == read_checkpoint(checkpoint).sha256
    assert (info.input_form, info.output_form) == (form, output_form)
    axis: Axis = batch or "batch"
    picture = (*INPUT_HW, 3) if form == "image" else (3, *INPUT_HW)
    assert built.inputs == (TensorSpec("images", "uint8" if form == "image" else "float32", (axis, *picture)),)
    if output_form == "raw":
        assert built.outputs == (TensorSpec("output0", "float32", (axis, ROWS, 5 + len(info.class_names))),)
        return
    assert info.nms is not None
    rows = info.nms.max_detections
    assert built.outputs == (
        TensorSpec("boxes_xyxy", "float32", (axis, rows, 4)),
        TensorSpec("scores", "float32", (axis, rows)),
        TensorSpec("class_ids", "int32", (axis, rows)),
        TensorSpec("count", "int32", (axis,)),
        TensorSpec("exact", "int32", (axis,)),
    )


@pytest.mark.parametrize("batch", [1, None], ids=["static", "dynamic"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_foreign_file_becomes_an_engine_that_knows_what_it_is(
    precision: Precision, batch: int | None, tmp_path: Path
) -> None:
    source = tmp_path / "foreign.onnx"
    source.write_bytes(in_precision(foreign(batch), precision).SerializeToString())
    built, info = build_and_check(source, precision, batch, tmp_path)
    assert (info.input_form, info.output_form, info.strides) == ("float", "raw", (8, 16, 32))
    assert len(info.class_names) == 80
    assert info.checkpoint_sha256 is None
    axis: Axis = batch or "N"
    assert built.inputs == (TensorSpec("input.1", "float32", (axis if batch else "N", 3, *INPUT_HW)),)
    assert built.outputs == (TensorSpec("345", "float32", (axis, ROWS, 85)),)


def build_and_check(
    source: Path, precision: Precision, batch: int | None, folder: Path, graph: GraphConfig | None = None
) -> tuple[BuiltEngine, ModelInfo]:
    """Build and write an engine, read it back, and check what holds for every one of them."""
    from_checkpoint = source.suffix == ".pt"
    if from_checkpoint and graph is not None:
        graph = GraphConfig(graph.input_hw, graph.batch, graph.input_form, graph.output_form, precision)  # type: ignore[arg-type]
    config = BuildConfig(
        batch=DYNAMIC if batch is None else None, targets=("sm89", "sm120") if precision == "float8" else ()
    )
    built, info = build(source, config, graph=graph if from_checkpoint else None, flavour=open_flavour("rtx"))
    assert info is not None
    assert (info.precision, info.batch, info.input_hw) == (precision, batch, INPUT_HW)
    assert built.warnings == ()
    marks = {mark for mark in MARKS.values() if mark in built.dtypes}
    assert marks == ({MARKS[precision]} if precision in MARKS else set())
    assert "float32" in built.dtypes  # the head's decoding, whatever the body computes in

    spec = built.inputs[0]
    shapes = (tuple(axis if isinstance(axis, int) else extent for axis in spec.shape) for extent in (1, 2, 4))
    assert built.profiles == (() if batch else (InputProfile(spec.name, *shapes),))

    path = folder / "model.engine"
    record = write_engine(path, built, source_name=source.name, model=info)
    engine = read_engine(path)
    assert bytes(engine.plan[:4]) == RTX_MAGIC
    assert int.from_bytes(engine.plan[0x10:0x18], "little") == len(built.plan) == path.stat().st_size
    assert engine.header.version == built.version
    assert engine.record == record
    assert engine.info == info
    assert (record.inputs, record.outputs, record.profiles) == (built.inputs, built.outputs, built.profiles)
    assert (record.config, record.dtypes) == (config, tuple(sorted(built.dtypes)))
    return built, info


def in_precision(model: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    if precision == "float32":
        return model
    if precision in {"float16", "bfloat16"}:
        return convert_precision(model, precision)
    ranges, means = calibrated(CHECKPOINTS[0], "float")
    renamed = {foreign_name(name): name for name in ranges}
    names = values_to_watch(layers(model), "inputs")
    return quantize(
        model,
        {name: ranges[renamed[name]] for name in names},
        precision,  # type: ignore[arg-type]
        means={name: means[renamed[name]] for name in names},
    )


def quantized(checkpoint: Path, precision: Precision, config: GraphConfig) -> Any:
    ranges, means = calibrated(checkpoint, config.input_form)
    return quantize(build_graph(read_checkpoint(checkpoint), config), ranges, precision, means=means)  # type: ignore[arg-type]


@cache
def calibrated(checkpoint: Path, form: InputForm) -> tuple[Any, Any]:
    """Ranges and channel means over a few pictures like those in use; batch and ending change neither."""
    config = GraphConfig(input_hw=INPUT_HW, input_form=form, output_form="heads")
    model = build_graph(read_checkpoint(require(checkpoint)), config)
    pictures: list[Any] = [require(PHOTOS / name) for name in ("bus.jpg", "street.jpg")]
    if checkpoint == DEMO:
        pictures = [make_scene(seed).picture for seed in (0, 1)]
    with OnnxRuntimeSession.open(graph_bytes(model)) as session:
        detector = Detector(session)
        feeds = [feed_of(detector, picture) for picture in pictures]
    names = values_to_watch(layers(model), "inputs")
    return calibrate(model, names, feeds, "minmax"), channel_means(model, names, feeds)


def foreign(batch: int | None) -> onnx.ModelProto:
    """Our graph as another exporter would have written it: no metadata, other names, another producer."""
    config = GraphConfig(input_hw=INPUT_HW, batch=batch)
    model = build_graph(read_checkpoint(require(CHECKPOINTS[0])), config)
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.producer_name, model.producer_version = "pytorch", "1.9"
    model.graph.name = "torch-jit-export"
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
        node.input[:] = [foreign_name(name) for name in node.input]
        node.output[:] = [foreign_name(name) for name in node.output]
    for named in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        named.name = foreign_name(named.name)
    for value in (*model.graph.input, *model.graph.output):
        if batch is None:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(model, full_check=True)
    return model


def foreign_name(name: str) -> str:
    given = {"": "", "images": "input.1", "output0": "345"}
    return given.get(name, f"onnx::{name.replace('.', '_').replace('/', '_')}")
