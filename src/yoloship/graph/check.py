"""What an ONNX file holds, found before any runtime sees it: `check_onnx`.

Parsers answer zero bytes, a web page and a truncated file with success, an empty graph, or a sentence about protobuf.
Here each gets its own line. Weights kept in other files are looked for, and never outside the model's own folder.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship._util.reading import open_regular
from yoloship.errors import GraphError
from yoloship.graph.file import (
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
from yoloship.graph.soundness import check_sound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import onnx

    from yoloship.model import ModelInfo
    from yoloship.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class OnnxFacts:
    """What an ONNX file says about itself.

    Attributes:
        path: The file.
        sha256: Of its bytes, lower-case hex; files beside it not included.
        producer: Who wrote it.
        opset: Of the standard operators.
        inputs: Those that a caller feeds, in the file's order.
        outputs: In the file's order.
        operators: How often each occurs, subgraphs included; ``domain::Name`` outside the standard.
        parameters: Elements of stored tensors by element type.
        float64_tensors: Names of inputs and stored tensors of that type.
        unsigned_quantizers: Names of Q/DQ nodes whose zero point is uint8.
        external_files: Files beside it that hold weights; they exist and are long enough.
        metadata: Its own keys and texts; untrusted.
        info: Our model record out of the metadata; None in a foreign file.
    """

    path: Path
    sha256: str
    producer: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    parameters: Mapping[str, int]
    float64_tensors: tuple[str, ...]
    unsigned_quantizers: tuple[str, ...]
    external_files: tuple[Path, ...]
    metadata: Mapping[str, str]
    info: ModelInfo | None


def check_onnx(path: Path, data: bytes | None = None) -> OnnxFacts:
    """Read an ONNX file's structure and refuse what is none.

    Args:
        path: The file; weights kept outside it are looked for beside it.
        data: Its bytes, if they have been read already.

    Raises:
        GraphError: it cannot be read, is no ONNX model, is truncated, lacks a weight file, or its record is damaged.
    """
    data = read_file(path) if data is None else data
    model = parse_onnx(data, str(path))
    check_sound(model, str(path))
    graphs = tuple(all_graphs(model.graph))
    stored = _stored(graphs)
    names = {tensor.name for tensor in model.graph.initializer}
    metadata = read_metadata(model)
    inputs = tuple(tensor_spec(value, str(path)) for value in model.graph.input if value.name not in names)
    outputs = tuple(tensor_spec(value, str(path)) for value in model.graph.output)
    parameters: Counter[str] = Counter()
    for tensor in stored:
        parameters[dtype_name(tensor.data_type)] += element_count(tensor, str(path))
    doubles = [spec.name for spec in inputs if spec.dtype == "float64"]
    doubles += [tensor.name or "a constant" for tensor in stored if dtype_name(tensor.data_type) == "float64"]
    return OnnxFacts(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        producer=producer(model),
        opset=opset(model),
        inputs=inputs,
        outputs=outputs,
        operators=MappingProxyType(dict(sorted(Counter(map(_operator, _nodes(graphs))).items()))),
        parameters=MappingProxyType(dict(sorted(parameters.items()))),
        float64_tensors=tuple(dict.fromkeys(doubles)),
        unsigned_quantizers=_unsigned_quantizers(graphs, stored),
        external_files=checked_external_files(path, stored),
        metadata=MappingProxyType(metadata),
        info=read_model_info(metadata, str(path)),
    )


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


def refuse_for_tensorrt(facts: OnnxFacts) -> None:
    """Refuse what TensorRT would take and silently turn into something else (measured: TensorRT-RTX 1.7.1.116).

    Raises:
        GraphError: float64 tensors, which become float32; uint8 quantizers, which become int8.
    """
    if facts.float64_tensors:
        raise GraphError(
            "holds float64 tensors, which TensorRT turns into float32 in silence",
            subject=str(facts.path),
            expected="float32 or less",
            got=_listed(facts.float64_tensors),
            hint="export it in float32",
        )
    if facts.unsigned_quantizers:
        raise GraphError(
            "quantizes to uint8, which TensorRT reads as int8: half of the range would be lost",
            subject=str(facts.path),
            expected="int8 zero points of 0",
            got=_listed(facts.unsigned_quantizers),
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
    """Every tensor that a model stores, or whose data it says to be elsewhere."""
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
        with open_regular(file, error=GraphError, wanted="the data of an ONNX model") as opened:
            size = os.fstat(opened.fileno()).st_size
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
    """Refuse data that is missing, or that links lead out of the folder of the model or of what the model links to."""
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
