"""A foreign ONNX file's outline, for judging it before any runtime opens it: `read_outline`.

The onnx package takes a tenth of a second to import, which would be felt at each start of `detect`. Protobuf itself
reads the format from a description of the few fields that count, by the same rules as every other reader: what it is
not told of is skipped. The names of the fields are those of onnx.proto, so an `onnx.ModelProto` is an outline, too.

Source of the field numbers and types: onnx.proto of the ONNX repository (IR version 3 and later; they never change).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from yoloship.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator

Outline: TypeAlias = Any
"""A message with the fields below; protobuf makes its class at run time."""

_INT32, _INT64, _UINT64, _STRING, _BYTES, _FLOAT, _DOUBLE, _MESSAGE = 5, 3, 4, 9, 12, 2, 1, 11
"""Of FieldDescriptorProto.Type."""

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
"""Message by message: name, number, type and whether it repeats."""
_PACKED: Final = frozenset({"float_data", "int32_data", "int64_data", "double_data", "uint64_data"})


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
        raise SessionError(
            "is not a valid ONNX file: it is damaged or truncated", subject=subject, hint="copy or export it again"
        ) from error
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
