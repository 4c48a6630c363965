"""Detectors whose input and output are float16, as the official ``export.py --half`` writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.graphs import HW, ours
from yoloship.detect.options import DetectOptions
from yoloship.evaluate.artefact import open_artefact
from yoloship.evaluate.verification import Tolerances, verify
from yoloship.graph.check import read_onnx
from yoloship.model import NmsConfig
from yoloship.models.building import build_source, suppressing
from yoloship.models.loading import load

NAMES = ("alpha", "beta", "gamma")
IMAGES = [np.random.default_rng(seed).integers(0, 256, (*HW, 3), dtype=np.uint8) for seed in range(3)]
FAINT = DetectOptions(score_threshold=0.001)


def half() -> onnx.ModelProto:
    """Our detector in float16 from edge to edge, without our record."""
    made = onnx.ModelProto()
    made.CopyFrom(ours())
    del made.metadata_props[:], made.graph.value_info[:]
    made.metadata_props.add(key="names", value=str(list(NAMES)))
    for tensor in made.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and not tensor.name.endswith(("scales", "roi")):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for node in made.graph.node:
        for entry in node.attribute:
            if node.op_type == "Cast" and entry.name == "to" and entry.i == TensorProto.FLOAT:
                entry.i = TensorProto.FLOAT16
        if node.op_type == "Resize":  # its scales stay float32
            for tensor in made.graph.initializer:
                if tensor.name in node.input[1:] and tensor.data_type == TensorProto.FLOAT16:
                    wide = numpy_helper.to_array(tensor).astype(np.float32)
                    tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "half.onnx").write_bytes(half().SerializeToString())
    return tmp_path / "half.onnx"


def test_it_detects_what_the_float32_model_detects(path: Path) -> None:
    with load(path, options=FAINT) as one, load(ours().SerializeToString(), options=FAINT) as other:
        assert one.session.inputs[0].dtype == one.session.outputs[0].dtype == "float16"
        for image in IMAGES:
            narrow, wide = one(image), other(image)
            assert len(narrow) == pytest.approx(len(wide), rel=0.1) != 0
            assert narrow.scores[:5] == pytest.approx(wide.scores[:5], abs=5e-3)


def test_it_is_verified_with_its_rounding_emulated(path: Path, tmp_path: Path) -> None:
    (tmp_path / "wide.onnx").write_bytes(ours().SerializeToString())
    with open_artefact(tmp_path / "wide.onnx") as wide, open_artefact(path) as narrow:
        assert "emulated" in narrow.session.name
        found = verify(
            ("wide", wide), ("half", narrow), IMAGES, score_threshold=0.001, tolerances=Tolerances(0.8, 0.9, 0.02)
        )
    assert found.passed, found.checks
    assert [side.precision for side in found.sides] == ["float32", "float16"]
    assert 0 < max(level.score_max for level in found.levels) < 0.02


def test_build_keeps_its_names(path: Path) -> None:
    with build_source(path) as source:
        assert source.info is not None
        assert source.info.class_names == NAMES
        assert source.info.precision == "float16"
        assert source.file.inputs[0].dtype == "float16"


def test_suppression_follows_it(path: Path) -> None:
    made = suppressing(half(), NmsConfig(score_threshold=0.001), subject="half.onnx")
    assert [value.name for value in made.graph.output][:2] == ["boxes_xyxy", "scores"]
    with load(made.SerializeToString()) as inside, load(path, options=FAINT) as outside:
        for image in IMAGES:
            assert len(inside(image)) == pytest.approx(len(outside(image)), rel=0.1) != 0


def test_suppression_follows_a_decoded_output_that_is_not_the_first() -> None:
    made = onnx.ModelProto()
    made.CopyFrom(ours())
    del made.metadata_props[:]
    decoded = made.graph.output[0]
    made.graph.node.append(helper.make_node("Neg", [decoded.name], ["other"]))
    other = helper.make_tensor_value_info("other", TensorProto.FLOAT, [1, 378, 8])
    first = onnx.ValueInfoProto()
    first.CopyFrom(decoded)
    del made.graph.output[:]
    made.graph.output.extend([other, first])
    with load(made.SerializeToString(), options=FAINT) as outside:
        assert outside.info.decoded_output == first.name
        with load(suppressing(made, NmsConfig(score_threshold=0.001), subject="x").SerializeToString()) as inside:
            for image in IMAGES:
                assert len(inside(image)) == len(outside(image)) > 0


def test_check_and_describe_take_it(path: Path) -> None:
    facts = read_onnx(path)
    assert facts.inputs[0].dtype == "float16"
    assert facts.parameters["float16"] > 10_000
