"""Small float32 detectors for tests of precision, ours and one as other exporters write them."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from helpers.shared import GENERATED, require
from yoloship.checkpoint import read_checkpoint
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.passes.half import KEPT_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.checkpoint import Checkpoint
    from yoloship.model import InputForm, OutputForm

HW = (64, 96)


def outputs_of(network: Checkpoint, config: GraphConfig, hw: tuple[int, int] = HW) -> list[Any]:
    """What the graph of a network gives for two random images."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph_bytes(build_graph(network, config)), options)
    images = np.random.default_rng(5).random((2, 3, *hw), np.float32)
    return list(session.run(None, {session.get_inputs()[0].name: images}))


@cache
def ours(output_form: OutputForm = "raw", input_form: InputForm = "float", name: str = "v7-yolov5n") -> onnx.ModelProto:
    """A generated checkpoint at 64×96; not to be changed."""
    checkpoint = read_checkpoint(require(GENERATED / f"{name}.pt"))
    return build_graph(checkpoint, GraphConfig(HW, 1, input_form, output_form))


def kept_layers(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The layers that a conversion left in float32, as the file's metadata lists them."""
    return tuple(json.loads(metadata.get(KEPT_KEY, "[]")))


HUGE = {
    "model.1.conv.weight": 2e4,
    "model.1.conv.bias": 2e4,
    "model.2.cv1.conv.weight": 5e-5,
    "model.2.cv2.conv.weight": 5e-5,
}
"""What comes out of one layer is too large for float16, and made small again behind it."""


def scaled(factors: dict[str, float], base: onnx.ModelProto | None = None) -> onnx.ModelProto:
    """Our detector with some stored tensors multiplied."""
    model = onnx.ModelProto()
    model.CopyFrom(base or ours())
    for tensor in model.graph.initializer:
        if tensor.name in factors:
            values = numpy_helper.to_array(tensor) * np.float32(factors[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


def foreign() -> onnx.ModelProto:
    """Weights in Constant nodes, a batch-norm, a Resize by computed sizes, an If, and a decode behind it all."""
    rng = np.random.default_rng(3)

    def constant(name: str, values: object, dtype: type) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(values, dtype), name))

    node = helper.make_node
    branches = {
        branch: helper.make_graph(
            [node("Identity", ["pooled"], [branch])], branch, [],
            [helper.make_tensor_value_info(branch, TensorProto.FLOAT, None)],
        )
        for branch in ("then_branch", "else_branch")
    }  # fmt: skip
    nodes = [
        constant("w0", rng.normal(0, 0.3, (8, 3, 3, 3)), np.float32),
        constant("w1", rng.normal(0, 0.3, (12, 8, 1, 1)), np.float32),
        constant("true", True, np.bool_),
        constant("slice_end", [2], np.int64),
        constant("slice_start", [0], np.int64),
        constant("up", [8, 8], np.int64),
        constant("grid", rng.normal(0, 200, (1, 12, 8, 8)), np.float32),
        node("Conv", ["images", "w0"], ["c0"], "first", pads=[1] * 4, strides=[2, 2]),
        node("BatchNormalization", ["c0", "gamma", "beta", "mean", "variance"], ["b0"], "norm"),
        node("Relu", ["b0"], ["r0"], "relu"),
        node("MaxPool", ["r0"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("If", ["true"], ["chosen"], "choice", **branches),
        node("Shape", ["chosen"], ["shape"], "shape"),
        node("Slice", ["shape", "slice_start", "slice_end"], ["leading"], "leading"),
        node("Concat", ["leading", "up"], ["sizes"], "sizes", axis=0),
        node("Resize", ["chosen", "", "", "sizes"], ["large"], "resize", mode="nearest"),
        node("Conv", ["large", "w1"], ["c1"], "last"),
        node("Sigmoid", ["c1"], ["s1"], "sigmoid"),
        node("Mul", ["s1", "grid"], ["output0"], "decode"),
    ]
    stored = [
        numpy_helper.from_array(values.astype(np.float32), name)
        for name, values in (
            ("gamma", rng.random(8) + 0.5), ("beta", rng.normal(size=8)), ("mean", rng.normal(size=8)),
            ("variance", rng.random(8) + 0.5),
        )
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "foreign",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 12, 8, 8])],
        stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
