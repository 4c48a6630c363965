"""Whether an ONNX graph holds together: operators have what they need, and names lead somewhere.

TensorRT's parser ends the whole process on some graphs that do not (measured with TensorRT-RTX 1.7.1.116: a node
without outputs). ONNX's own check of a whole model is stricter than the field's files: it refuses outputs without a
stated shape, which every runtime takes. So its checks of nodes and tensors are used one by one, and names are followed
here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yoloship.errors import GraphError

if TYPE_CHECKING:
    import onnx

MAX_NESTING = 16


def check_sound(model: onnx.ModelProto, subject: str) -> None:
    """Refuse a graph that does not hold together.

    Args:
        model: Parsed; weights in other files need not be there.
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
        raise GraphError("nests its graphs too deep", subject=subject, expected=f"at most {MAX_NESTING} levels")
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
        if not branches:  # ONNX's check of a node does not know what its branches may see
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
        raise GraphError("does not fit its operator", subject=place, got=_short(error)) from error


def _check_tensor(tensor: onnx.TensorProto, context: Any, subject: str) -> None:
    import onnx
    from onnx import checker

    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return
    try:
        checker.check_tensor(tensor, context)
    except (checker.ValidationError, ValueError) as error:
        raise GraphError(
            "stored tensor is damaged", subject=f"{subject}: {tensor.name[:60]}", got=_short(error)
        ) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())[:160]
