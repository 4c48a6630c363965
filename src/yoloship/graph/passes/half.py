"""Half precision written into a graph, ours or anybody's, and emulated on a machine that has none.

The network's body computes in float16 or bfloat16. Inputs and outputs stay what they were, and so does the decoding of
the head. TensorRT 10, 11 and RTX take such a graph as it is (strongly typed); ONNX Runtime runs float16 by casting.

A graph that is quantized already keeps its codes, and its other layers become narrow: scales and biases too, so that no
cast stands between a pair and its convolution, which TensorRT fuses.

Some layers stay float32: one whose weights do not fit into float16 (the file says which ones), every operator that sums
or exponentiates over many values or is not known here, and a pair whose scale would lose its digits among float16's
subnormals. How large activations get is not written in a graph: `keep` takes the layers whose activations overflow,
which a run finds.

`emulate` shows on a CPU what half precision computes. ONNX Runtime has no kernels for bfloat16 there, and runs float16
by casting: its optimiser then drops the casts between two operators, so that neither rounding nor overflow shows
(measured on 1.32: a product of 90,000 in float16 comes out finite). So every value that a graph keeps in half precision
is computed in float32 and then rounded by a pair of casts of its own, which the optimiser leaves alone. Kernels that
fuse operators round less often than that.
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
"""Metadata key: what the layers of a quantized graph that are not quantized compute in, if that is not float32."""
FLOAT16_MAX: Final = 65504.0
FLOAT16_LEAST: Final = 2.0**-14
"""The smallest that keeps all eleven digits."""
BFLOAT16_OPSET: Final = 22
"""The first whose convolutions take bfloat16 (ONNX operators, Conv)."""
_MIN_OPSET: Final = 13
_QUANTIZED_OPSET: Final = 19
"""The first whose QuantizeLinear and DequantizeLinear take float16."""
_ELEMENT: Final = {"float16": FLOAT16, "bfloat16": BFLOAT16}

_NARROW: Final = frozenset({
    "Add", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "DequantizeLinear", "Div", "Elu",
    "Expand", "Flatten", "Gather", "Gemm", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MatMul", "Max",
    "MaxPool", "Min", "Mul", "PRelu", "Pad", "QuantizeLinear", "Relu", "Reshape", "Resize", "Selu", "Sigmoid",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""What may compute in half precision. Not here: sums over many values (averages, norms, softmax), exponentials."""
_ALWAYS_FLOAT: Final = {"Resize": frozenset({1, 2})}
"""Inputs that the standard wants, or runtimes read, as float32: a Resize's region and scales."""
_HALF = frozenset({FLOAT16, BFLOAT16})


def convert_precision(
    model: onnx.ModelProto, precision: HalfPrecision, *, keep: Collection[str] = ()
) -> onnx.ModelProto:
    """Write a graph's body in half precision.

    Args:
        model: float32, or quantized with float32 between the codes; weights inside the file. Not changed.
        precision: What the body should compute in, what is quantized excepted.
        keep: Names of nodes that stay float32.

    Returns:
        A new model: inputs, outputs and what comes after the last convolutions as before. bfloat16 raises the operator
        set to 22, the first that has it in convolutions; float16 in a quantized graph to 19.

    Raises:
        GraphError: the graph has no body of float32, computes in half precision already, holds weights outside the
            file, or is too old; a name in `keep` is not a node; bfloat16 in a quantized graph.
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
    """What a graph's codes are; None if it has none."""
    if all(node.op_type != "DequantizeLinear" for node in model.graph.node):
        return None
    return "float8" if any(tensor.data_type == FLOAT8 for tensor in model.graph.initializer) else "int8"


def note_precision(model: onnx.ModelProto, precision: Precision, entries: Mapping[str, str]) -> None:
    """Note in a model's metadata what became of it: in our own record if there is one, and in further entries."""
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
        """Do it.

        Returns:
            Names of the body's layers that could have been narrow but for their weights or the caller's wish.
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
        """The narrow form of a float32 value, made if it is not there yet."""
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
        """Whether the stored numbers that a node takes fit into float16; bfloat16 reaches as far as float32."""
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
        """Drop float32 weights that nothing takes any more, and types of values that are gone."""
        used = {name for node in self._graph.node for name in node.input} | set(implicit_inputs(self._graph))
        used |= {value.name for value in self._graph.output}
        stored = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(stored)
        gone = self._stored.keys() - used
        inputs = [value for value in self._graph.input if value.name not in gone]  # old files list weights there too
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
    """The model at an operator set of at least that version; the model itself if it is at one already.

    Raises:
        GraphError: an operator has no form there.
    """
    from onnx import version_converter

    from yoloship.graph.onnx_file import opset

    if opset(model) >= wanted:
        return model
    try:
        raised = version_converter.convert_version(model, wanted)
    except (RuntimeError, ValueError) as error:  # ConvertError, and what its C++ side may throw
        raise GraphError(
            f"cannot be brought to operator set {wanted}",
            subject=model.graph.name[:60] or "graph",
            got=f"operator set {opset(model)}: {str(error)[:80]}",
            hint="export it again for that one",
        ) from error
    raised.ir_version = max(raised.ir_version, 10 if wanted >= 21 else 9 if wanted >= 19 else 8)
    return raised


def is_half(model: onnx.ModelProto) -> bool:
    """Whether a graph keeps weights in half precision."""
    stored = [*model.graph.initializer, *(entry.t for node in model.graph.node for entry in node.attribute)]
    return any(tensor.data_type in _HALF for tensor in stored)


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 graph that gives what a graph in half precision gives.

    Args:
        model: As `yoloship.graph.passes.half` writes it. Not changed.

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
        infinite: Names of the values that held anything that is not finite, of those of `half_values`.

    Returns:
        Names of nodes: those that give such a value and take none; and where a value of float32 was too large when it
        was cast, those that take it.
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
