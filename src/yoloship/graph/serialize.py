"""Writes a `Graph` as ONNX. This is the only place that writes the format.

Graphs have opset 17 and IR version 8. Opset 17 has every operator used here (HardSwish since 14, Shape with a start
since 15), and TensorRT 8.6 to 11 and RTX, ONNX Runtime since 1.12, OpenVINO and OpenCV read it. From opset 18 on, the
reduce operators take their axes as an input, which older parsers do not know. Conversion to bfloat16 or float8 raises
the opset (`passes.half`, `passes.quantize`).
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, NamedTuple

from yoloship._version import __version__
from yoloship.bounds.outline import BOOL, FLOAT, INT32, INT64, UINT8
from yoloship.errors import GraphError
from yoloship.graph.builder import raw_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    import numpy.typing as npt
    import onnx

    from yoloship.graph.builder import Graph, Wire
    from yoloship.model import DType, TensorSpec

OPSET = 17
IR_VERSION = 8
_ELEMENT: Mapping[DType, int] = {"float32": FLOAT, "uint8": UINT8, "int32": INT32, "int64": INT64, "bool": BOOL}
"""onnx.TensorProto's element types."""
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9
"""Numbers of fields in onnx.proto."""


def to_onnx(graph: Graph, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Write a graph as a model in memory.

    Args:
        graph: What to write.
        metadata: Goes into `metadata_props`, in this order.

    Returns:
        A model that passes `onnx.checker` with strict shape inference.

    Raises:
        GraphError: a text cannot be written.
    """
    from onnx import numpy_helper

    frame = _frame(graph, metadata)
    model = frame.head
    model.graph.MergeFrom(frame.nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in graph.constants.items())
    model.graph.MergeFrom(frame.values)
    model.MergeFrom(frame.tail)
    return model


def write_onnx(graph: Graph, metadata: Mapping[str, str], file: IO[bytes]) -> int:
    """Write a graph to a file, one constant after the other, so that the constants are never in memory together.

    The bytes are those of `to_onnx`, serialized. The message of the model holds that of the graph, which holds one for
    each constant. Every message begins with its length, so all lengths are added up first (Protocol Buffers, Encoding).

    Args:
        graph: What to write.
        metadata: Goes into `metadata_props`, in this order.
        file: Open for writing.

    Returns:
        How many bytes were written.

    Raises:
        GraphError: a text cannot be written.
        OSError: the file cannot be written.
    """
    frame = _frame(graph, metadata)
    nodes, values = frame.nodes.SerializeToString(), frame.values.SerializeToString()
    starts: dict[str, bytes] = {}
    length = len(nodes) + len(values)
    for name, array in graph.constants.items():
        starts[name] = _tensor_start(name, array)
        length += len(starts[name]) + array.nbytes
    written = 0
    for piece in (frame.head.SerializeToString(), _field(_MODEL_GRAPH, length), nodes):
        written += file.write(piece)
    for name, array in graph.constants.items():
        written += file.write(starts[name])
        written += file.write(raw_bytes(array))
    for piece in (values, frame.tail.SerializeToString()):
        written += file.write(piece)
    return written


class _Frame(NamedTuple):
    """A model without its constants: the four pieces before and after the large ones."""

    head: onnx.ModelProto
    nodes: onnx.GraphProto
    values: onnx.GraphProto
    tail: onnx.ModelProto


def _frame(graph: Graph, metadata: Mapping[str, str]) -> _Frame:
    from onnx import GraphProto, ModelProto, helper

    head = ModelProto(ir_version=IR_VERSION, producer_name="yoloship", producer_version=__version__)
    tail = ModelProto(opset_import=[helper.make_opsetid("", OPSET)])
    nodes = GraphProto()
    try:
        nodes.name = graph.name
        for key, value in metadata.items():
            tail.metadata_props.add(key=key, value=value)
        for node in graph.nodes:
            written = helper.make_node(node.op, node.inputs, node.outputs, node.name)
            written.attribute.extend(helper.make_attribute(*item) for item in node.attributes.items())
            nodes.node.append(written)
        values = GraphProto(
            input=_value_infos(graph.inputs),
            output=_value_infos(graph.outputs),
            value_info=_value_infos(graph.wires.values()),
        )
    except UnicodeEncodeError as error:
        raise GraphError(
            "a name in the checkpoint is not valid text", subject=graph.name[:60], got=str(error)[:80]
        ) from error
    return _Frame(head, nodes, values, tail)


def _tensor_start(name: str, array: npt.NDArray[np.generic]) -> bytes:
    """The bytes of a constant's message before its data."""
    from onnx import TensorProto, helper

    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    start = bytes(TensorProto(dims=array.shape, data_type=kind, name=name).SerializeToString())
    start += _field(_TENSOR_RAW_DATA, array.nbytes)
    return _field(_GRAPH_INITIALIZER, len(start) + array.nbytes) + start


def _field(number: int, length: int) -> bytes:
    """The beginning of a field of that many bytes: its number with wire type 2, and its length, as varints."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    """Seven bits in each byte, lowest first. The highest bit says that more bytes follow."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


def _value_infos(values: Iterable[TensorSpec | Wire]) -> Iterable[onnx.ValueInfoProto]:
    from onnx import helper

    for value in values:
        yield helper.make_tensor_value_info(value.name, _ELEMENT[value.dtype], value.shape)
