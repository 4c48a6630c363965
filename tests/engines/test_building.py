"""Every trained checkpoint, and a foreign file, through TensorRT-RTX for real."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import yoloship
from helpers.networks import built_or_refused, require_rtx
from helpers.shared import TRAINED, listed, require
from yoloship.checkpoint import read_checkpoint
from yoloship.engine import BuildConfig, InputProfile, Range, open_flavour, read_engine, write_engine
from yoloship.errors import EngineError
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.passes.quantize import QuantizedPrecision, layers, quantize, values_to_watch
from yoloship.model import OutputForm, TensorSpec
from yoloship.models import building

DEMO = Path(yoloship.__file__).parent / "demo" / "codes-yolov5n.pt"
MODELS = [*listed(TRAINED, "*.pt"), DEMO]
"""Every trained checkpoint, and the one that comes with the package."""
OUTPUTS: dict[str, tuple[str, ...]] = {
    "heads": ("head0", "head1", "head2"),
    "compact": ("boxes_xyxy", "scores", "class_ids"),
}


@pytest.mark.parametrize("index", range(len(MODELS)), ids=[path.stem for path in MODELS])
def test_a_trained_checkpoint_becomes_a_static_engine(index: int, tmp_path: Path) -> None:
    """One form of output with every other model; the forms that are not here are in test_matrix.py."""
    require_rtx()
    forms: tuple[OutputForm, ...] = ("heads", "compact")
    path, output_form = MODELS[index], forms[index % 2]
    built, info = building.build(require(path), graph=GraphConfig(output_form=output_form))
    assert tuple(spec.name for spec in built.outputs) == OUTPUTS[output_form]
    assert built.inputs == (TensorSpec("images", "float32", (1, 3, 640, 640)),)
    assert built.warnings == ()
    assert info is not None
    engine = tmp_path / "best.engine"
    write_engine(engine, built, source_name=path.name, model=info)
    assert read_engine(engine).info == info
    assert info.class_names == read_checkpoint(path).class_names


def test_a_trained_checkpoint_becomes_an_engine_of_dynamic_batch() -> None:
    require_rtx()
    graph = GraphConfig(batch=None, input_form="image", output_form="heads")
    built, info = building.build(require(MODELS[0]), BuildConfig(batch=Range(1, 4, 8)), graph=graph)
    shapes = ((1, 640, 640, 3), (4, 640, 640, 3), (8, 640, 640, 3))
    assert built.profiles == (InputProfile("images", *shapes),)
    assert built.inputs[0].dtype == "uint8"
    assert {spec.shape[0] for spec in (*built.inputs, *built.outputs)} == {"batch"}
    assert info is not None
    assert info.batch is None


@pytest.mark.only_rtx
def test_a_quantized_graph_is_refused_for_targets_that_cannot_compute_it(tmp_path: Path) -> None:
    require_rtx()
    path = quantized(tmp_path, "float8", GraphConfig(output_form="heads"))
    with pytest.raises(EngineError, match="holds float8_e4m3fn, which sm86 cannot compute: expected targets from sm89"):
        building.build(path, BuildConfig(targets=("sm86",)))
    with built_or_refused("float8"):
        assert building.build(path, BuildConfig(targets=("sm89",)))[0].plan


def quantized(folder: Path, precision: QuantizedPrecision, config: GraphConfig) -> Path:
    """A trained graph with Q/DQ pairs; the ranges are made up, since nothing here looks at its boxes."""
    model = build_graph(read_checkpoint(require(listed(TRAINED, "*.pt")[0])), config)
    ranges = dict.fromkeys(values_to_watch(layers(model), "inputs"), 8.0)
    path = folder / "quantized.onnx"
    path.write_bytes(graph_bytes(quantize(model, ranges, precision)))
    return path


def test_a_checkpoint_becomes_an_engine_of_dynamic_size() -> None:
    require_rtx()
    path = require(listed(TRAINED, "*.pt")[0])
    config = BuildConfig(height=Range(320, 384, 640), width=Range(320, 640, 640))
    built, info = building.build(path, config, graph=GraphConfig(input_hw=None, output_form="raw"))
    assert built.profiles[0].optimum == (1, 3, 384, 640)
    assert info is not None
    assert info.input_hw == (None, None)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the field's standard form: our graph without our record."""
    config = GraphConfig(input_hw=(320, 320), output_form="raw")
    model = onnx.load_from_string(
        graph_bytes(build_graph(read_checkpoint(require(listed(TRAINED, "*.pt")[0])), config))
    )
    kept = [entry for entry in model.metadata_props if not entry.key.startswith("yoloship")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    path = tmp_path_factory.mktemp("foreign") / "foreign.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_foreign_file_of_the_standard_form_becomes_an_engine_with_its_classes(foreign: Path) -> None:
    require_rtx()
    built, info = building.build(foreign)
    assert info is not None
    assert built.outputs[0].shape == (1, 6300, 5 + len(info.class_names))
    assert (info.output_form, info.input_hw) == ("raw", (320, 320))


def test_an_engine_is_taken_from_the_cache_the_second_time(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_rtx()
    monkeypatch.setattr(building, "cache_folder", lambda: tmp_path)
    first = building.engine_for(foreign)
    monkeypatch.setattr(building, "build_engine", None)
    again = building.engine_for(foreign)
    assert (first.path, bytes(first.plan)) == (again.path, bytes(again.plan))
    assert first.path.parent == tmp_path / "engines"
    assert again.record is not None
    assert again.record.version == open_flavour().version
