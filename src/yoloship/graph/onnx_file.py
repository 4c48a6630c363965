"""ONNX files: a model's bytes out, untrusted bytes in, and the element types that NumPy does not have.

Nodes are sorted when a file is read. ONNX asks for sorted nodes, but converters to float16 append their casts at the
end, and ONNX Runtime and TensorRT sort such graphs without a word.

Numbers are rounded to the nearest, ties to even, as the ONNX operators Cast and QuantizeLinear do it.
"""

from __future__ import annotations

from collections import deque
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from yoloship._util.reading import read_bounded
from yoloship.bounds.outline import BFLOAT16
from yoloship.errors import GraphError, InputError
from yoloship.kinds import kind_of, wrong_kind
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
"""A protobuf message can be no longer."""
MAX_METADATA_ENTRIES = 10_000
MAX_PARSED_NODES = 100_000
"""Looking at each takes 15 µs. The largest official detectors have 1,500."""
MAX_NESTING = 16
"""How deep graphs in nodes in graphs may go."""
MAX_PRODUCER_CHARS = 200
MAX_RANK = 64
MAX_EXTENT = 1 << 40
"""The longest axis of a stored tensor."""
_EXPORT_HINT = "give a file that 'yoloship export' or another exporter wrote"


def sort_nodes(graph: onnx.GraphProto, subject: str) -> None:
    """Sort a graph's nodes in place, if they need it. Those that are in order keep their places.

    Args:
        graph: As parsed. Values that nothing in it makes count as known: they come from outside, or are missing.
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
            "has nodes that wait for each other in a circle",
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
    """Names of the values that a node takes, those that its branches take from around them included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for branch in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            made = {name for inner in branch.node for name in inner.output}
            for inner in branch.node:
                names |= _needed(inner) - made
            names |= {value.name for value in branch.output} - made
    return names


def stored_values(tensor: onnx.TensorProto) -> npt.NDArray[np.generic]:
    """The elements, bfloat16 widened to float32.

    Args:
        tensor: With its data inside; not one whose data lies in another file.

    Returns:
        An array of the tensor's shape; it may be a read-only view of its bytes.

    Raises:
        GraphError: there are more or fewer elements than its shape says, or none of its type can be read.
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
    """The upper halves, rounded. Values are finite; one that rounds beyond the largest becomes infinite."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    halves: npt.NDArray[np.uint16] = ((bits + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype(np.uint16)
    return halves


def float8_bits(values: Floats) -> npt.NDArray[np.uint8]:
    """E4M3FN codes; what is beyond the largest finite value becomes that."""
    magnitude = np.abs(values.astype(np.float64))
    upper = np.clip(np.searchsorted(_POSITIVE, magnitude), 0, len(_POSITIVE) - 1)
    lower = np.maximum(upper - 1, 0)
    down, up = magnitude - _POSITIVE[lower], _POSITIVE[upper] - magnitude
    take_lower = (down < up) | ((down == up) & (lower % 2 == 0))
    codes = np.where(magnitude >= FLOAT8_MAX, len(_POSITIVE) - 1, np.where(take_lower, lower, upper))
    return (codes + np.where(np.signbit(values), 0x80, 0)).astype(np.uint8)


def float8_values(codes: npt.NDArray[np.uint8]) -> Floats:
    """What codes without NaN stand for."""
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
    """The file's bytes; the same for the same model."""
    return bytes(model.SerializeToString(deterministic=True))


def read_file(path: Path) -> bytes:
    """The bytes of a file that may be ONNX.

    Raises:
        GraphError: it cannot be read, or is longer than ONNX can be.
    """
    return read_bounded(path, MAX_ONNX_BYTES, error=GraphError, wanted="an ONNX model")


def parse_onnx(data: bytes, subject: str) -> onnx.ModelProto:
    """Parse untrusted bytes; weights in other files are not looked at.

    Args:
        data: The whole file.
        subject: Its name, for messages.

    Returns:
        A model with nodes, outputs and an operator set, its nodes in an order in which they can run; nothing else about
        it is known to be right.

    Raises:
        GraphError: the bytes are something else, or damaged.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it comes with onnx, untyped
    from onnx import ModelProto

    kind = kind_of(data)
    if kind not in {"onnx", "unknown"}:
        raise wrong_kind(kind, "onnx", subject=subject, error=GraphError)
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        raise GraphError(
            "is not an ONNX model, or is truncated", subject=subject, got=str(error)[:80], hint=_EXPORT_HINT
        ) from error
    parts = (
        ("nodes", model.graph.node),
        ("outputs", model.graph.output),
        ("an operator set", model.opset_import),
    )
    missing = [name for name, there in parts if not there]
    if missing:
        raise GraphError(
            "is not an ONNX model", subject=subject, got=f"no {' and no '.join(missing)}", hint=_EXPORT_HINT
        )
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
    """Refuse values that bear one name: each runtime takes another of them."""
    seen = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for name in (name for node in graph.node for name in node.output if name):
        if name in seen:
            raise GraphError(
                "has two values of one name", subject=subject, got=repr(name[:80]), hint="export the model again"
            )
        seen.add(name)


def _texts(model: onnx.ModelProto) -> Iterator[object]:
    """Every text that a reader of models here may look at."""
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
    """A graph and those that its nodes hold."""
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
    """Who wrote it, with version; may be empty."""
    return f"{model.producer_name[:MAX_PRODUCER_CHARS]} {model.producer_version[:MAX_PRODUCER_CHARS]}".strip()


def read_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """Keys and texts embedded in a model; the first of equal keys counts. Untrusted."""
    entries: dict[str, str] = {}
    for entry in model.metadata_props[:MAX_METADATA_ENTRIES]:
        entries.setdefault(entry.key, entry.value)
    return entries


def read_model_info(metadata: Mapping[str, str], subject: str) -> ModelInfo | None:
    """Our record out of a model's metadata, None if there is none.

    Raises:
        GraphError: there is one, and it is damaged.
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
    """An element type of onnx.TensorProto by its usual name; one that has none as `type99`."""
    import onnx

    try:
        name = str(onnx.TensorProto.DataType.Name(code))
    except ValueError:
        return f"type{code}"
    known = {"FLOAT": "float32", "DOUBLE": "float64", "FLOAT8E4M3FN": "float8_e4m3fn"}
    return known.get(name, name.lower())


def tensor_spec(value: onnx.ValueInfoProto, subject: str) -> TensorSpec:
    """An input or output as the pipeline knows them; axes without a name are called by their place.

    Raises:
        GraphError: its element type is none that a session could take.
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
    """Whether a relative path stays below the folder it starts in, by the rules of POSIX and of Windows."""
    paths = (PurePosixPath(location), PureWindowsPath(location))
    return bool(location) and not any(
        path.is_absolute() or path.drive or path.root or ".." in path.parts for path in paths
    )
