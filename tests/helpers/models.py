"""Small models for tests: ONNX files made by hand, and scripted sessions in the forms that the pipeline knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from yoloship.model import METADATA_KEY, ModelInfo, TensorSpec
from yoloship.runtime.scripted import ScriptedSession

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.model import OutputForm

ANCHORS = (
    ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
STRIDES = (8, 16, 32)
HW = (64, 96)
NAMES = ("alpha", "beta", "gamma")


def scale_and_shift(opset: int = 17, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """``y = 2 x + 1`` over (batch, 3) float32."""
    return model(
        [helper.make_node("Mul", ["x", "two"], ["z"]), helper.make_node("Add", ["z", "one"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        {"two": np.array(2, np.float32), "one": np.array(1, np.float32)},
        opset=opset,
        metadata=metadata,
    )


def constant_raw(raw: npt.NDArray[np.float32], hw: tuple[int, int], metadata: Mapping[str, str]) -> onnx.ModelProto:
    """A standard-form detector that answers `raw`, (1, N, 5 + C), to every image of this size."""
    return model(
        [
            helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
            helper.make_node("Mul", ["most", "zero"], ["nothing"]),
            helper.make_node("Add", ["raw", "nothing"], ["output0"]),
        ],
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *hw])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, raw.shape)],
        {"raw": raw, "zero": np.array(0, np.float32)},
        metadata=metadata,
    )


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, npt.NDArray[np.generic]],
    *,
    opset: int = 17,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """A model with these nodes and initialisers."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(proto, dict(metadata or {}))
    return proto


def random_heads(seed: int, hw: tuple[int, int], batch: int = 1, mean: float = -2.0) -> list[npt.NDArray[np.float32]]:
    """Undecoded maps of three levels with three anchors and the three classes of `NAMES`."""
    rng = np.random.default_rng(seed)
    channels = 3 * (5 + len(NAMES))
    return [
        rng.normal(mean, 2.0, (batch, channels, hw[0] // stride, hw[1] // stride)).astype(np.float32)
        for stride in STRIDES
    ]


def empty_rows(hw: tuple[int, int], columns: int = 5 + len(NAMES), anchors: int = 3) -> npt.NDArray[np.float32]:
    """Decoded rows (1, N, columns) in which nothing is found: a small box in the middle of each cell, scores of 0."""
    levels = []
    for stride in STRIDES:
        grid = np.mgrid[: hw[0] // stride, : hw[1] // stride].reshape(2, -1)[::-1].T
        rows = np.zeros((len(grid), columns), np.float32)
        rows[:, :2], rows[:, 2:4] = (grid + 0.5) * stride, 8
        levels += [rows] * anchors
    return np.concatenate(levels)[None]


def finds_a_cat(hw: tuple[int, int], names: str = "{0: 'cat', 1: 'dog'}") -> onnx.ModelProto:
    """A foreign detector of two classes that finds one object of the first in every image of this size."""
    raw = empty_rows(hw, 7)
    raw[0, 27] = (30, 20, 20, 10, 0.9, 1.0, 0.0)
    return constant_raw(raw, hw, {"names": names, "stride": "32"})


def info(output_form: OutputForm = "heads", **changes: object) -> ModelInfo:
    """A record of a model with the three classes of `NAMES` at 64×96."""
    fields: dict[str, object] = {
        "task": "detect",
        "family": "yolov5",
        "class_names": NAMES,
        "strides": STRIDES,
        "anchors": ANCHORS,
        "input_form": "image",
        "output_form": output_form,
        "input_hw": (64, 96),
        "batch": 1,
    }
    return ModelInfo(**{**fields, **changes})  # type: ignore[arg-type]  # each test names the fields that it changes


def image_session(record: ModelInfo, script: object, *, outputs: int | None = None) -> ScriptedSession:
    """A session of the input form `image` that carries `record` and answers by `script`."""
    height, width = record.input_hw
    shape = (record.batch or "batch", height or "height", width or "width", record.channels)
    count = outputs if outputs is not None else {"heads": 3, "raw": 1, "compact": 3, "nms": 5}[record.output_form]
    specs = [TensorSpec(f"out{place}", "float32", ("a", "b", "c")) for place in range(count)]
    return ScriptedSession(
        [TensorSpec("images", "uint8", shape)],
        specs,
        script,  # type: ignore[arg-type]  # a function or a list, as the test needs it
        metadata={METADATA_KEY: record.to_json()},
    )
