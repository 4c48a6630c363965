"""Small ONNX networks for engine tests, in every arithmetic, and what is needed to build them."""

from __future__ import annotations

import importlib.util
import platform
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.shared import IN_CI
from helpers.tensorrt_library.wheels import chosen
from yoloship.engine import open_flavour
from yoloship.engine.rtx_precisions import update_hint
from yoloship.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE = 32
CHANNELS = 8
WEIGHTS = np.random.default_rng(0).standard_normal((CHANNELS, 3, 3, 3), dtype=np.float32)


def has_rtx_wheel() -> bool:
    """Whether the extra `dev` installs TensorRT-RTX on this machine; pyproject.toml has the same condition."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def require_rtx() -> None:
    """Skip if TensorRT-RTX is not installed; CI must have it if there is a wheel for the machine.

    In a process with the real bindings of TensorRT, these build instead.
    """
    if chosen() is not None:
        return
    if importlib.util.find_spec("tensorrt_rtx") is None:
        message = "tensorrt_rtx is not installed"
        if IN_CI and has_rtx_wheel():
            pytest.fail(f"{message}; CI must have it")
        pytest.skip(message)


def rtx_advice(precision: str) -> str | None:
    """What is advised if the installed TensorRT-RTX is too old for a precision; None if it is not."""
    return None if chosen() is not None else update_hint(open_flavour("rtx"), [precision])


@contextmanager
def built_or_refused(precision: str) -> Iterator[None]:
    """A build in a precision. If the installed TensorRT-RTX is too old for it, the block has to raise the refusal."""
    if (hint := rtx_advice(precision)) is None:
        yield
        return
    with pytest.raises(EngineError) as caught:
        yield
    assert caught.value.hint == hint


def network(
    nodes: list[onnx.NodeProto],
    stored: list[onnx.TensorProto] | None = None,
    *,
    batch: int | str = 1,
    side_hw: tuple[int | str, int | str] = (SIDE, SIDE),
    input_type: int = TensorProto.FLOAT,
    output_type: int = TensorProto.FLOAT,
    opset: int = 21,
) -> onnx.ModelProto:
    """A model from ``images`` (batch, 3, side, side) to ``output0`` of any shape."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", input_type, [batch, 3, *side_hw])],
        [helper.make_tensor_value_info("output0", output_type, None)],
        stored or [],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("acme", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def float_network(*, batch: int | str = 1, side_hw: tuple[int | str, int | str] = (SIDE, SIDE)) -> onnx.ModelProto:
    """A convolution and a ReLU in float32."""
    nodes = [
        helper.make_node("Conv", ["images", "weight"], ["map"], name="conv", pads=[1] * 4),
        helper.make_node("Relu", ["map"], ["output0"], name="relu"),
    ]
    return network(nodes, [numpy_helper.from_array(WEIGHTS, "weight")], batch=batch, side_hw=side_hw)


def half_network(element_type: int) -> onnx.ModelProto:
    """A convolution in float16 or bfloat16, float32 at the edges."""
    weight = helper.make_tensor("weight", element_type, WEIGHTS.shape, WEIGHTS.ravel())
    nodes = [
        helper.make_node("Cast", ["images"], ["low"], to=element_type),
        helper.make_node("Conv", ["low", "weight"], ["map"], name="conv", pads=[1] * 4),
        helper.make_node("Cast", ["map"], ["output0"], to=TensorProto.FLOAT),
    ]
    return network(nodes, [weight], opset=22)


def quantized_network(element_type: int) -> onnx.ModelProto:
    """A convolution between Q/DQ pairs of that type, scales in float32, zero points 0."""
    stored = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.05]),
        helper.make_tensor("zero", element_type, [], [0]),
        numpy_helper.from_array(WEIGHTS, "weight"),
    ]
    nodes = []
    for name in ("images", "weight"):
        nodes += [
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"], name=f"quantize_{name}"),
            helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_dq"], name=f"back_{name}"),
        ]
    nodes.append(helper.make_node("Conv", ["images_dq", "weight_dq"], ["output0"], name="conv", pads=[1] * 4))
    return network(nodes, stored)


def operator_network(operator: str, *, name: str, domain: str = "") -> onnx.ModelProto:
    """A network whose only node is that operator on the input."""
    return network([helper.make_node(operator, ["images"], ["output0"], name=name, domain=domain)])


def suppression_network() -> onnx.ModelProto:
    """ONNX's own NonMaxSuppression over constant scores."""
    scores = numpy_helper.from_array(np.zeros((1, 1, 3 * SIDE * SIDE // 4), np.float32), "scores")
    shape = numpy_helper.from_array(np.array([1, -1, 4], np.int64), "shape")
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["boxes"], name="reshape"),
        helper.make_node("NonMaxSuppression", ["boxes", "scores"], ["output0"], name="suppress"),
    ]
    return network(nodes, [scores, shape], output_type=TensorProto.INT64)


def double_network() -> onnx.ModelProto:
    """A multiplication in float64."""
    weight = numpy_helper.from_array(np.full((3, 1, 1), 0.1), "weight64")
    nodes = [
        helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["wide", "weight64"], ["product"], name="multiply"),
        helper.make_node("Cast", ["product"], ["output0"], to=TensorProto.FLOAT),
    ]
    return network(nodes, [weight])
