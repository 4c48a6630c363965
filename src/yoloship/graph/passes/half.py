"""Converts a graph of any exporter to half precision, and emulates half precision on a CPU.

The network's body computes in float16 or bfloat16. Inputs, outputs and the decoding of the head do not change. TensorRT
10, 11 and RTX take such a graph as it is (strongly typed). ONNX Runtime runs float16 by casting.

A quantized graph keeps its codes, and its other layers become half precision. This includes scales and biases, so that
there is no cast between a Q/DQ pair and its convolution, which TensorRT fuses.

Some layers stay float32: a layer whose weights do not fit into float16 (the file names these), an operator that sums or
exponentiates over many values or is not known here, and a pair whose scale would lose digits among the subnormals of
float16. A graph does not say how large its activations get. A run finds the layers whose activations overflow, and
`keep` takes their names.

`emulate` shows on a CPU what half precision computes. There, ONNX Runtime has no kernels for bfloat16, and it runs
float16 by casting. Its optimiser then drops the casts between two operators, so neither rounding nor overflow shows
(measured on 1.32: a product of 90,000 in float16 comes out finite). So every value in half precision is computed in
float32 and then rounded by its own pair of casts, which the optimiser leaves alone. Kernels that fuse operators round
less often.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np

from yoloship.bounds.outline import BFLOAT16, FLOAT, FLOAT8, FLOAT16
from yoloship.errors import GraphError, InputError
from yoloship.graph.body import body, element_types, has_subgraph, implicit_inputs, inline_constants
from yoloship.graph.onnx_file import bfloat16_bits, stored_values
from yoloship.model import METADATA_KEY, ModelInfo

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import onnx

    from yoloship.model import Precision


HalfPrecision: TypeAlias = Literal["float16", "bfloat16"]

KEPT_KEY: Final = "yoloship.float32_layers"
"""Metadata key: a JSON list of the body's layers that stayed float32 because half precision would not hold them."""
OTHER_LAYERS_KEY: Final = "yoloship.other_layers"
"""Metadata key: the element type of the other layers of a quantized graph, if it is not float32."""
FLOAT16_MAX: Final = 65504.0
FLOAT16_LEAST: Final = 2.0**-14
"""The smallest float16 that keeps all eleven binary digits."""
BFLOAT16_OPSET: Final = 22
"""The first opset whose convolutions take bfloat16 (ONNX operators, Conv)."""
_MIN_OPSET: Final = 13
_QUANTIZED_OPSET: Final = 19
"""The first opset whose QuantizeLinear and DequantizeLinear take float16."""
_ELEMENT: Final = {"float16": FLOAT16, "bfloat16": BFLOAT16}

_NARROW: Final = frozenset({
    "Add", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "DequantizeLinear", "Div", "Elu",
    "Expand", "Flatten", "Gather", "Gemm", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MatMul", "Max",
    "MaxPool", "Min", "Mul", "PRelu", "Pad", "QuantizeLinear", "Relu", "Reshape", "Resize", "Selu", "Sigmoid",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""Operators that may compute in half precision. Sums over many values (averages, norms, softmax) and exponentials may
not."""
_ALWAYS_FLOAT: Final = {"Resize": frozenset({1, 2})}
"""Inputs that must stay float32, by the standard or because of runtimes: a Resize's region and scales."""
_HALF = frozenset({FLOAT16, BFLOAT16})


def convert_precision(
    model: onnx.ModelProto, precision: HalfPrecision, *, keep: Collection[str] = ()
) -> onnx.ModelProto:
    """Write a graph's body in half precision.

    Args:
        model: A float32 graph, or a quantized one with float32 between the codes. Its weights are inside the file. It
            is not changed.
        precision: Element type in which the body should compute. Quantized layers keep their codes.
        keep: Names of nodes that stay float32.

    Returns:
        A new model. Inputs, outputs and the operators after the last convolutions are as before. bfloat16 raises the
        operator set to 22, the first with bfloat16 convolutions. float16 in a quantized graph raises it to 19.

    Raises:
        GraphError: the graph has no float32 body, computes in half precision already, keeps weights outside the file,
            or is too old; a name in `keep` is not a node; bfloat16 was asked for in a quantized graph.
    """
    from onnx import ModelProto

    if precision not in get_args(HalfPrecision):
        raise InputError(
            "no such precision", subject="precision", expected=" or ".join(get_args(HalfPrecision)), got=repr(precision)
        )
    converted = ModelProto()
    converted.CopyFrom(model)
    inline_constants(converted.graph)
    codes = quantized_precision(model)
    if codes is not None and precision == "bfloat16":
        raise GraphError(
            "is quantized, and its scales would keep 8 of their 24 digits in bfloat16",
            subject=converted.graph.name[:60],
            expected="float16 or float32 between the codes",
        )
    least = BFLOAT16_OPSET if precision == "bfloat16" else _MIN_OPSET if codes is None else _QUANTIZED_OPSET
    converted = at_opset(converted, least)
    _check(converted, keep)
    kept = _Rewriter(converted, precision, frozenset(keep)).rewrite()
    entries = {KEPT_KEY: json.dumps(kept)} if kept or codes else {}
    note_precision(converted, codes or precision, {**entries, OTHER_LAYERS_KEY: precision} if codes else entries)
    return converted


def quantized_precision(model: onnx.ModelProto) -> Precision | None:
    """The element type of a graph's codes; None if it is not quantized."""
    if all(node.op_type != "DequantizeLinear" for node in model.graph.node):
        return None
    return "float8" if any(tensor.data_type == FLOAT8 for tensor in model.graph.initializer) else "int8"


def note_precision(model: onnx.ModelProto, precision: Precision, entries: Mapping[str, str]) -> None:
    """Note a model's new precision in its metadata: in our own record if there is one, and in further entries."""
    from onnx import helper

    texts = {entry.key: entry.value for entry in model.metadata_props} | dict(entries)
    if METADATA_KEY in texts:
        try:
            info = ModelInfo.from_json(texts[METADATA_KEY])
        except InputError as error:
            raise GraphError(error.problem, subject=error.subject, expected=error.expected, got=error.got) from error
        texts[METADATA_KEY] = replace(info, precision=precision).to_json()
    del model.metadata_props[:]
    helper.set_model_props(model, texts)


class _Rewriter:
    """Changes one graph in place. The float32 form of a value keeps its name; the narrow form gets a new one."""

    def __init__(self, model: onnx.ModelProto, precision: HalfPrecision, keep: frozenset[str]) -> None:
        self._graph = model.graph
        self._precision: HalfPrecision = precision
        self._element = _ELEMENT[precision]
        self._types = element_types(model)
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._keep = keep
        self._body = frozenset(body(model, self._types))
        self._nodes: list[onnx.NodeProto] = []
        self._narrow: dict[str, str] = {}
        self._taken = self._names()

    def rewrite(self) -> list[str]:
        """Convert the body of the graph.

        Returns:
            Names of the body's layers that stay float32 because of their weights or because the caller wants it.
        """
        kept: list[str] = []
        need_float = {value.name for value in self._graph.output} | set(implicit_inputs(self._graph))
        narrow_places = set()
        for place in sorted(self._body):
            node = self._graph.node[place]
            if node.op_type in _NARROW and node.domain in {"", "ai.onnx"} and not has_subgraph(node):
                if node.name in self._keep or not self._holds(node):
                    kept.append(node.name or node.output[0])
                else:
                    narrow_places.add(place)
        if not narrow_places:
            raise GraphError(
                f"has no float32 layer that can be converted to {self._precision}", subject=self._graph.name[:60]
            )
        for place, node in enumerate(self._graph.node):
            if place not in narrow_places:
                need_float.update(node.input)
        for place, node in enumerate(self._graph.node):
            if place in narrow_places:
                self._narrow_node(node, need_float)
            else:
                self._nodes.append(node)
        nodes = list(self._nodes)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        self._tidy()
        return kept

    def _narrow_node(self, node: onnx.NodeProto, need_float: set[str]) -> None:
        from onnx import NodeProto

        changed = NodeProto()
        changed.CopyFrom(node)
        always = _ALWAYS_FLOAT.get(node.op_type, frozenset())
        for index, name in enumerate(node.input):
            if name and index not in always and self._types.get(name) == FLOAT:
                changed.input[index] = self._narrow_input(name)
        if node.op_type == "Cast":
            for attribute in changed.attribute:
                if attribute.name == "to" and attribute.i == FLOAT:
                    attribute.i = self._element
        widened = []
        for index, name in enumerate(node.output):
            if name and self._types.get(name) == FLOAT:
                changed.output[index] = self._narrow[name] = self._fresh(name)
                if name in need_float:
                    widened.append((changed.output[index], name))
        self._nodes.append(changed)
        for narrow, name in widened:
            self._cast(narrow, name, FLOAT)

    def _narrow_input(self, name: str) -> str:
        """The name of a float32 value in half precision; the cast is written if there is none yet."""
        if name not in self._narrow:
            self._narrow[name] = self._fresh(name)
            if name in self._stored:
                self._graph.initializer.append(self._narrow_tensor(self._stored[name], self._narrow[name]))
            else:
                self._cast(name, self._narrow[name], self._element)
        return self._narrow[name]

    def _cast(self, source: str, target: str, element: int) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node("Cast", [source], [target], f"{target}.cast", to=element))

    def _narrow_tensor(self, tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
        from onnx import TensorProto, numpy_helper

        values = stored_values(tensor)
        if self._precision == "float16":
            return numpy_helper.from_array(values.astype(np.float16), name)
        bits = bfloat16_bits(values.astype(np.float32, copy=False))
        return TensorProto(name=name, dims=tensor.dims, data_type=self._element, raw_data=bits.astype("<u2").tobytes())

    def _holds(self, node: onnx.NodeProto) -> bool:
        """Whether the stored numbers of a node fit into the new type. bfloat16 has the range of float32."""
        if self._precision == "bfloat16":
            return True
        always = _ALWAYS_FLOAT.get(node.op_type, frozenset())
        scales = node.op_type in {"QuantizeLinear", "DequantizeLinear"}
        for index, name in enumerate(node.input):
            tensor = self._stored.get(name)
            if tensor is not None and index not in always and tensor.data_type == FLOAT:
                values = np.abs(stored_values(tensor))
                if values.size and not values.max() <= FLOAT16_MAX:
                    return False
                if scales and (values != values.astype(np.float16))[values < FLOAT16_LEAST].any():
                    return False
        return True

    def _tidy(self) -> None:
        """Drop float32 weights that no node takes any more, and types of values that no longer exist."""
        used = {name for node in self._graph.node for name in node.input} | set(implicit_inputs(self._graph))
        used |= {value.name for value in self._graph.output}
        stored = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(stored)
        gone = self._stored.keys() - used
        inputs = [value for value in self._graph.input if value.name not in gone]  # old files list weights as inputs
        del self._graph.input[:]
        self._graph.input.extend(inputs)
        del self._graph.value_info[:]

    def _fresh(self, name: str) -> str:
        fresh = f"{name}.{self._precision}"
        while fresh in self._taken:
            fresh += "_"
        self._taken.add(fresh)
        return fresh

    def _names(self) -> set[str]:
        names = {name for node in self._graph.node for name in (*node.input, *node.output)}
        return names | set(implicit_inputs(self._graph)) | self._stored.keys()


def _check(model: onnx.ModelProto, keep: Collection[str]) -> None:
    from onnx import TensorProto

    subject = model.graph.name[:60] or "graph"
    names = {node.name for node in model.graph.node}
    if unknown := sorted(set(keep) - names):
        raise GraphError("has no layer of that name", subject=subject, got=", ".join(unknown)[:80])
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise GraphError(
                "keeps weights outside the file",
                subject=f"{subject}: {tensor.name[:80]}",
                hint="load it with its external data first",
            )
    if any(tensor.data_type in _ELEMENT.values() and len(tensor.dims) > 1 for tensor in model.graph.initializer):
        raise GraphError("computes in half precision already", subject=subject, expected="a float32 graph")


def at_opset(model: onnx.ModelProto, wanted: int) -> onnx.ModelProto:
    """The model with at least this version of the operator set; the same object if it has it already.

    Raises:
        GraphError: an operator cannot be converted.
    """
    from onnx import version_converter

    from yoloship.graph.onnx_file import opset

    if opset(model) >= wanted:
        return model
    try:
        raised = version_converter.convert_version(model, wanted)
    except (RuntimeError, ValueError) as error:  # ConvertError, and exceptions of its C++ code
        raise GraphError(
            f"cannot be converted to operator set {wanted}",
            subject=model.graph.name[:60] or "graph",
            got=f"operator set {opset(model)}: {str(error)[:80]}",
            hint="export it again for that one",
        ) from error
    raised.ir_version = max(raised.ir_version, 10 if wanted >= 21 else 9 if wanted >= 19 else 8)
    return raised


def is_half(model: onnx.ModelProto) -> bool:
    """Whether a graph stores weights in half precision."""
    stored = [*model.graph.initializer, *(entry.t for node in model.graph.node for entry in node.attribute)]
    return any(tensor.data_type in _HALF for tensor in stored)


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 graph with the results of a graph in half precision.

    Args:
        model: As `convert_precision` writes it. It is not changed.

    Returns:
        A new model. Values keep their names; inputs and outputs of half precision become float32.
    """
    from onnx import ModelProto, NodeProto

    types = element_types(model)
    emulated = ModelProto()
    emulated.CopyFrom(model)
    graph = emulated.graph
    for tensor in graph.initializer:
        if tensor.data_type in _HALF:
            tensor.CopyFrom(_widened(tensor))
    stored = {tensor.name for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    rounded_inputs: dict[str, str] = {}
    for place, value in enumerate((*graph.input, *graph.output)):
        element = value.type.tensor_type.elem_type
        if element in _HALF:
            value.type.tensor_type.elem_type = FLOAT
            if place < len(graph.input) and value.name not in stored:
                rounded_inputs[value.name] = f"{value.name}.in"
                nodes.extend(_rounding(value.name, f"{value.name}.in", element))
    for node in model.graph.node:
        changed = NodeProto()
        changed.CopyFrom(node)
        changed.input[:] = [rounded_inputs.get(name, name) for name in node.input]
        for attribute in changed.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in _HALF:
                attribute.i = FLOAT
            if attribute.HasField("t") and attribute.t.data_type in _HALF:
                attribute.t.CopyFrom(_widened(attribute.t))
        nodes.append(changed)
        for place, name in enumerate(node.output):
            element = types.get(name, 0)
            if element in _HALF:
                changed.output[place] = f"{name}.exact"
                nodes.extend(_rounding(f"{name}.exact", name, element))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return emulated


def _rounding(source: str, name: str, element: int) -> Iterator[onnx.NodeProto]:
    """Two casts: to half precision and back."""
    from onnx import helper

    yield helper.make_node("Cast", [source], [f"{name}.rounded"], f"{name}.round", to=element)
    yield helper.make_node("Cast", [f"{name}.rounded"], [name], f"{name}.widen", to=FLOAT)


def overflows(emulated: onnx.ModelProto, infinite: Collection[str]) -> frozenset[str]:
    """Nodes that must not compute in half precision because values stop being finite there.

    Args:
        emulated: As `emulate` gives it.
        infinite: Those names of `half_values` whose values were not all finite.

    Returns:
        Names of the nodes that give such a value but take none. If a float32 value was too large for its cast, also
        the nodes that take it.
    """
    exact = {f"{name}.exact": name for name in infinite}
    found: set[str] = set()
    for node in emulated.graph.node:
        values = [exact[name] for name in node.output if name in exact]
        if values and not set(infinite).intersection(node.input):
            if node.op_type == "Cast":
                found.update(other.name for other in emulated.graph.node if set(values).intersection(other.input))
            else:
                found.add(node.name)
    return frozenset(found)


def half_values(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the values that a graph computes in half precision."""
    types = element_types(model)
    return tuple(name for node in model.graph.node for name in node.output if types.get(name, 0) in _HALF)


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    from onnx import numpy_helper

    values = stored_values(tensor).astype(np.float32)
    return numpy_helper.from_array(values, tensor.name)
