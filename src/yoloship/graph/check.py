"""What an ONNX file holds, and whether it is sound, checked before any runtime opens it: `read_onnx`.

Given an empty file, a web page or a truncated file, parsers report success, an empty graph, or an error about protobuf.
Here each of these gets a clear message. Weights in other files are looked for in the model's own folder only.

TensorRT's parser ends the whole process on some unsound graphs (measured with TensorRT-RTX 1.7.1.116: a node without
outputs). ONNX's own check of a whole model refuses files that are in common use: outputs without a stated shape, which
every runtime accepts. So its checks of single nodes and tensors are used, and names are followed by our own code.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from yoloship._util.reading import open_regular
from yoloship.errors import GraphError, InputError
from yoloship.graph.onnx_file import (
    MAX_NESTING,
    all_graphs,
    dtype_name,
    element_count,
    opset,
    parse_onnx,
    producer,
    read_file,
    read_metadata,
    read_model_info,
    stays_inside,
    tensor_spec,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import onnx

    from yoloship.model import ModelInfo, TensorSpec


def check_sound(model: onnx.ModelProto, subject: str) -> None:
    """Refuse a graph that contradicts itself.

    Args:
        model: The parsed model. Weights in other files need not exist.
        subject: The file, for messages.

    Raises:
        GraphError: an operator lacks an input, an output or an attribute, a stored tensor's bytes do not fit its
            shape, or a name is used that nothing defines.
    """
    from onnx import checker

    context = checker.DEFAULT_CONTEXT.__class__()
    context.ir_version = model.ir_version
    context.opset_imports = {entry.domain: entry.version for entry in model.opset_import}
    _check_graph(model.graph, context, frozenset(), subject, 0)


def _check_graph(graph: onnx.GraphProto, context: Any, outer: frozenset[str], subject: str, depth: int) -> None:
    if depth > MAX_NESTING:
        raise GraphError("nests its graphs too deeply", subject=subject, expected=f"at most {MAX_NESTING} levels")
    known = set(outer) | {value.name for value in graph.input}
    for tensor in graph.initializer:
        _check_tensor(tensor, context, subject)
        known.add(tensor.name)
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    for index, node in enumerate(graph.node):
        place = f"{subject}: node {index} ({node.op_type[:40]}, {node.name[:60] or 'without a name'})"
        if missing := [name for name in node.input if name and name not in known]:
            raise GraphError("uses a value that nothing before it defines", subject=place, got=repr(missing[0])[:60])
        if not any(node.output):
            raise GraphError("has no output", subject=place)
        branches = [inner for attribute in node.attribute for inner in _branches(attribute)]
        for inner in branches:
            _check_graph(inner, context, frozenset(known), subject, depth + 1)
        if not branches:  # ONNX's check of a node does not know which outer values its branches may use
            _check_node(node, context, place)
        known.update(name for name in node.output if name)
    if lost := [value.name for value in graph.output if value.name not in known]:
        raise GraphError("names an output that nothing defines", subject=subject, got=repr(lost[0])[:60])


def _branches(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _check_node(node: onnx.NodeProto, context: Any, place: str) -> None:
    from onnx import checker

    try:
        checker.check_node(node, context)
    except (checker.ValidationError, ValueError) as error:
        raise GraphError("does not fit its operator", subject=place, got=_first_line(error)) from error


def _check_tensor(tensor: onnx.TensorProto, context: Any, subject: str) -> None:
    import onnx
    from onnx import checker

    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return
    try:
        checker.check_tensor(tensor, context)
    except (checker.ValidationError, ValueError) as error:
        raise GraphError(
            "stored tensor is damaged", subject=f"{subject}: {tensor.name[:60]}", got=_first_line(error)
        ) from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())[:160]


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """An ONNX file, parsed once, and what it says about itself.

    Attributes:
        path: The file.
        model: As parsed, its nodes in an order in which they can run. It is shared: copy it before changing it.
        sha256: SHA-256 of its bytes, lower-case hex. Files beside it do not count.
        producer: Who wrote it.
        opset: The version of the standard operators.
        ir_version: Version of the format.
        inputs: Those that a caller feeds, in the file's order.
        outputs: In the file's order.
        operators: How often each occurs, subgraphs included; ``domain::Name`` outside the standard.
        parameters: Elements of stored tensors by element type.
        float64_tensors: Names of inputs and stored tensors of that type.
        unsigned_quantizers: Names of Q/DQ nodes whose zero point is uint8.
        external_files: Files beside it that hold weights; they exist and are long enough.
        metadata: Its own keys and texts; untrusted.
        info: Our model record from the metadata; None if another program wrote the file.
    """

    path: Path
    model: onnx.ModelProto = field(repr=False, compare=False)
    sha256: str
    producer: str
    opset: int
    ir_version: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    parameters: Mapping[str, int]
    float64_tensors: tuple[str, ...]
    unsigned_quantizers: tuple[str, ...]
    external_files: tuple[Path, ...]
    metadata: Mapping[str, str]
    info: ModelInfo | None

    @classmethod
    def of(cls, model: onnx.ModelProto, data: bytes, path: Path) -> OnnxFile:
        """The record of a model that was parsed, or that we wrote ourselves; its structure is not checked.

        Args:
            model: The parsed bytes.
            data: The file's bytes.
            path: The file; weights kept outside it are looked for beside it.

        Raises:
            GraphError: an input, an output or a stored tensor is of an impossible type or shape, a weight file is
                missing or too short, or our record in it is damaged.
        """
        graphs = tuple(all_graphs(model.graph))
        stored = _stored(graphs)
        weights = {tensor.name for tensor in model.graph.initializer}
        metadata = read_metadata(model)
        inputs = tuple(tensor_spec(value, str(path)) for value in model.graph.input if value.name not in weights)
        parameters: Counter[str] = Counter()
        for tensor in stored:
            parameters[dtype_name(tensor.data_type)] += element_count(tensor, str(path))
        doubles = [spec.name for spec in inputs if spec.dtype == "float64"]
        doubles += [tensor.name or "a constant" for tensor in stored if dtype_name(tensor.data_type) == "float64"]
        return cls(
            path=path,
            model=model,
            sha256=hashlib.sha256(data).hexdigest(),
            producer=producer(model),
            opset=opset(model),
            ir_version=model.ir_version,
            inputs=inputs,
            outputs=tuple(tensor_spec(value, str(path)) for value in model.graph.output),
            operators=MappingProxyType(dict(sorted(Counter(map(_operator, _nodes(graphs))).items()))),
            parameters=MappingProxyType(dict(sorted(parameters.items()))),
            float64_tensors=tuple(dict.fromkeys(doubles)),
            unsigned_quantizers=_unsigned_quantizers(graphs, stored),
            external_files=checked_external_files(path, stored),
            metadata=MappingProxyType(metadata),
            info=read_model_info(metadata, str(path)),
        )


def read_onnx(path: Path) -> OnnxFile:
    """Read an ONNX file, and refuse one whose structure is not sound.

    Args:
        path: The file; weights kept outside it are looked for beside it.

    Raises:
        GraphError: it cannot be read, is not an ONNX model, is truncated, lacks a weight file, or its record is
            damaged.
    """
    data = read_file(path)
    model = parse_onnx(data, str(path))
    check_sound(model, str(path))
    return OnnxFile.of(model, data, path)


def external_files(path: Path) -> tuple[Path, ...]:
    """Where an ONNX file says that its weights are, whether these files exist or not.

    Raises:
        GraphError: it cannot be read, or is not ONNX.
    """
    import onnx

    graphs = tuple(all_graphs(parse_onnx(read_file(path), str(path)).graph))
    entries = (
        entry
        for tensor in _stored(graphs)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location" and entry.value
    )
    return tuple({path.parent / entry.value: None for entry in entries})


def refuse_for_tensorrt(file: OnnxFile) -> None:
    """Refuse what TensorRT would take and silently turn into something else (measured: TensorRT-RTX 1.7.1.116).

    Raises:
        GraphError: float64 tensors, which become float32; uint8 quantizers, which become int8.
    """
    if file.float64_tensors:
        raise GraphError(
            "holds float64 tensors, which TensorRT turns into float32 in silence",
            subject=str(file.path),
            expected="float32 or less",
            got=_listed(file.float64_tensors),
            hint="export it in float32",
        )
    if file.unsigned_quantizers:
        raise GraphError(
            "quantizes to uint8, which TensorRT reads as int8: half of the range would be lost",
            subject=str(file.path),
            expected="int8 zero points of 0",
            got=_listed(file.unsigned_quantizers),
            hint="quantize activations and weights to signed INT8, symmetric",
        )


def _nodes(graphs: tuple[onnx.GraphProto, ...]) -> Iterator[onnx.NodeProto]:
    for graph in graphs:
        yield from graph.node


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}::{node.op_type}"


def _unsigned_quantizers(graphs: tuple[onnx.GraphProto, ...], stored: list[onnx.TensorProto]) -> tuple[str, ...]:
    unsigned = {tensor.name for tensor in stored if dtype_name(tensor.data_type) == "uint8"}
    return tuple(node.name or node.output[0] for node in _nodes(graphs) if _quantizes_unsigned(node, unsigned))


def _quantizes_unsigned(node: onnx.NodeProto, unsigned: set[str]) -> bool:
    """Without a zero point QuantizeLinear gives uint8 (ONNX operators, QuantizeLinear)."""
    if node.op_type not in {"QuantizeLinear", "DequantizeLinear"} or not node.input:
        return False
    if len(node.input) > 2 and node.input[2]:
        return node.input[2] in unsigned
    if node.op_type == "DequantizeLinear":
        return node.input[0] in unsigned
    return not any(attribute.name == "output_dtype" and attribute.i for attribute in node.attribute)


def _stored(graphs: Sequence[onnx.GraphProto]) -> list[onnx.TensorProto]:
    """Every tensor that a model stores, in the file itself or in another one."""
    stored = [tensor for graph in graphs for tensor in graph.initializer]
    return stored + [
        entry.t for graph in graphs for node in graph.node for entry in node.attribute if entry.HasField("t")
    ]


def checked_external_files(path: Path, stored: list[onnx.TensorProto]) -> tuple[Path, ...]:
    """The files beside a model that hold its weights.

    Args:
        path: The model's file.
        stored: Its tensors.

    Raises:
        GraphError: one lies outside the model's folder, is missing, or is too short.
    """
    import onnx

    found: dict[Path, None] = {}
    for tensor in stored:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        subject = f"{path}: weight {tensor.name}"
        if not stays_inside(location):
            raise GraphError(
                "keeps its data outside the model's folder",
                subject=subject,
                expected="a path below it",
                got=location[:80],
            )
        file = path.parent / location
        _check_beside(path, file, subject)
        needed = _number(entries.get("offset")) + _number(entries.get("length"))
        try:
            with open_regular(file, error=GraphError, wanted="the data of an ONNX model") as opened:
                size = os.fstat(opened.fileno()).st_size
        except InputError as error:  # the model names the file, not the caller
            raise GraphError(error.problem, subject=error.subject, hint=error.hint) from error
        if size < needed:
            raise GraphError(
                "its data file is truncated",
                subject=subject,
                expected=f"{file} of at least {needed} bytes",
                got=f"{size} bytes",
            )
        found[file] = None
    return tuple(found)


def _check_beside(path: Path, file: Path, subject: str) -> None:
    """Refuse data that is missing, or that a link leads to outside the folder of the model or of the model's target."""
    try:
        real = file.resolve(strict=True)
        folders = {path.parent.resolve(), path.resolve().parent}
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise GraphError(
            "keeps its data in a file that is missing", subject=subject, got=str(file), hint="put it beside the model"
        ) from error
    if not any(real.is_relative_to(folder) for folder in folders):
        raise GraphError(
            "keeps its data outside the model's folder, behind a link",
            subject=subject,
            got=f"{file} -> {real}",
            hint="copy the data file beside the model",
        )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 16 else 0


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
