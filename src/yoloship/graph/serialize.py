"""From the graph's records to ONNX: the one place that writes the format.

Opset 17, IR version 8: the oldest that has every operator used here (HardSwish since 14, Shape with a start since 15),
so that TensorRT 8.6 to 11 and RTX, ONNX Runtime since 1.12, OpenVINO and OpenCV read it. From opset 18 on the reduce
operators take their axes as an input, which older parsers do not know. A graph in bfloat16 or float8 is raised to a
later one where that precision is written (`precision`, `quantize`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship._version import __version__
from yoloship.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx

    from yoloship.graph.ir import Graph, Wire
    from yoloship.tensors import DType, TensorSpec

OPSET = 17
IR_VERSION = 8


def to_onnx(graph: Graph, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Write a graph.

    Args:
        graph: What to write.
        metadata: Goes into `metadata_props`, in this order.

    Returns:
        A model that passes `onnx.checker` with strict shape inference.

    Raises:
        GraphError: a text cannot be written.
    """
    from onnx import GraphProto, ModelProto, helper, numpy_helper

    model = ModelProto()
    model.ir_version = IR_VERSION
    model.producer_name = "yoloship"
    model.producer_version = __version__
    model.opset_import.append(helper.make_opsetid("", OPSET))
    proto: GraphProto = model.graph
    try:
        proto.name = graph.name
        for key, value in metadata.items():
            model.metadata_props.add(key=key, value=value)
        for node in graph.nodes:
            written = helper.make_node(node.op, node.inputs, node.outputs, node.name)
            written.attribute.extend(helper.make_attribute(*item) for item in node.attributes.items())
            proto.node.append(written)
        for name, array in graph.constants.items():
            proto.initializer.append(numpy_helper.from_array(array, name))
    except UnicodeEncodeError as error:
        raise GraphError(
            "a name in the checkpoint is no valid text", subject=graph.name[:60], got=str(error)[:80]
        ) from error
    proto.input.extend(_value_infos(graph.inputs))
    proto.output.extend(_value_infos(graph.outputs))
    proto.value_info.extend(_value_infos(graph.wires.values()))
    return model


def _value_infos(values: Iterable[TensorSpec | Wire]) -> Iterable[onnx.ValueInfoProto]:
    from onnx import helper

    for value in values:
        yield helper.make_tensor_value_info(value.name, _ELEMENT[value.dtype], value.shape)


_ELEMENT: Mapping[DType, int] = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "bool": 9}
"""onnx.TensorProto's element types."""
