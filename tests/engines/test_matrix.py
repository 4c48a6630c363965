"""Engines of every model, precision, batch and output, built for real by TensorRT-RTX, and what they say they are.

A build takes most of a second, so not every combination is built: every model in every precision, and every precision
with every batch and every output. Which model it is has no part in how precision, batch and output work together.

No engine is run: that needs a GPU. What is asserted are facts of the network that TensorRT compiled, of the plan's own
header, and of the sidecar as it is read back.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest

import yoloship
from helpers.foreign import INPUT, OUTPUT, foreign, foreign_name
from helpers.networks import built_or_refused, require_rtx, rtx_advice
from helpers.shared import PHOTOS, TRAINED, listed, require
from yoloship.checkpoint import read_checkpoint
from yoloship.demo.scene import make_scene
from yoloship.detect.detector import Detector
from yoloship.detect.feeds import feed_of
from yoloship.engine import BuildConfig, InputProfile, Range, open_flavour, read_engine, write_engine
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.passes.half import convert_precision
from yoloship.graph.passes.quantize import layers, quantize, values_to_watch
from yoloship.kinds import RTX_MAGIC
from yoloship.model import NmsConfig, TensorSpec
from yoloship.models.building import build, suppressing
from yoloship.precision.calibrate import calibrate
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.checkpoint import Checkpoint
    from yoloship.engine import BuiltEngine
    from yoloship.model import Axis, InputForm, ModelInfo, OutputForm, Precision

DEMO = Path(yoloship.__file__).parent / "demo" / "codes-yolov5n.pt"
CHECKPOINTS = [*listed(TRAINED, "*.pt"), DEMO]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "int8", "float8")
INPUT_HW = (96, 128)
ROWS = 3 * sum((INPUT_HW[0] // stride) * (INPUT_HW[1] // stride) for stride in (8, 16, 32))
DYNAMIC = Range(1, 2, 4)
NMS = NmsConfig(max_detections=100, candidates=128, iterations=4)
"""Fewer steps than by default, because each costs time to build; test_build_command.py builds the default."""

MARKS = {"float16": "float16", "bfloat16": "bfloat16", "int8": "int8", "float8": "float8_e4m3fn"}
"""The element type that tells a precision: each is in the engines of its own precision and of no other."""
INPUT_FORMS: dict[OutputForm, InputForm] = {"raw": "float", "nms": "image"}
"""Both forms of input are built, one with each form of output."""
ENDINGS = tuple(product((1, None), INPUT_FORMS))
"""Each batch with each form of output."""
FOREIGN = Path("foreign.onnx")
"""Stands for a file of somebody else's among the models."""


def combinations() -> list[tuple[Path, Precision, int | None, OutputForm]]:
    """Every model in every precision; of the endings, every precision gets all, and so does every model."""
    return [
        (model, precision, *ENDINGS[(row + column) % 5 % 4])
        for row, model in enumerate([*CHECKPOINTS, FOREIGN])
        for column, precision in enumerate(PRECISIONS)
    ]


def named(value: Any) -> str:
    """How a combination is called in the names of tests."""
    if isinstance(value, Path):
        return value.stem
    return {1: "static", None: "dynamic"}.get(value, str(value))


def some(*, foreign: bool) -> pytest.MarkDecorator:
    """The combinations of checkpoints, or those of the foreign file."""
    rows = [row for row in combinations() if (row[0] == FOREIGN) == foreign]
    return pytest.mark.parametrize(("checkpoint", "precision", "batch", "output_form"), rows, ids=named)


@pytest.fixture(scope="module", autouse=True)
def _needs_tensorrt() -> None:
    require_rtx()


def test_every_precision_is_built_with_every_ending_and_every_model_in_every_precision_and_with_every_ending() -> None:
    rows = combinations()
    models = [*CHECKPOINTS, FOREIGN]
    assert {(row[0], row[1]) for row in rows} == set(product(models, PRECISIONS))
    assert {row[1:] for row in rows} == {(precision, *ending) for precision in PRECISIONS for ending in ENDINGS}
    assert {(row[0], *row[2:]) for row in rows} == {(model, *ending) for model in models for ending in ENDINGS}


@some(foreign=False)
def test_a_checkpoint_becomes_an_engine_that_knows_what_it_is(
    checkpoint: Path, precision: Precision, batch: int | None, output_form: OutputForm, tmp_path: Path
) -> None:
    form = INPUT_FORMS[output_form]
    nms = NMS if output_form == "nms" else None
    config = GraphConfig(input_hw=INPUT_HW, batch=batch, input_form=form, output_form=output_form, nms=nms)
    source = require(checkpoint)
    if precision in {"int8", "float8"}:
        source = tmp_path / "quantized.onnx"
        source.write_bytes(graph_bytes(quantized(checkpoint, precision, config)))
    built, info = build_and_check(source, precision, batch, tmp_path, config)

    assert info.class_names == opened(checkpoint).class_names
    assert info.checkpoint_sha256 == opened(checkpoint).sha256
    assert (info.input_form, info.output_form) == (form, output_form)
    axis: Axis = batch or "batch"
    image = (*INPUT_HW, 3) if form == "image" else (3, *INPUT_HW)
    assert built.inputs == (TensorSpec("images", "uint8" if form == "image" else "float32", (axis, *image)),)
    if output_form == "raw":
        assert built.outputs == (TensorSpec("output0", "float32", (axis, ROWS, 5 + len(info.class_names))),)
        return
    assert info.nms == NMS
    assert built.outputs == suppressed(axis, NMS.max_detections)


def suppressed(batch: Axis, rows: int) -> tuple[TensorSpec, ...]:
    """What an engine of the form ``nms`` gives."""
    return (
        TensorSpec("boxes_xyxy", "float32", (batch, rows, 4)),
        TensorSpec("scores", "float32", (batch, rows)),
        TensorSpec("class_ids", "int32", (batch, rows)),
        TensorSpec("count", "int32", (batch,)),
        TensorSpec("exact", "int32", (batch,)),
    )


@some(foreign=True)
def test_a_foreign_file_becomes_an_engine_that_knows_what_it_is(
    checkpoint: Path, precision: Precision, batch: int | None, output_form: OutputForm, tmp_path: Path
) -> None:
    ours = build_graph(opened(CHECKPOINTS[0]), GraphConfig(input_hw=INPUT_HW, batch=batch))
    model = in_precision(foreign(ours), precision)
    if output_form == "nms":
        model = suppressing(model, NMS, subject=checkpoint.name)
    source = tmp_path / checkpoint
    source.write_bytes(model.SerializeToString())
    built, info = build_and_check(source, precision, batch, tmp_path)
    assert (info.input_form, info.output_form, info.strides) == ("float", output_form, (8, 16, 32))
    assert len(info.class_names) == 80
    assert info.checkpoint_sha256 is None
    axis: Axis = batch or "N"
    assert built.inputs == (TensorSpec(INPUT, "float32", (axis, 3, *INPUT_HW)),)
    if output_form == "raw":
        assert built.outputs == (TensorSpec(OUTPUT, "float32", (axis, ROWS, 85)),)
    else:
        assert built.outputs == suppressed(axis, NMS.max_detections)


def build_and_check(
    source: Path, precision: Precision, batch: int | None, folder: Path, graph: GraphConfig | None = None
) -> tuple[BuiltEngine, ModelInfo]:
    """Build and write an engine, read it back, and check what holds for every one of them."""
    from_checkpoint = source.suffix == ".pt"
    if from_checkpoint and graph is not None:
        graph = GraphConfig(graph.input_hw, graph.batch, graph.input_form, graph.output_form, precision, graph.nms)  # type: ignore[arg-type]
    config = BuildConfig(
        batch=DYNAMIC if batch is None else None, targets=("sm89", "sm120") if precision == "float8" else ()
    )
    with built_or_refused(precision):
        built, info = build(source, config, graph=graph if from_checkpoint else None, flavour=open_flavour("rtx"))
    if (advice := rtx_advice(precision)) is not None:
        pytest.skip(f"this TensorRT-RTX refuses {precision}, and says: {advice}")
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


@cache
def opened(checkpoint: Path) -> Checkpoint:
    return read_checkpoint(require(checkpoint))


def in_precision(model: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    if precision == "float32":
        return model
    if precision in {"float16", "bfloat16"}:
        return convert_precision(model, precision)
    ranges = {foreign_name(name): reach for name, reach in calibrated(CHECKPOINTS[0], "float").items()}
    return quantize(model, ranges, precision)  # type: ignore[arg-type]


def quantized(checkpoint: Path, precision: Precision, config: GraphConfig) -> Any:
    model = build_graph(opened(checkpoint), config)
    return quantize(model, calibrated(checkpoint, config.input_form), precision)  # type: ignore[arg-type]


@cache
def calibrated(checkpoint: Path, form: InputForm) -> Mapping[str, float]:
    """How large activations get over a few images like those in production; neither batch nor ending changes it."""
    config = GraphConfig(input_hw=INPUT_HW, input_form=form, output_form="heads")
    model = build_graph(opened(checkpoint), config)
    images: list[Any] = [require(PHOTOS / name) for name in ("bus.jpg", "street.jpg")]
    if checkpoint == DEMO:
        images = [make_scene(seed).image for seed in (0, 1)]
    with OnnxRuntimeSession.open(graph_bytes(model)) as session:
        detector = Detector(session)
        feeds = [feed_of(detector, image) for image in images]
    names = values_to_watch(layers(model), "inputs")
    return calibrate(model, names, feeds, "minmax")
