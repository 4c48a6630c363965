"""ONNX files: writing a model as bytes, parsing untrusted bytes, and the element types that NumPy lacks.

Nodes are sorted when a file is read. The format requires sorted nodes, but converters to float16 append their casts at
the end, and ONNX Runtime and TensorRT sort such graphs silently.

Numbers are rounded to nearest, ties to even, like the ONNX operators Cast and QuantizeLinear.
"""

from __future__ import annotations

from collections import deque
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from yoloship._util.reading import read_bounded
from yoloship.bounds.outline import BFLOAT16
from yoloship.errors import GraphError, InputError
from yoloship.kinds import damaged_onnx, refuse_others
from yoloship.model import METADATA_KEY, ModelInfo, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt
    import onnx

    from yoloship.model import Axis, DType

    Floats = npt.NDArray[np.float32]
    Model: TypeAlias = onnx.ModelProto

FLOAT8_MAX: Final = 448.0
"""Largest finite value of E4M3FN (Micikevicius et al., FP8 Formats for Deep Learning, 2022, table 1)."""
MAX_ONNX_BYTES = (1 << 31) - 1
"""The longest protobuf message."""
MAX_METADATA_ENTRIES = 10_000
MAX_PARSED_NODES = 100_000
"""Each node takes 15 µs to look at. The largest official detectors have 1,500."""
MAX_NESTING = 16
"""How deep graphs in nodes in graphs may go."""
MAX_PRODUCER_CHARS = 200
MAX_RANK = 64
MAX_EXTENT = 1 << 40
"""The longest axis of a stored tensor."""
_EXPORT_HINT = "give a file that 'yoloship export' or another exporter wrote"


def sort_nodes(graph: onnx.GraphProto, subject: str) -> None:
    """Sort a graph's nodes in place. Nodes that are in order already keep their places.

    Args:
        graph: The parsed graph. Values that no node in it makes count as known: they come from outside, or are missing.
        subject: The file, for messages.

    Raises:
        GraphError: nodes wait for each other in a circle.
    """
    needs = [_needed(node) for node in graph.node]
    maker = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    if all(maker.get(name, -1) < place for place, names in enumerate(needs) for name in names):
        return
    waiting = [0] * len(needs)
    takers: dict[int, list[int]] = {}
    for place, names in enumerate(needs):
        for source in {maker[name] for name in names if name in maker}:
            waiting[place] += 1
            takers.setdefault(source, []).append(place)
    ready = deque(place for place, count in enumerate(waiting) if count == 0)
    order = []
    while ready:
        place = ready.popleft()
        order.append(place)
        for taker in takers.get(place, ()):
            waiting[taker] -= 1
            if waiting[taker] == 0:
                ready.append(taker)
    if len(order) < len(needs):
        stuck = graph.node[next(place for place, count in enumerate(waiting) if count)]
        raise GraphError(
            "has nodes that depend on each other in a cycle",
            subject=subject,
            got=f"{stuck.op_type[:40]} ({stuck.name[:60] or 'without a name'})",
        )
    nodes = [graph.node[place] for place in order]
    copies = [type(node)() for node in nodes]
    for copy, node in zip(copies, nodes, strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)


def _needed(node: onnx.NodeProto) -> set[str]:
    """Names of the values that a node or its branches take from the graph around it."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for branch in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            made = {name for inner in branch.node for name in inner.output}
            for inner in branch.node:
                names |= _needed(inner) - made
            names |= {value.name for value in branch.output} - made
    return names


def stored_values(tensor: onnx.TensorProto) -> npt.NDArray[np.generic]:
    """The elements of a stored tensor; bfloat16 is widened to float32.

    Args:
        tensor: A tensor with its data inside the model file.

    Returns:
        An array of the tensor's shape; it may be a read-only view of its bytes.

    Raises:
        GraphError: there are more or fewer elements than its shape says, or its element type cannot be read.
    """
    from onnx import numpy_helper

    try:
        if tensor.data_type == BFLOAT16 and tensor.raw_data:
            bits = np.frombuffer(tensor.raw_data, "<u2").astype(np.uint32) << np.uint32(16)
            values: npt.NDArray[np.generic] = bits.view(np.float32).reshape(tuple(tensor.dims))
            return values
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise GraphError(
            "a stored tensor is damaged",
            subject=tensor.name or "stored tensor",
            expected=f"elements for the shape {tuple(tensor.dims)}",
            got=str(error)[:120],
            hint="export the model again",
        ) from error


def bfloat16_bits(values: Floats) -> npt.NDArray[np.uint16]:
    """Round float32 values to bfloat16. A value that rounds beyond the largest becomes infinite.

    Args:
        values: Float32 of any shape, finite; read only.

    Returns:
        The upper 16 bits of each, of the same shape; the caller owns them.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    halves: npt.NDArray[np.uint16] = ((bits + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype(np.uint16)
    return halves


def float8_bits(values: Floats) -> npt.NDArray[np.uint8]:
    """Round values to E4M3FN. Values beyond the largest finite one become the largest.

    Args:
        values: Float32 of any shape; read only.

    Returns:
        The code of each, of the same shape; the caller owns them.
    """
    magnitude = np.abs(values.astype(np.float64))
    upper = np.clip(np.searchsorted(_POSITIVE, magnitude), 0, len(_POSITIVE) - 1)
    lower = np.maximum(upper - 1, 0)
    down, up = magnitude - _POSITIVE[lower], _POSITIVE[upper] - magnitude
    take_lower = (down < up) | ((down == up) & (lower % 2 == 0))
    codes = np.where(magnitude >= FLOAT8_MAX, len(_POSITIVE) - 1, np.where(take_lower, lower, upper))
    return (codes + np.where(np.signbit(values), 0x80, 0)).astype(np.uint8)


def float8_values(codes: npt.NDArray[np.uint8]) -> Floats:
    """The values of E4M3FN codes other than NaN, in the shape of the codes; the caller owns them."""
    sign = np.where(codes & 0x80, -1.0, 1.0)
    values: Floats = (sign * _POSITIVE[codes & 0x7F]).astype(np.float32)
    return values


def _positive() -> npt.NDArray[np.float64]:
    """Values of the codes 0 to 126: bias 7, three bits of mantissa, subnormals, no infinity; 127 is NaN."""
    codes = np.arange(127)
    exponent, mantissa = codes >> 3, codes & 7
    return np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))


_POSITIVE: Final = _positive()


def graph_bytes(model: onnx.ModelProto) -> bytes:
    """The bytes of a model's file. The same model always gives the same bytes."""
    return bytes(model.SerializeToString(deterministic=True))


def read_file(path: Path) -> bytes:
    """The bytes of a file that may be ONNX.

    Raises:
        GraphError: it cannot be read, or is longer than ONNX can be.
    """
    return read_bounded(path, MAX_ONNX_BYTES, error=GraphError, wanted="an ONNX model")


def parse_onnx(data: bytes, subject: str) -> onnx.ModelProto:
    """Parse untrusted bytes. Weights in other files are not read.

    Args:
        data: The whole file.
        subject: Its name, for messages.

    Returns:
        A model with nodes, outputs and an operator set. Its nodes are in an order in which they can run. Nothing else
        about it has been checked.

    Raises:
        GraphError: the bytes are not an ONNX model, or are damaged.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it comes with onnx, untyped
    from onnx import ModelProto

    refuse_others(data, frozenset({"onnx", "unknown"}), "onnx", subject=subject, error=GraphError)
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        raise damaged_onnx(subject, error=GraphError) from error
    parts = (
        ("nodes", model.graph.node),
        ("outputs", model.graph.output),
        ("operator set", model.opset_import),
    )
    missing = [name for name, there in parts if not there]
    if missing:
        raise GraphError("is not an ONNX model", subject=subject, got=f"no {', no '.join(missing)}", hint=_EXPORT_HINT)
    if (count := sum(len(graph.node) for graph in all_graphs(model.graph))) > MAX_PARSED_NODES:
        raise GraphError(
            "has too many nodes for a detector",
            subject=subject,
            expected=f"at most {MAX_PARSED_NODES:,}",
            got=f"{count:,}",
        )
    if not all(isinstance(text, str) for text in _texts(model)):  # protobuf gives bytes if they are not UTF-8
        raise GraphError("is a damaged ONNX model: a name in it is not text", subject=subject)
    for graph in tuple(all_graphs(model.graph)):
        _refuse_shared_names(graph, subject)
        sort_nodes(graph, subject)
        attributes = (entry.t for node in graph.node for entry in node.attribute)
        if any(len(tensor.dims) > MAX_RANK for tensor in (*graph.initializer, *attributes)):
            raise GraphError("stores a tensor of an impossible shape", subject=subject, expected=f"{MAX_RANK} axes")
    return model


def _refuse_shared_names(graph: onnx.GraphProto, subject: str) -> None:
    """Refuse two values of the same name, because each runtime would use a different one."""
    seen = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for name in (name for node in graph.node for name in node.output if name):
        if name in seen:
            raise GraphError(
                "has two values with the same name", subject=subject, got=repr(name[:80]), hint="export the model again"
            )
        seen.add(name)


def _texts(model: onnx.ModelProto) -> Iterator[object]:
    """Every text in a model that this package reads."""
    yield from (model.producer_name, model.producer_version)
    yield from (entry.domain for entry in model.opset_import)
    for prop in model.metadata_props:
        yield from (prop.key, prop.value)
    for graph in all_graphs(model.graph):
        for value in (*graph.input, *graph.output):
            yield value.name
            yield from (axis.dim_param for axis in value.type.tensor_type.shape.dim)
        for tensor in graph.initializer:
            yield tensor.name
            for entry in tensor.external_data:
                yield from (entry.key, entry.value)
        for node in graph.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
            for attribute in node.attribute:
                yield from (attribute.name, attribute.t.name)


def all_graphs(graph: onnx.GraphProto, depth: int = 0) -> Iterator[onnx.GraphProto]:
    """A graph and the graphs inside its nodes."""
    yield graph
    if depth >= MAX_NESTING:
        return
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_graphs(attribute.g, depth + 1)
            for inner in attribute.graphs:
                yield from all_graphs(inner, depth + 1)


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a model asks for; 0 if it uses none of them."""
    return max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0)


def producer(model: onnx.ModelProto) -> str:
    """The program that wrote the model, with its version; may be empty."""
    return f"{model.producer_name[:MAX_PRODUCER_CHARS]} {model.producer_version[:MAX_PRODUCER_CHARS]}".strip()


def read_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """Untrusted keys and texts embedded in a model. If a key occurs twice, the first text counts."""
    entries: dict[str, str] = {}
    for entry in model.metadata_props[:MAX_METADATA_ENTRIES]:
        entries.setdefault(entry.key, entry.value)
    return entries


def read_model_info(metadata: Mapping[str, str], subject: str) -> ModelInfo | None:
    """Our model record from a model's metadata; None if there is none.

    Raises:
        GraphError: the record is damaged.
    """
    text = metadata.get(METADATA_KEY)
    if text is None:
        return None
    try:
        return ModelInfo.from_json(text, subject=subject)
    except InputError as error:
        raise GraphError(
            error.problem, subject=subject, expected=error.expected, got=error.got, hint=error.hint
        ) from error


def dtype_name(code: int) -> str:
    """The usual name of an onnx.TensorProto element type; ``type99`` for a number without a name."""
    import onnx

    try:
        name = str(onnx.TensorProto.DataType.Name(code))
    except ValueError:
        return f"type{code}"
    known = {"FLOAT": "float32", "DOUBLE": "float64", "FLOAT8E4M3FN": "float8_e4m3fn"}
    return known.get(name, name.lower())


def tensor_spec(value: onnx.ValueInfoProto, subject: str) -> TensorSpec:
    """An input or output as a `TensorSpec`. Axes without a name are named by their position.

    Raises:
        GraphError: no session can take its element type.
    """
    from yoloship.model import DTYPES

    tensor = value.type.tensor_type
    name = dtype_name(tensor.elem_type)
    if name not in DTYPES:
        raise GraphError(
            "input or output of an element type that is not supported",
            subject=f"{subject}: {value.name[:80]}",
            got=name,
        )
    dtype: DType = name  # type: ignore[assignment]  # it is one of DTYPES
    axes: list[Axis] = [
        int(axis.dim_value) if axis.HasField("dim_value") and axis.dim_value >= 0 else axis.dim_param or f"axis{index}"
        for index, axis in enumerate(tensor.shape.dim)
    ]
    return TensorSpec(value.name, dtype, tuple(axes))


def element_count(tensor: onnx.TensorProto, subject: str) -> int:
    """Elements of a stored tensor.

    Raises:
        GraphError: its shape is impossible.
    """
    count = 1
    for extent in tensor.dims:
        if not 0 <= extent <= MAX_EXTENT:
            raise GraphError("stored tensor of an impossible shape", subject=f"{subject}: {tensor.name[:80]}")
        count *= extent
    return count


def stays_inside(location: str) -> bool:
    """Whether a relative path stays below its starting folder, by the rules of POSIX and of Windows."""
    paths = (PurePosixPath(location), PureWindowsPath(location))
    return bool(location) and not any(
        path.is_absolute() or path.drive or path.root or ".." in path.parts for path in paths
    )
