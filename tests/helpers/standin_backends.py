"""What the stand-in for TensorRT computes with: torch on a GPU, or the CPU if the driver is a stand-in too."""

from __future__ import annotations

import ctypes
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from helpers.torch_interpreter import TorchNetwork
from yoloship.cuda.device import find_gpu

if TYPE_CHECKING:
    from collections.abc import Mapping


class TorchBackend:
    """On the GPU, by torch, on the stream that it is given.

    Args:
        torch: The module.
        model: The graph.
        compiled: Whether torch's compiler makes fused kernels for each set of shapes (fast, and slow to start), or its
            operators run one by one.
    """

    def __init__(self, torch: Any, model: onnx.ModelProto, *, compiled: bool = False) -> None:
        self._torch = torch
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer ones have another switch as well
            torch.backends.cudnn.allow_tf32 = False
        self._shapes = TorchNetwork(torch, model, "meta")
        self._network = TorchNetwork(torch, model, "cuda")
        self._compiled: dict[tuple[object, ...], Any] | None = {} if compiled else None
        self._lock = threading.Lock()
        torch.cuda.synchronize()  # the weights were copied on another stream

    def output_shapes(self, inputs: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
        feeds = {
            name: self._torch.empty(shape, dtype=getattr(self._torch, np.dtype(dtype).name), device="meta")
            for name, (dtype, shape) in inputs.items()
        }
        return {name: tuple(value.shape) for name, value in self._shapes.run(feeds, {}).items()}

    def queue(self, inputs: Any, outputs: Any, stream_handle: int, state: dict[str, Any]) -> None:
        torch = self._torch
        with torch.no_grad(), torch.cuda.stream(torch.cuda.ExternalStream(stream_handle)):
            feeds = {name: self._view(place, state) for name, place in inputs.items()}
            if self._compiled is None:
                found = self._network.run(feeds, state.setdefault("uploaded", {}))
            else:
                found = self._program(feeds)(*feeds.values())
            for name, value in found.items():
                self._view(outputs[name], state).copy_(value)

    def _program(self, feeds: Mapping[str, Any]) -> Any:
        """The network as one compiled function for inputs of these shapes."""
        assert self._compiled is not None
        key = tuple((name, tuple(value.shape)) for name, value in feeds.items())
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = _compile(self._torch, self._network, feeds)
            return self._compiled[key]

    def _view(self, place: tuple[int, str, tuple[int, ...]], state: dict[str, Any]) -> Any:
        key = f"view {place}"
        if key not in state:
            pointer, dtype, shape = place
            interface = {"shape": shape, "typestr": dtype, "data": (pointer, False), "version": 2}
            holder = type("Foreign", (), {"__cuda_array_interface__": interface})()
            state[key] = self._torch.as_tensor(holder, device="cuda")
        return state[key]


class HostBackend:
    """By ONNX Runtime on the CPU, as a host function on the stream: for memory that is the host's."""

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnxruntime

        self._model = model
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._names = [value.name for value in self._session.get_outputs()]
        self._driver = ctypes.CDLL("libcuda.so.1")

    def output_shapes(self, inputs: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
        if (inferred := self._inferred(inputs)) is not None:
            return inferred
        feeds = {name: np.zeros(shape, dtype) for name, (dtype, shape) in inputs.items()}
        return {n: v.shape for n, v in zip(self._names, self._session.run(self._names, feeds), strict=True)}

    def _inferred(self, inputs: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]] | None:
        """Without running it: shapes too large for any memory have outputs as well."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for value in model.graph.input:
            for place, extent in zip(value.type.tensor_type.shape.dim, inputs[value.name][1], strict=True):
                place.dim_value = extent
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        found = onnx.shape_inference.infer_shapes(model, data_prop=True)
        shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in found.graph.output}
        return shapes if all(shape and 0 not in shape for shape in shapes.values()) else None

    def queue(self, inputs: Any, outputs: Any, stream_handle: int, state: dict[str, Any]) -> None:
        def run(_: object) -> None:
            feeds = {name: _host_view(place) for name, place in inputs.items()}
            for name, value in zip(self._names, self._session.run(self._names, feeds), strict=True):
                _host_view(outputs[name])[...] = value

        key = str((inputs, outputs))
        function = state.setdefault(key, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(run))  # a recorded run calls it later
        status = self._driver.cuLaunchHostFunc(ctypes.c_void_p(stream_handle), function, None)
        assert status == 0, f"cuLaunchHostFunc: {status}"


def _host_view(place: tuple[int, str, tuple[int, ...]]) -> np.ndarray[Any, Any]:
    pointer, dtype, shape = place
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer))
    return memory.view(np.dtype(dtype)).reshape(shape)


def _compile(torch: Any, network: TorchNetwork, feeds: Mapping[str, Any]) -> Any:
    """A function from inputs to outputs by name, of kernels that torch's compiler made."""
    from torch.fx.experimental.proxy_tensor import make_fx

    uploaded: dict[str, Any] = {}
    names = list(network.run(feeds, uploaded))  # also uploads what the trace must not meet on the host

    def flat(*values: Any) -> tuple[Any, ...]:
        return tuple(network.run(dict(zip(feeds, values, strict=True)), uploaded).values())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own
        program = torch._inductor.compile(make_fx(flat)(*feeds.values()), list(feeds.values()))
        program(*feeds.values())
    return lambda *values: dict(zip(names, program(*values), strict=True))


def open_backend(model: onnx.ModelProto, *, compiled: bool = False) -> TorchBackend | HostBackend:
    """Torch where the GPU is real, the CPU where the driver is the stand-in."""
    if (device := find_gpu()) is not None and "stand-in" in device.name:
        return HostBackend(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's, while they are imported
        import torch

    return TorchBackend(torch, model, compiled=compiled)
