"""The outline of a foreign ONNX file, and what is known about its values before it runs.

The onnx package takes a tenth of a second to import, which users would notice at each start of `detect`. So protobuf
reads the format from a description of the few fields that are needed. It skips all other fields, like every protobuf
reader. The fields have the names of onnx.proto, so an `onnx.ModelProto` can be used as an outline, too.

Source of the field numbers and types: onnx.proto of the ONNX repository (IR version 3 and later; they never change).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from yoloship.errors import SessionError
from yoloship.kinds import damaged_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Array = npt.NDArray[np.generic]


Outline: TypeAlias = Any
"""A message with the fields below; protobuf makes its class at run time."""

_INT32, _INT64, _UINT64, _STRING, _BYTES, _FLOAT, _DOUBLE, _MESSAGE = 5, 3, 4, 9, 12, 2, 1, 11
"""Numbers of FieldDescriptorProto.Type."""

_FIELDS: Final[tuple[tuple[str, tuple[tuple[str, int, int | str, bool], ...]], ...]] = (
    ("ModelProto", (
        ("ir_version", 1, _INT64, False), ("graph", 7, "GraphProto", False),
        ("opset_import", 8, "OperatorSetIdProto", True), ("metadata_props", 14, "StringStringEntryProto", True),
        ("functions", 25, "FunctionProto", True),
    )),
    ("OperatorSetIdProto", (("domain", 1, _STRING, False), ("version", 2, _INT64, False))),
    ("StringStringEntryProto", (("key", 1, _STRING, False), ("value", 2, _STRING, False))),
    ("FunctionProto", (("name", 1, _STRING, False),)),
    ("GraphProto", (
        ("node", 1, "NodeProto", True), ("initializer", 5, "TensorProto", True), ("input", 11, "ValueInfoProto", True),
        ("output", 12, "ValueInfoProto", True), ("sparse_initializer", 15, "SparseTensorProto", True),
    )),
    ("SparseTensorProto", (("dims", 3, _INT64, True),)),
    ("NodeProto", (
        ("input", 1, _STRING, True), ("output", 2, _STRING, True), ("name", 3, _STRING, False),
        ("op_type", 4, _STRING, False), ("attribute", 5, "AttributeProto", True), ("domain", 7, _STRING, False),
    )),
    ("AttributeProto", (
        ("name", 1, _STRING, False), ("f", 2, _FLOAT, False), ("i", 3, _INT64, False), ("s", 4, _BYTES, False),
        ("t", 5, "TensorProto", False), ("g", 6, "EmptyProto", False), ("floats", 7, _FLOAT, True),
        ("ints", 8, _INT64, True), ("tensors", 10, "TensorProto", True), ("graphs", 11, "EmptyProto", True),
        ("sparse_tensor", 22, "EmptyProto", False), ("sparse_tensors", 23, "EmptyProto", True),
    )),
    ("EmptyProto", ()),
    ("TensorProto", (
        ("dims", 1, _INT64, True), ("data_type", 2, _INT32, False), ("float_data", 4, _FLOAT, True),
        ("int32_data", 5, _INT32, True), ("int64_data", 7, _INT64, True), ("name", 8, _STRING, False),
        ("raw_data", 9, _BYTES, False), ("double_data", 10, _DOUBLE, True), ("uint64_data", 11, _UINT64, True),
        ("external_data", 13, "StringStringEntryProto", True), ("data_location", 14, _INT32, False),
    )),
    ("ValueInfoProto", (("name", 1, _STRING, False), ("type", 2, "TypeProto", False))),
    ("TypeProto", (("tensor_type", 1, "TensorTypeProto", False),)),
    ("TensorTypeProto", (("elem_type", 1, _INT32, False), ("shape", 2, "TensorShapeProto", False))),
    ("TensorShapeProto", (("dim", 1, "DimensionProto", True),)),
    ("DimensionProto", (("dim_value", 1, _INT64, False), ("dim_param", 2, _STRING, False))),
)  # fmt: skip
"""The fields of each message: name, number, type and whether it repeats."""
_PACKED: Final = frozenset({"float_data", "int32_data", "int64_data", "double_data", "uint64_data"})
MAX_KNOWN: Final = 1024
"""The most elements of a value whose contents are followed. Shapes, sizes and scales have only a few."""
MAX_EXTENT: Final = 1 << 40
MAX_RANK: Final = 16
_WHOLE: Final = 1 << 31
FLOAT, UINT8, INT8, INT32, INT64, BOOL = 1, 2, 3, 6, 7, 9
FLOAT16, BFLOAT16, FLOAT8 = 10, 16, 17
"""Element types, by their numbers in onnx.TensorProto.DataType."""
FLOATS: Final = frozenset({1, 10, 11, 16})
_BITS: Final[Mapping[int, int]] = MappingProxyType(
    {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 32, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 32}
)
"""Bits of an element. Half precision counts as 32, because a CPU computes it in float32."""
_NUMPY: Final[Mapping[int, str]] = MappingProxyType(
    {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4",
     13: "<u8"}
)  # fmt: skip
_OWN_FIELD: Final[Mapping[int, str]] = MappingProxyType(
    {1: "float_data", 6: "int32_data", 7: "int64_data", 9: "int32_data", 11: "double_data", 2: "int32_data",
     3: "int32_data", 4: "int32_data", 5: "int32_data", 12: "uint64_data", 13: "uint64_data"}
)  # fmt: skip
Attributes: TypeAlias = Mapping[str, Any]
"""A node's attributes by name; ``outputs`` is how many outputs it has."""


def read_outline(data: bytes, subject: str) -> Outline:
    """Parse the parts of untrusted bytes that say what a graph computes.

    Args:
        data: The whole file.
        subject: Its name, for messages.

    Raises:
        SessionError: the bytes are not a protobuf message of this kind.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it comes with onnx, untyped

    model = _message_class()()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        raise damaged_onnx(subject, error=SessionError) from error
    if not all(isinstance(text, str) for text in _texts(model)):  # protobuf gives bytes if they are not UTF-8
        raise SessionError("is a damaged ONNX file: a name in it is not text", subject=subject)
    return model


def _texts(model: Outline) -> Iterator[object]:
    """Every text that a runtime may put into a message."""
    yield from (entry.domain for entry in model.opset_import)
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    for value in (*model.graph.input, *model.graph.output):
        yield value.name
        yield from (axis.dim_param for axis in value.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in model.graph.initializer)
    for node in model.graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (entry.name for entry in node.attribute)


def _message_class() -> Any:
    from google.protobuf import (  # type: ignore[import-untyped]  # as above
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    file = descriptor_pb2.FileDescriptorProto(name="yoloship/outline.proto", package="outline", syntax="proto2")
    for message, fields in _FIELDS:
        described = file.message_type.add(name=message)
        for name, number, kind, repeats in fields:
            field = described.field.add(name=name, number=number, label=3 if repeats else 1)
            if isinstance(kind, str):
                field.type, field.type_name = _MESSAGE, f".outline.{kind}"
            else:
                field.type = kind
            if name in _PACKED:
                field.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("outline.ModelProto"))


class Unknown(Exception):  # noqa: N818 - not an error of a user, it never leaves this room
    """The size of an operator's output depends on the image's content, or on contents that are not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Extent:
    """What is known about a value.

    Attributes:
        shape: Each axis has at most this extent.
        code: Element type, by onnx.TensorProto's number.
        exact: Whether the extents are exact.
        values: The contents, if they are known.
        constant: Whether it depends on weights only, so that a runtime may compute it while it opens the file.
    """

    shape: tuple[int, ...]
    code: int = FLOAT
    exact: bool = True
    values: Array | None = None
    constant: bool = False

    @property
    def elements(self) -> int:
        """The largest number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The largest size in bytes."""
        return (self.elements * _BITS.get(self.code, 64) + 7) // 8


def is_target_size(value: Outline) -> bool:
    """Whether an input is the size to which a DETR's boxes are scaled: (B, 2) int64.

    Args:
        value: An input of the graph.
    """
    tensor = value.type.tensor_type
    axes = tensor.shape.dim
    return tensor.elem_type == INT64 and len(axes) == 2 and axes[1].dim_value == 2


def stored(tensor: Outline) -> Extent:
    """The extent of a stored tensor.

    Raises:
        Unknown: its shape is impossible.
    """
    shape = tuple(tensor.dims)
    if len(shape) > MAX_RANK or any(not 0 <= extent <= MAX_EXTENT for extent in shape):
        raise Unknown
    return Extent(shape, tensor.data_type, values=_contents(tensor, shape), constant=True)


def stored_bytes(tensor: Outline) -> int:
    """How many bytes of a stored tensor the file really holds. It may claim more."""
    held = len(tensor.raw_data) + 4 * (len(tensor.float_data) + len(tensor.int32_data))
    return held + 8 * (len(tensor.int64_data) + len(tensor.double_data) + len(tensor.uint64_data))


def known(array: Array, code: int) -> Extent:
    """A constant with these contents."""
    return Extent(array.shape, code, values=array if array.size <= MAX_KNOWN else None, constant=True)


def _contents(tensor: Outline, shape: tuple[int, ...]) -> Array | None:
    dtype = _NUMPY.get(tensor.data_type)
    if dtype is None or math.prod(shape) > MAX_KNOWN or tensor.data_location:
        return None
    try:
        if tensor.raw_data:
            return np.frombuffer(tensor.raw_data, dtype).reshape(shape)
        return np.array(getattr(tensor, _OWN_FIELD[tensor.data_type])).astype(dtype).reshape(shape)
    except (ValueError, KeyError, OverflowError):
        return None  # the runtime refuses the file


def as_type(code: int) -> str | None:
    """NumPy's name of an element type."""
    return _NUMPY.get(code)


def evaluate(op: str, attributes: Mapping[str, Any], inputs: list[Array]) -> Array | None:
    """The output of an operator for known contents; None if this operator is not computed here.

    Only the operators with which exporters compute shapes are computed. All of their results are small.
    """
    function = _FUNCTIONS.get(op)
    if function is None:
        return None
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(function(attributes, *inputs))
    except (ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError, KeyError):
        return None  # it will fail in the runtime, too
    return result if result.size <= MAX_KNOWN else None


def _divide(_: Mapping[str, Any], a: Array, b: Array) -> Any:
    if np.issubdtype(a.dtype, np.integer):
        down = np.floor_divide(a, b)
        return down + ((down * b != a) & (np.less(a, 0) != np.less(b, 0))).astype(a.dtype)
    return np.divide(a, b)


def _slice(attributes: Mapping[str, Any], data: Array, *rest: Array) -> Any:
    starts, ends = (
        (rest[0], rest[1]) if len(rest) > 1 else (np.array(attributes["starts"]), np.array(attributes["ends"]))
    )
    axes = rest[2] if len(rest) > 2 else np.array(attributes.get("axes", range(len(starts))))
    steps = rest[3] if len(rest) > 3 else np.ones(len(starts), np.int64)
    where = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True):
        begin = max(start, -data.shape[axis]) if step < 0 else start
        where[axis] = slice(begin, None if step < 0 and end < -data.shape[axis] else end, step)
    return data[tuple(where)]


def _unsqueeze(attributes: Mapping[str, Any], data: Array, axes: Array | None = None) -> Any:
    return np.expand_dims(data, tuple(attributes["axes"] if axes is None else axes.tolist()))


def _squeeze(attributes: Mapping[str, Any], data: Array, axes: Array | None = None) -> Any:
    chosen = attributes.get("axes") if axes is None else axes.tolist()
    return np.squeeze(data, None if chosen is None else tuple(chosen))


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduced(attributes: Mapping[str, Any], data: Array, axes: Array | None = None) -> Any:
        chosen = attributes.get("axes") if axes is None else axes.tolist()
        keep = bool(attributes.get("keepdims", 1))
        axis = None if chosen is None else tuple(chosen)
        if data.dtype.kind in "iu" and np.any(np.abs(function(data.astype(np.float64), axis=axis)) >= _WHOLE):
            raise OverflowError  # runtimes differ
        return function(data, axis=axis, keepdims=keep)

    return reduced


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, *inputs: function(*inputs)


_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        "Abs": _plain(np.abs),
        "Add": _plain(np.add),
        "And": _plain(np.logical_and),
        "Cast": lambda attributes, data: data.astype(_NUMPY[attributes["to"]]),
        "Ceil": _plain(np.ceil),
        "Concat": lambda attributes, *parts: np.concatenate(parts, axis=attributes["axis"]),
        "Div": _divide,
        "Equal": _plain(np.equal),
        "Exp": _plain(np.exp),
        "Floor": _plain(np.floor),
        "Gather": lambda attributes, data, indices: np.take(data, indices, axis=attributes.get("axis", 0)),
        "Greater": _plain(np.greater),
        "Identity": _plain(lambda data: data),
        "Less": _plain(np.less),
        "Max": _plain(lambda *inputs: np.max(np.broadcast_arrays(*inputs), axis=0)),
        "Min": _plain(lambda *inputs: np.min(np.broadcast_arrays(*inputs), axis=0)),
        "Mod": lambda attributes, a, b: np.fmod(a, b) if attributes.get("fmod", 0) else np.mod(a, b),
        "Mul": _plain(np.multiply),
        "Neg": _plain(np.negative),
        "Not": _plain(np.logical_not),
        "Or": _plain(np.logical_or),
        "ReduceMax": _reduce(np.max),
        "ReduceMin": _reduce(np.min),
        "ReduceProd": _reduce(np.prod),
        "ReduceSum": _reduce(np.sum),
        "Reshape": _plain(lambda data, shape: data.reshape(tuple(shape.tolist()))),
        "Round": _plain(np.round),
        "Slice": _slice,
        "Sqrt": _plain(np.sqrt),
        "Squeeze": _squeeze,
        "Sub": _plain(np.subtract),
        "Transpose": lambda attributes, data: np.transpose(data, attributes.get("perm")),
        "Unsqueeze": _unsqueeze,
        "Where": _plain(np.where),
    }
)
"""Functions of small arrays. None of them can give more elements than a broadcast of its inputs."""


Inputs: TypeAlias = list[Extent | None]
"""The inputs of a node; None for an omitted one."""
Outputs: TypeAlias = list[Extent]


def first(inputs: Inputs, place: int = 0) -> Extent:
    """A required input."""
    found = inputs[place] if place < len(inputs) else None
    if found is None:
        raise Unknown
    return found


def shape_values(inputs: Inputs, place: int) -> list[int]:
    """Contents of an input that is a shape, sizes or axes."""
    values = first(inputs, place).values
    if values is None:
        raise Unknown
    return [int(value) for value in values.reshape(-1).tolist()]


def axes_of(attributes: Attributes, inputs: Inputs, place: int) -> list[int] | None:
    """Axes from an attribute or an input; None if neither has them."""
    if "axes" in attributes:
        return list(attributes["axes"])
    return shape_values(inputs, place) if place < len(inputs) and inputs[place] is not None else None


def place_of(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < max(rank, 1):
        raise Unknown
    return axis % max(rank, 1)


def broadcast(*extents: Extent) -> tuple[int, ...]:
    """The shape of an element by element operation."""
    rank = max(len(extent.shape) for extent in extents)
    shapes = [(1,) * (rank - len(extent.shape)) + extent.shape for extent in extents]
    return tuple(0 if 0 in sides else max(sides) for sides in zip(*shapes, strict=True))


def all_exact(*extents: Extent) -> bool:
    """Whether all extents are exact."""
    return all(extent.exact for extent in extents)
