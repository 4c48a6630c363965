"""ONNX graphs run by torch, node by node: what the TensorRT stand-in computes with on a real GPU.

Values that depend on shapes alone stay NumPy arrays on the host; all others are torch tensors. Only what a run really
does on the device is queued on torch's current stream, so a run can be recorded once it has been done before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Array = npt.NDArray[Any]


class TorchNetwork:
    """A network on a torch device; `meta` computes shapes only.

    Args:
        torch: The module.
        model: The graph.
        device: Where its weights go.
    """

    def __init__(self, torch: Any, model: onnx.ModelProto, device: str) -> None:
        self._torch = torch
        self._graph = model.graph
        self._device = device
        self._constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._uploaded: dict[str, Any] = {}
        unknown = {node.op_type for node in model.graph.node} - OPERATORS.keys()
        if unknown:
            raise NotImplementedError(", ".join(sorted(unknown)))
        for name in self._constants:
            self.tensor(name, self._constants[name], self._uploaded)

    def tensor(self, name: str, value: Any, uploaded: dict[str, Any]) -> Any:
        """A value on the device; host values are copied there once for each `uploaded`."""
        if not isinstance(value, np.ndarray | np.generic):
            return value
        if name in self._uploaded:
            return self._uploaded[name]
        if name not in uploaded:
            made = self._torch.as_tensor(np.array(value)).to(self._device)
            # Half precision runs on tensor cores, which want channels last; a batch of images comes so already.
            wants_channels_last = made.dim() == 4 and made.dtype == self._torch.float16
            uploaded[name] = made.to(memory_format=self._torch.channels_last) if wants_channels_last else made
        return uploaded[name]

    def run(self, feeds: Mapping[str, Any], uploaded: dict[str, Any]) -> dict[str, Any]:
        """Outputs by name.

        Args:
            feeds: Tensors on the device.
            uploaded: Host values that were copied to the device in earlier runs with the same shapes; grows.
        """
        values: dict[str, Any] = {**self._constants, **feeds}
        for node in self._graph.node:
            results = OPERATORS[node.op_type](Step(self, self._torch, node, values, uploaded))
            values.update(zip(node.output, results if isinstance(results, tuple) else (results,), strict=False))
        return {o.name: self.tensor(o.name, values[o.name], uploaded) for o in self._graph.output}


class Step:
    """One node about to run."""

    def __init__(
        self,
        network: TorchNetwork,
        torch: Any,
        node: onnx.NodeProto,
        values: Mapping[str, Any],
        uploaded: dict[str, Any],
    ) -> None:
        self.torch = torch
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        self._network, self._node, self._values, self._uploaded = network, node, values, uploaded

    @property
    def outputs(self) -> int:
        return len(self._node.output)

    @property
    def on_host(self) -> bool:
        return all(isinstance(self._values[name], np.ndarray | np.generic) for name in self._node.input if name)

    def raw(self, index: int) -> Any:
        return self._values[self._node.input[index]]

    def host(self, index: int) -> Array | None:
        """An input that says how, not what: a shape, sizes, scales."""
        if index >= len(self._node.input) or not self._node.input[index]:
            return None
        value = self.raw(index)
        assert isinstance(value, np.ndarray | np.generic), f"{self._node.op_type} depends on data"
        return np.asarray(value)

    def device(self, index: int) -> Any:
        if index >= len(self._node.input) or not self._node.input[index]:
            return None
        return self._network.tensor(self._node.input[index], self.raw(index), self._uploaded)

    def both(self, on_host: Callable[..., Any], on_device: Callable[..., Any]) -> Any:
        if self.on_host:
            return on_host(*(np.asarray(self.raw(i)) for i in range(len(self._node.input))))
        return on_device(*(self.device(i) for i in range(len(self._node.input))))


def _ints(value: Any) -> list[int]:
    return [int(v) for v in np.asarray(value).reshape(-1)]


def _conv(step: Step) -> Any:
    top, left, bottom, right = step.attributes.get("pads", [0] * 4)
    x, functional = step.device(0), step.torch.nn.functional
    if (top, left) != (bottom, right):
        x, top, left = functional.pad(x, (left, right, top, bottom)), 0, 0
    return functional.conv2d(
        x, step.device(1), step.device(2), tuple(step.attributes.get("strides", (1, 1))), (top, left),
        tuple(step.attributes.get("dilations", (1, 1))), step.attributes.get("group", 1),
    )  # fmt: skip


def _max_pool(step: Step) -> Any:
    top, left, bottom, right = step.attributes.get("pads", [0] * 4)
    x, functional = step.device(0), step.torch.nn.functional
    x = functional.pad(x, (left, right, top, bottom), value=float("-inf"))
    return functional.max_pool2d(
        x, tuple(step.attributes["kernel_shape"]), tuple(step.attributes.get("strides", (1, 1))), 0,
        tuple(step.attributes.get("dilations", (1, 1))), bool(step.attributes.get("ceil_mode", 0)),
    )  # fmt: skip


def _resize(step: Step) -> Any:
    assert step.attributes.get("mode", b"nearest") == b"nearest"
    x, scales, sizes = step.device(0), step.host(2), step.host(3)
    if sizes is not None:
        return step.torch.nn.functional.interpolate(x, size=_ints(sizes)[2:], mode="nearest")
    assert scales is not None
    size = [int(extent * scale) for extent, scale in zip(x.shape[2:], scales[2:], strict=True)]
    return step.torch.nn.functional.interpolate(x, size=size, mode="nearest")


def _reshape(step: Step) -> Any:
    x, wanted = step.raw(0), _ints(step.host(1))
    if not step.attributes.get("allowzero", 0):
        wanted = [int(x.shape[i]) if extent == 0 else extent for i, extent in enumerate(wanted)]
    return x.reshape(wanted)


def _split(step: Step) -> Any:
    x, sizes, axis = step.device(0), step.host(1), step.attributes.get("axis", 0)
    parts = _ints(sizes) if sizes is not None else [x.shape[axis] // step.outputs] * step.outputs
    return tuple(step.torch.split(x, parts, axis))


def _cast(step: Step) -> Any:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(step.attributes["to"])
    return step.both(lambda x: x.astype(dtype), lambda x: x.to(getattr(step.torch, np.dtype(dtype).name)))


def _unsqueeze(step: Step) -> Any:
    x = step.raw(0)
    axes = _ints(step.host(1) if step.host(1) is not None else step.attributes["axes"])
    if isinstance(x, np.ndarray | np.generic):
        return np.expand_dims(x, tuple(axes))
    for axis in sorted(a % (x.dim() + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _expand(step: Step) -> Any:
    x, wanted = step.raw(0), tuple(_ints(step.host(1)))
    shape = np.broadcast_shapes(tuple(x.shape), wanted)
    return np.broadcast_to(x, shape) if isinstance(x, np.ndarray) else x.expand(shape)


def _slice(step: Step) -> Any:
    x, axes, steps = step.raw(0), step.host(3), step.host(4)
    starts, ends = _ints(step.host(1)), _ints(step.host(2))
    index = [slice(None)] * len(x.shape)
    along = _ints(axes) if axes is not None else range(len(starts))
    by = _ints(steps) if steps is not None else [1] * len(starts)
    for axis, start, end, jump in zip(along, starts, ends, by, strict=True):
        index[axis] = slice(start, end, jump)
    return x[tuple(index)]


def _reduce_max(step: Step) -> Any:
    axes = step.host(1) if step.host(1) is not None else step.attributes["axes"]
    return step.device(0).amax(tuple(_ints(axes)), keepdim=bool(step.attributes.get("keepdims", 1)))


def _reduce_mean(step: Step) -> Any:
    x = step.device(0)
    axes = step.attributes.get("axes") if step.host(1) is None else step.host(1)
    along = tuple(range(x.dim())) if axes is None else tuple(_ints(axes))
    return x.mean(along, keepdim=bool(step.attributes.get("keepdims", 1)))


def _arg_max(step: Step) -> Any:
    return step.device(0).argmax(step.attributes.get("axis", 0), keepdim=bool(step.attributes.get("keepdims", 1)))


def _concat(step: Step) -> Any:
    axis = step.attributes["axis"]
    return step.both(lambda *xs: np.concatenate(xs, axis), lambda *xs: step.torch.cat(xs, axis))


def _transpose(step: Step) -> Any:
    order = step.attributes["perm"]
    return step.both(lambda x: x.transpose(order), lambda x: x.permute(*order))


def _shape(step: Step) -> Array:
    extents = np.asarray(tuple(step.raw(0).shape), np.int64)
    return extents[step.attributes.get("start", 0) : step.attributes.get("end", len(extents))]


def _binary(name: str) -> Callable[[Step], Any]:
    return lambda step: step.both(getattr(np, name), getattr(step.torch, name))


OPERATORS: Mapping[str, Callable[[Step], Any]] = {
    "Add": _binary("add"),
    "ArgMax": _arg_max,
    "Cast": _cast,
    "Concat": _concat,
    "Constant": lambda step: numpy_helper.to_array(step.attributes["value"]),
    "Conv": _conv,
    "Div": lambda step: step.device(0) / step.device(1),
    "Expand": _expand,
    "Gather": lambda step: np.take(np.asarray(step.raw(0)), step.raw(1), axis=step.attributes.get("axis", 0)),
    "Identity": lambda step: step.raw(0),
    "LeakyRelu": lambda step: step.torch.nn.functional.leaky_relu(step.device(0), step.attributes.get("alpha", 0.01)),
    "MaxPool": _max_pool,
    "Mul": _binary("multiply"),
    "Pow": _binary("pow"),
    "Range": lambda step: np.arange(*(np.asarray(step.raw(i)).item() for i in range(3)), dtype=step.raw(0).dtype),
    "ReduceMax": _reduce_max,
    "ReduceMean": _reduce_mean,
    "Relu": lambda step: step.torch.relu(step.device(0)),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": lambda step: step.torch.sigmoid(step.device(0)),
    "Slice": _slice,
    "Split": _split,
    "Sub": _binary("subtract"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
