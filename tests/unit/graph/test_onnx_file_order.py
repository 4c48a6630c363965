"""Graphs whose nodes stand unsorted, as converters to float16 write them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from helpers.graphs import HW, foreign, ours
from helpers.models import model
from yoloship.errors import GraphError
from yoloship.graph import graph_costs, read_onnx
from yoloship.graph.onnx_file import parse_onnx, sort_nodes
from yoloship.models.building import build_source
from yoloship.models.loading import load


def shuffled(source: onnx.ModelProto, seed: int = 1) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(source)
    nodes = list(made.graph.node)
    random.Random(seed).shuffle(nodes)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_nodes_are_sorted(seed: int) -> None:
    for source in (ours(), foreign()):
        parsed = parse_onnx(shuffled(source, seed).SerializeToString(), "x.onnx")
        onnx.checker.check_model(parsed)
        assert sorted(n.SerializeToString() for n in parsed.graph.node) == sorted(
            n.SerializeToString() for n in source.graph.node
        )


def test_sorted_nodes_keep_their_places() -> None:
    before = [node.name for node in ours().graph.node]
    copy = onnx.ModelProto()
    copy.CopyFrom(ours())
    sort_nodes(copy.graph, "x")
    assert [node.name for node in copy.graph.node] == before


def test_a_circle_is_refused() -> None:
    circle = model(
        [helper.make_node("Add", ["x", "b"], ["a"], "first"), helper.make_node("Relu", ["a"], ["b"], "second")],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])],
        {},
    )
    with pytest.raises(GraphError, match=r"x\.onnx: has nodes that depend on each other in a cycle: got Add \(first\)"):
        parse_onnx(circle.SerializeToString(), "x.onnx")


def test_every_command_takes_an_unsorted_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    made = shuffled(ours())
    del made.metadata_props[:]
    made.metadata_props.add(key="names", value="['alpha', 'beta', 'gamma']")
    path.write_bytes(made.SerializeToString())
    assert read_onnx(path).operators["Conv"] > 10
    assert graph_costs(read_onnx(path).model, subject="x") == graph_costs(ours(), subject="x")
    with load(path) as detector:
        assert detector.info.strides == (8, 16, 32)
        detector(np.zeros((*HW, 3), np.uint8))
    with build_source(path) as source:
        assert source.info is not None
        assert source.info.class_names == ("alpha", "beta", "gamma")
