"""What an ONNX file holds, found before any runtime sees it: `check_onnx`.

Parsers answer zero bytes, a web page and a truncated file with success, an empty graph, or a sentence about protobuf.
Here each gets its own line. Weights kept in other files are looked for, and never outside the model's own folder.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from yoloship.errors import GraphError, InputError
from yoloship.model import METADATA_KEY, ModelInfo
from yoloship.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

    from yoloship.tensors import Axis, DType

MAX_ONNX_BYTES = (1 << 31) - 1
"""A protobuf message can be no longer."""
_MAX_NESTING = 16
_EXPORT_HINT = "give a file that 'yoloship export' or another exporter wrote"


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


def check_onnx(path: Path) -> OnnxFacts:
    """Read an ONNX file's structure and refuse what is none.

    Args:
        path: The file; weights kept outside it are looked for beside it.

    Raises:
        GraphError: it cannot be read, is no ONNX model, is truncated, lacks a weight file, or its record is damaged.
    """
    data = _read(path)
    model = _parse(data, str(path))
    graphs = tuple(_graphs(model.graph))
    stored = [tensor for graph in graphs for tensor in graph.initializer]
    stored += [entry.t for graph in graphs for node in graph.node for entry in node.attribute if entry.HasField("t")]
    names = {tensor.name for tensor in model.graph.initializer}
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    inputs = tuple(_spec(value, str(path)) for value in model.graph.input if value.name not in names)
    outputs = tuple(_spec(value, str(path)) for value in model.graph.output)
    parameters: Counter[str] = Counter()
    for tensor in stored:
        parameters[_dtype_name(tensor.data_type)] += _elements(tensor, str(path))
    doubles = [spec.name for spec in inputs if spec.dtype == "float64"]
    doubles += [tensor.name or "a constant" for tensor in stored if _dtype_name(tensor.data_type) == "float64"]
    return OnnxFacts(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opset=max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0),
        inputs=inputs,
        outputs=outputs,
        operators=MappingProxyType(dict(sorted(Counter(map(_operator, _nodes(graphs))).items()))),
        parameters=MappingProxyType(dict(sorted(parameters.items()))),
        float64_tensors=tuple(dict.fromkeys(doubles)),
        unsigned_quantizers=_unsigned_quantizers(graphs, stored),
        external_files=_external_files(path, stored),
        metadata=MappingProxyType(metadata),
        info=_info(metadata, str(path)),
    )


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


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_ONNX_BYTES:
            raise GraphError(
                "is longer than an ONNX file can be",
                subject=str(path),
                expected=f"at most {MAX_ONNX_BYTES} bytes",
                got=str(size),
            )
        data = path.read_bytes()
    except OSError as error:
        raise GraphError(f"cannot be read: {error.strerror or error}", subject=str(path)) from error
    seems = _seems(data)
    if seems is not None:
        raise GraphError("is no ONNX model", subject=str(path), expected="ONNX", got=seems, hint=_EXPORT_HINT)
    return data


def _seems(data: bytes) -> str | None:
    """What the first bytes show where they cannot be ONNX."""
    start = data[:512].lstrip()
    if not data:
        return "an empty file (0 bytes)"
    if start[:1] == b"<" and any(tag in start.lower() for tag in (b"<!doctype", b"<html", b"<?xml")):
        return "a web page, perhaps of a failed download"
    if data.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: the file itself was not fetched"
    if data.startswith((b"PK\x03\x04", b"\x80")):
        return "a checkpoint or an archive"
    if data.startswith((b"vtrt", b"ftrt")):
        return "a TensorRT engine"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in data[:512]):
        return "text"
    return None


def _parse(data: bytes, subject: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it comes with onnx, untyped

    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise GraphError(
            "is no ONNX model, or a truncated one", subject=subject, got=str(error)[:80], hint=_EXPORT_HINT
        ) from error
    missing = [
        name
        for name, there in (
            ("nodes", model.graph.node),
            ("outputs", model.graph.output),
            ("an operator set", model.opset_import),
        )
        if not there
    ]
    if missing:
        raise GraphError("is no ONNX model", subject=subject, got=f"no {' and no '.join(missing)}", hint=_EXPORT_HINT)
    return model


def _graphs(graph: onnx.GraphProto, depth: int = 0) -> Iterator[onnx.GraphProto]:
    yield graph
    if depth >= _MAX_NESTING:
        return
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g, depth + 1)
            for inner in attribute.graphs:
                yield from _graphs(inner, depth + 1)


def _nodes(graphs: tuple[onnx.GraphProto, ...]) -> Iterator[onnx.NodeProto]:
    for graph in graphs:
        yield from graph.node


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}::{node.op_type}"


def _dtype_name(code: int) -> str:
    import onnx

    names = {value: key for key, value in onnx.TensorProto.DataType.items()}
    known = {"FLOAT": "float32", "DOUBLE": "float64", "FLOAT8E4M3FN": "float8_e4m3fn"}
    name = str(names.get(code, f"type{code}"))
    return known.get(name, name.lower())


def _elements(tensor: onnx.TensorProto, subject: str) -> int:
    count = 1
    for extent in tensor.dims:
        if not 0 <= extent <= 1 << 40:
            raise GraphError("stored tensor of an impossible shape", subject=f"{subject}: {tensor.name}")
        count *= extent
    return count


def _spec(value: onnx.ValueInfoProto, subject: str) -> TensorSpec:
    from yoloship.tensors import DTYPES

    tensor = value.type.tensor_type
    dtype: Any = _dtype_name(tensor.elem_type)
    if dtype not in DTYPES:
        raise GraphError(
            "input or output of an element type that is not supported", subject=f"{subject}: {value.name}", got=dtype
        )
    checked: DType = dtype
    axes: list[Axis] = [
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or f"axis{index}"
        for index, axis in enumerate(tensor.shape.dim)
    ]
    return TensorSpec(value.name, checked, tuple(axes))


def _unsigned_quantizers(graphs: tuple[onnx.GraphProto, ...], stored: list[onnx.TensorProto]) -> tuple[str, ...]:
    unsigned = {tensor.name for tensor in stored if _dtype_name(tensor.data_type) == "uint8"}
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


def _external_files(path: Path, stored: list[onnx.TensorProto]) -> tuple[Path, ...]:
    import onnx

    found: dict[Path, None] = {}
    for tensor in stored:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        subject = f"{path}: weight {tensor.name}"
        if not _stays_inside(location):
            raise GraphError(
                "keeps its data outside the model's folder",
                subject=subject,
                expected="a path below it",
                got=location[:80],
            )
        file = path.parent / location
        if not file.is_file():
            raise GraphError(
                "keeps its data in a file that is missing",
                subject=subject,
                got=str(file),
                hint="put it beside the model",
            )
        needed = _number(entries.get("offset")) + _number(entries.get("length"))
        if file.stat().st_size < needed:
            raise GraphError(
                "its data file is truncated",
                subject=subject,
                expected=f"{file} of at least {needed} bytes",
                got=f"{file.stat().st_size} bytes",
            )
        found[file] = None
    return tuple(found)


def _stays_inside(location: str) -> bool:
    paths = (PurePosixPath(location), PureWindowsPath(location))
    return bool(location) and not any(p.is_absolute() or p.drive or ".." in p.parts for p in paths)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 16 else 0


def _info(metadata: dict[str, str], subject: str) -> ModelInfo | None:
    if METADATA_KEY not in metadata:
        return None
    try:
        return ModelInfo.from_json(metadata[METADATA_KEY], subject=subject)
    except InputError as error:
        raise GraphError(error.problem, subject=subject, expected=error.expected, got=error.got) from error


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
