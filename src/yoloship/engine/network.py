"""The network as TensorRT understood it, and what it says about its own types."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from yoloship.engine.log import tidy
from yoloship.errors import EngineError
from yoloship.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from yoloship.engine.config import Target
    from yoloship.engine.flavours import Flavour
    from yoloship.engine.log import Messages
    from yoloship.model import Precision
    from yoloship.tensors import Axis, DType

_DTYPES: Mapping[str, DType] = MappingProxyType(
    {
        "FLOAT": "float32",
        "HALF": "float16",
        "BF16": "bfloat16",
        "INT8": "int8",
        "UINT8": "uint8",
        "INT32": "int32",
        "INT64": "int64",
        "BOOL": "bool",
        "FP8": "float8_e4m3fn",
    }
)
"""TensorRT's element types by their usual names."""

_MARKS: Mapping[Precision, str] = MappingProxyType(
    {"float16": "float16", "bfloat16": "bfloat16", "int8": "int8", "float8": "float8_e4m3fn"}
)
"""The element type that a network of that precision must contain."""

_LACKING: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "float8_e4m3fn": frozenset({"sm75", "sm80", "sm86"}),
        "bfloat16": frozenset({"sm75"}),
    }
)
"""Targets without the arithmetic: measured, TensorRT-RTX 1.7.1.116 fails to compile for them."""

_LEAST: Mapping[Precision, str] = MappingProxyType({"float8": "sm89", "bfloat16": "sm80"})
"""The first compute capability that has the arithmetic."""

_NO_MODEL_HINT = "give a file that `yoloship export` or another exporter wrote"


def parse_network(flavour: Flavour, builder: Any, logger: Any, onnx: Path, messages: Messages) -> Any:
    """Parse an ONNX file into a strongly typed network.

    The parser holds no reference to its network: the caller keeps the network alive, or the process ends.

    Raises:
        EngineError: it is not an ONNX model, or holds what TensorRT cannot take; the node is named.
    """
    module = flavour.module
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = module.OnnxParser(network, logger)
    try:
        parsed = parser.parse_from_file(str(onnx))
    except TypeError as error:  # its bindings take text that is valid Unicode
        raise EngineError(
            "has a name that is not valid UTF-8, which TensorRT cannot open", subject=str(onnx), hint="rename it"
        ) from error
    if not parsed:
        raise _parser_error(parser, messages, subject=str(onnx))
    if network.num_layers == 0 or network.num_inputs == 0 or network.num_outputs == 0:
        raise EngineError(
            "is not an ONNX model",
            subject=str(onnx),
            expected="a graph with inputs, layers and outputs",
            got=f"{network.num_inputs} inputs, {network.num_layers} layers, {network.num_outputs} outputs",
            hint=_NO_MODEL_HINT,
        )
    for text in messages.warnings:
        if "Defaulting to INT8" in text:
            raise EngineError(
                "quantizes to UINT8, which TensorRT reads as INT8: half of the range would be lost",
                subject=str(onnx),
                hint="quantize activations and weights to signed INT8, symmetric",
            )
    _refuse_lost_layers(flavour, network, subject=str(onnx))
    return network


def _refuse_lost_layers(flavour: Flavour, network: Any, *, subject: str) -> None:
    """NonMaxSuppression parses on TensorRT-RTX, and no target has an implementation (measured with 1.7.1.116)."""
    if flavour.name != "rtx":
        return
    kind = getattr(flavour.module.LayerType, "NMS", None)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if kind is not None and layer.type == kind:
            raise EngineError(
                f"TensorRT-RTX cannot take operator NonMaxSuppression (layer {layer.name})",
                subject=subject,
                hint="export it with --output raw, heads or nms, which need no such operator",
            )


def tensor_specs(network: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a network, in its order."""
    inputs = tuple(_spec(network.get_input(index)) for index in range(network.num_inputs))
    outputs = tuple(_spec(network.get_output(index)) for index in range(network.num_outputs))
    return inputs, outputs


def network_dtypes(network: Any) -> frozenset[str]:
    """Element types of all tensors that layers give out, by their usual names."""
    found = set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for output in range(layer.num_outputs):
            found.add(dtype_of(layer.get_output(output).dtype))
    return frozenset(found)


def dtype_of(data_type: Any) -> str:
    """A TensorRT DataType by its usual name; TensorRT's own, in small letters, where it has none."""
    name: str = data_type.name
    return _DTYPES.get(name, name.lower())


def check_precision(claimed: Precision, dtypes: frozenset[str], *, subject: str) -> None:
    """Refuse a network that does not contain the precision it is named after.

    Raises:
        EngineError: it has no tensor of that type; an FP32 engine would be named FP16.
    """
    mark = _MARKS.get(claimed)
    if mark is not None and mark not in dtypes:
        raise EngineError(
            f"claims {claimed}, but its graph has no tensor of that type",
            subject=subject,
            expected=mark,
            got=", ".join(sorted(dtypes)),
            hint="export it again with the precision wanted",
        )


def check_targets(targets: tuple[Target, ...], dtypes: frozenset[str], *, subject: str) -> None:
    """Refuse targets that lack an arithmetic which the graph uses.

    Raises:
        EngineError: one does; the targets that have it are named.
    """
    for dtype, lacking in _LACKING.items():
        if dtype in dtypes and (bad := [target for target in targets if target in lacking]):
            least = next(least for precision, least in _LEAST.items() if _MARKS[precision] == dtype)
            raise EngineError(
                f"holds {dtype}, which {', '.join(bad)} cannot compute",
                subject=subject,
                expected=f"targets from {least} on",
                got=", ".join(targets),
                hint="drop that target, or export another precision",
            )


def check_precision_targets(precision: Precision, targets: Sequence[str]) -> None:
    """Refuse GPUs that lack the arithmetic of a precision, before there is a graph.

    Args:
        precision: What the network's body is to compute in.
        targets: Compute capabilities such as ``sm86``; other words say nothing.

    Raises:
        EngineError: one lacks it.
    """
    lacking = _LACKING.get(_MARKS.get(precision, ""), frozenset())
    if bad := [target for target in targets if target in lacking]:
        raise EngineError(
            f"cannot compute {precision}",
            subject=f"target {', '.join(bad)}",
            expected=f"{_LEAST[precision]} or newer",
            hint="leave that target out, or choose another precision",
        )


def _spec(tensor: Any) -> TensorSpec:
    axes: list[Axis] = []
    for index, extent in enumerate(tuple(tensor.shape)):
        axes.append(extent if extent >= 0 else tensor.get_dimension_name(index) or f"{tensor.name}_axis{index}")
    name = tensor.dtype.name
    dtype = _DTYPES.get(name)
    if dtype is None:
        raise EngineError("has an element type unknown here", subject=tensor.name, got=name)
    return TensorSpec(tensor.name, dtype, tuple(axes))


def _parser_error(parser: Any, messages: Messages, *, subject: str) -> EngineError:
    """The parser's first complaint, with the node's own name: its description may be no more than "false"."""
    for _, text in messages.heard:
        if "Failed to open file: " in text:
            path = text.rpartition("Failed to open file: ")[2].strip()
            return EngineError(
                "keeps its weights in another file, which is missing",
                subject=subject,
                expected=path,
                hint="put that file beside it",
            )
    if parser.num_errors == 0:
        return EngineError(f"TensorRT cannot read it: {messages.first_error or 'no reason given'}", subject=subject)
    error = parser.get_error(0)
    code, described = str(getattr(error.code(), "name", error.code())), tidy(error.desc())
    if code == "MODEL_DESERIALIZE_FAILED":
        return EngineError("is not an ONNX model, or is cut short", subject=subject, got=described, hint=_NO_MODEL_HINT)
    operator, node_name = error.node_operator(), error.node_name()
    if not operator:
        return EngineError(f"TensorRT cannot read it: {described}", subject=subject)
    return EngineError(
        f"TensorRT cannot take operator {operator} (node {error.node()}, {node_name or 'without a name'}): "
        f"{code}, {described}",
        subject=subject,
    )
