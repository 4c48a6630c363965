"""Suppression behind a finished graph of the raw form, whoever wrote it: `append_suppression`.

What is appended gives the boxes that the pipeline makes of the raw output: arithmetic and order are those of
`yoloship.pipeline.decode.raw_candidates`, and `yoloship.graph.suppression` follows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from yoloship._version import __version__
from yoloship.errors import GraphError
from yoloship.graph.builder import Builder
from yoloship.graph.file import opset, tensor_spec
from yoloship.graph.precision import at_opset
from yoloship.graph.search import FLOAT
from yoloship.graph.serialize import OPSET, to_onnx
from yoloship.graph.suppression import emit_suppression
from yoloship.model import METADATA_KEY, ModelInfo, NmsConfig
from yoloship.tensors import TensorSpec

if TYPE_CHECKING:
    import onnx

    from yoloship.graph.ir import Graph

_PLACE: Final = "candidates"
_INT32: Final = 6
"""onnx.TensorProto.INT32"""
_PROBE_ROWS: Final = 4096
"""Stands for the number of rows where that is open; no constant holds it."""


def append_suppression(model: onnx.ModelProto, info: ModelInfo, nms: NmsConfig) -> onnx.ModelProto:
    """Put suppression behind a graph of the raw form.

    Args:
        model: One output is (B, N, 5 + C), float32 or float16, decoded; others are dropped. Not changed.
        info: What the pipeline knows about it.
        nms: Thresholds and limits.

    Returns:
        A new model of the output form ``nms``, with our record.

    Raises:
        GraphError: it is of another form, or has values of the names that the outputs bear.
    """
    from onnx import ModelProto, helper

    subject = model.graph.name[:60] or "graph"
    named = {value.name: value for value in model.graph.output}
    spec = tensor_spec(named.get(info.decoded_output or "", model.graph.output[0]), subject)
    numbers = 5 + len(info.class_names)
    if info.output_form != "raw" or spec.dtype not in {"float32", "float16"}:
        raise GraphError(
            "suppression follows the raw form only",
            subject=subject,
            expected=f"an output float32(B, N, {numbers})",
            got=f"{info.output_form}, {spec}",
        )
    whole = ModelProto()
    whole.CopyFrom(at_opset(model, OPSET))
    graph = whole.graph
    if spec.dtype == "float16":
        wide = replace(spec, name=f"{spec.name}.{_PLACE}", dtype="float32")
        graph.node.append(helper.make_node("Cast", [spec.name], [wide.name], wide.name, to=FLOAT))
        spec = wide
    tail = at_opset(to_onnx(_tail(spec, info, nms), {}), opset(whole)).graph
    taken = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    made = {name for node in tail.node for name in node.output} | {tensor.name for tensor in tail.initializer}
    if clash := sorted(taken & made):
        raise GraphError("has a value of a name that suppression needs", subject=subject, got=clash[0][:60])
    graph.node.extend(tail.node)
    graph.initializer.extend(tail.initializer)
    del graph.output[:]
    graph.output.extend(tail.output)
    ours = replace(info, output_form="nms", nms=nms, decoded_output=None, producer=f"yoloship {__version__}")
    texts = {entry.key: entry.value for entry in model.metadata_props} | {METADATA_KEY: ours.to_json()}
    del whole.metadata_props[:]
    helper.set_model_props(whole, texts)
    return whole


def _tail(raw: TensorSpec, info: ModelInfo, nms: NmsConfig) -> Graph:
    """From the raw output to final detections, as a graph of its own whose input bears the output's name."""
    batch = raw.shape[0] if info.batch is None else info.batch
    rows = raw.shape[1] if len(raw.shape) == 3 else "boxes"
    count = rows if isinstance(rows, int) else _PROBE_ROWS
    classes = len(info.class_names)
    builder = Builder(dynamic_hw=not isinstance(rows, int))
    value = builder.input(TensorSpec(raw.name, "float32", (batch, rows, 5 + classes)), (batch, count, 5 + classes))
    sizes = builder.constant(f"{_PLACE}.sizes", (2, 2, 1, classes), "int64")
    xy, wh, objectness, each = builder.nodes(
        "Split", f"{_PLACE}.split", (value, sizes), [(batch, count, size) for size in (2, 2, 1, classes)], axis=2
    )
    half = builder.node("Mul", f"{_PLACE}.half", (wh, builder.constant(f"{_PLACE}.half.factor", 0.5)), wh.shape)
    low = builder.node("Sub", f"{_PLACE}.low", (xy, half), xy.shape)
    high = builder.node("Add", f"{_PLACE}.high", (xy, half), xy.shape)
    boxes = builder.node("Concat", f"{_PLACE}.boxes_xyxy", (low, high), (batch, count, 4), axis=2)
    scores = builder.node("Mul", f"{_PLACE}.class_scores", (each, objectness), each.shape)
    row = (batch, count)
    best = builder.node("ReduceMax", f"{_PLACE}.scores", (scores,), row, axes=(2,), keepdims=0)
    index = builder.node("ArgMax", f"{_PLACE}.argmax", (scores,), row, "int64", axis=2, keepdims=0)
    class_ids = builder.node("Cast", f"{_PLACE}.class_ids", (index,), row, "int32", to=_INT32)
    emit_suppression(builder, nms, batch, (boxes, best, class_ids))
    return builder.finish("suppression")
