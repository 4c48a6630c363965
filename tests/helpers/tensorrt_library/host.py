"""The Python half of the stand-in library: it reads plans and graphs, and computes, for what `library.c` calls."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from helpers import tensorrt_standin as standin
from helpers.standin_backends import open_backend
from yoloship.cuda.device import find_gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from helpers.standin_backends import HostBackend, TorchBackend

_MANY_AXES = 8
_BEGINNING = b"\x08"
"""The first byte of an ONNX file that has a version of its format."""
_ERROR = 1


class Dims(ctypes.Structure):
    """TensorRT's: a rank, and eight extents."""

    _fields_ = (("rank", ctypes.c_int32), ("extent", ctypes.c_int64 * _MANY_AXES))

    @classmethod
    def of(cls, shape: Sequence[int]) -> Dims:
        return cls(len(shape), (ctypes.c_int64 * _MANY_AXES)(*shape))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.extent[: self.rank])


class TensorInfo(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("type", ctypes.c_int32), ("size", ctypes.c_int32), ("mode", ctypes.c_int32),
        ("location", ctypes.c_int32), ("format", ctypes.c_int32), ("dims", Dims), ("axes", ctypes.c_char_p * 8),
    )  # fmt: skip


class LayerInfo(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("type", ctypes.c_int32), ("output", ctypes.c_int32))


class Network(ctypes.Structure):
    _fields_ = (
        ("tensors", ctypes.c_int32), ("layers", ctypes.c_int32), ("profiles", ctypes.c_int32),
        ("refusals", ctypes.c_int32), ("fails_after", ctypes.c_int32), ("tensor", ctypes.POINTER(TensorInfo)),
        ("layer", ctypes.POINTER(LayerInfo)), ("profile", ctypes.POINTER(Dims)), ("layers_json", ctypes.c_char_p),
        ("memory", ctypes.c_int64),
    )  # fmt: skip


class ParserFault(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_int32), ("node", ctypes.c_int32), ("description", ctypes.c_char_p),
        ("node_name", ctypes.c_char_p), ("operator_name", ctypes.c_char_p),
    )  # fmt: skip


class Bytes(ctypes.Structure):
    _fields_ = (("at", ctypes.c_char_p), ("size", ctypes.c_size_t))


_P, _I, _L, _S, _B = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_size_t, ctypes.c_bool
_CALLBACKS = {
    "load": ctypes.CFUNCTYPE(_P, _P, _S, _P),
    "parse": ctypes.CFUNCTYPE(_P, ctypes.c_char_p, _P, _S, ctypes.POINTER(ParserFault), _P),
    "build": ctypes.CFUNCTYPE(_B, _P, ctypes.POINTER(Dims), _I, ctypes.POINTER(Bytes), _P),
    "output_shapes": ctypes.CFUNCTYPE(_B, _P, ctypes.POINTER(Dims), _P),
    "run": ctypes.CFUNCTYPE(_B, _P, _L, _L, _P, _P, _P, _P),
    "forget": ctypes.CFUNCTYPE(None, _P, _L),
}


class Host(ctypes.Structure):
    _fields_ = (
        *_CALLBACKS.items(),
        ("current_context", _P), ("stream_context", _P), ("address_range", _P), ("typed_flag", _I), ("host_type", _I),
        ("input_mode", _I), ("output_mode", _I), ("null_object", ctypes.c_char_p), ("null_reason", ctypes.c_char_p),
    )  # fmt: skip


@dataclass(slots=True)
class _Run:
    """What one execution context runs with: it holds until a shape or an address changes."""

    generation: int
    shapes: tuple[tuple[int, ...], ...]
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    state: dict[str, Any]


@dataclass(slots=True)
class _Graph:
    """A network or an engine: what the library sees of it, and what computes it."""

    model: onnx.ModelProto
    seen: Network
    tensors: Any
    kept: list[Any]
    backend: HostBackend | TorchBackend | None = None
    runs: dict[int, _Run] = field(default_factory=dict)


class _Refusal(Exception):
    """What the library says in its log instead of giving an answer."""


class Library:
    """The stand-in library of this process.

    Args:
        bindings: The module `tensorrt_bindings`. Every number of an enumeration is asked from it.
    """

    def __init__(self, bindings: Any) -> None:
        self._module = bindings
        self._c = ctypes.CDLL(f"libnvinfer.so.{bindings.__version__.split('.')[0]}")  # the one that is loaded
        self._c.standin_say.argtypes = (_P, _I, ctypes.c_char_p)
        for name in ("faults", "trail"):
            getattr(self._c, f"standin_{name}").restype = ctypes.c_char_p
        self._c.standin_kind.restype = ctypes.c_char_p
        self._graphs: dict[int, _Graph] = {}
        self._plan = b""
        self._host = Host(
            *(kind(self._guarded(getattr(self, f"_{name}"))) for name, kind in _CALLBACKS.items()),
            typed_flag=int(bindings.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
            host_type=int(bindings.DataType.INT8),
            input_mode=int(bindings.TensorIOMode.INPUT),
            output_mode=int(bindings.TensorIOMode.OUTPUT),
        )
        gpu = find_gpu()
        if gpu is not None and "stand-in" in gpu.name:  # a real driver says itself what is wrong with an address
            driver = ctypes.CDLL("libcuda.so.1")
            for member, name in (
                ("current_context", "cuCtxGetCurrent"), ("stream_context", "cuStreamGetCtx"),
                ("address_range", "cuMemGetAddressRange_v2"),
            ):  # fmt: skip
                setattr(self._host, member, ctypes.cast(getattr(driver, name), _P).value)
        self._c.standin_connect(ctypes.byref(self._host))

    # What tests ask.

    @property
    def faults(self) -> list[str]:
        """What was destroyed in the wrong order."""
        return [line.decode() for line in self._c.standin_faults().splitlines()]

    def forgive(self) -> None:
        """Forget the faults."""
        self._c.standin_forgive()

    @property
    def alive(self) -> dict[str, int]:
        """How many objects of each class live; classes without any are left out."""
        found, kind = {}, 0
        while (name := self._c.standin_kind(kind)) is not None:
            if count := self._c.standin_alive(kind):
                found[name.decode()] = count
            kind += 1
        return found

    @contextlib.contextmanager
    def trail(self) -> Iterator[Callable[[], list[str]]]:
        """Yields a function for what was made (``+VRuntime``) and destroyed (``-VRuntime``) since, in order."""
        self._c.standin_new_trail()
        yield lambda: self._c.standin_trail().decode().split()

    @contextlib.contextmanager
    def without(self, kind: str, said: str) -> Iterator[None]:
        """Let the constructor of this class give null, after it has said this."""
        self._host.null_object, self._host.null_reason = kind.encode(), said.encode()
        self._c.standin_connect(ctypes.byref(self._host))
        try:
            yield
        finally:
            self._host.null_object = None
            self._c.standin_connect(ctypes.byref(self._host))

    # What the library calls. ctypes takes the interpreter's lock.

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Say an exception in the log, and answer with null: ctypes would swallow it. The last argument is a logger."""

        def call(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except Exception as error:
                logger = arguments[-1]
                said = f"stand-in library: {type(error).__name__}: {error}"
                said = str(error) if isinstance(error, _Refusal) else said
                self._c.standin_say(logger, _ERROR, said.encode("utf-8", "replace")[:1000])
                return 0

        return function if function.__name__ in {"_forget", "_run"} else call  # called often; they look after it

    def _keep(self, graph: _Graph) -> int:
        address = ctypes.addressof(graph.seen)
        self._graphs[address] = graph
        return address

    def _load(self, plan: int, size: int, _logger: int) -> int:
        try:
            about, model = standin.read_plan(ctypes.string_at(plan, size))
            if "deserialize" in about["faults"]:
                raise ValueError("on purpose")
            graph = self._describe(model, about)
            graph.backend = open_backend(model, compiled=about["compiled"])
        except (ValueError, NotImplementedError) as error:
            said = f"IRuntime::deserializeCudaEngine: Error Code 1: cannot be read ({error})"
            raise _Refusal(said) from error
        return self._keep(graph)

    def _parse(self, path: bytes, data: int | None, size: int, fault: Any, _logger: int) -> int:
        content = ctypes.string_at(data, size) if data else Path(os.fsdecode(path)).read_bytes()
        try:
            model = onnx.load_from_string(content)
        except Exception:  # the decoder's own class is private
            if not content.startswith(_BEGINNING):
                return self._keep(self._describe(onnx.ModelProto(), None))  # as TensorRT, which then finds no layers
            return self._refuse_model(fault, "MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.")
        folder = Path(os.fsdecode(path)).parent
        for tensor in model.graph.initializer:
            place = next((entry.value for entry in tensor.external_data if entry.key == "location"), None)
            if place is not None and not (folder / place).exists():
                raise _Refusal(f"Failed to open file: {folder / place}")
        onnx.load_external_data_for_model(model, os.fspath(folder))
        for number, node in enumerate(model.graph.node):
            if node.domain not in {"", "ai.onnx"} or node.op_type == "NonZero":
                return self._refuse_model(fault, "UNSUPPORTED_NODE", "false", number, node)
        return self._keep(self._describe(onnx.shape_inference.infer_shapes(model), None))

    def _refuse_model(self, fault: Any, code: str, said: str, number: int = -1, node: Any = None) -> int:
        texts = [said, *((node.name, node.op_type) if node is not None else ("", ""))]
        kept = [text.encode() for text in texts]
        self._plan_fault = kept  # the library reads them later
        fault[0] = ParserFault(int(getattr(self._module.ErrorCode, code)), number, *kept)
        return 0

    def _build(self, network: int, profiles: Any, count: int, plan: Any, _logger: int) -> bool:
        graph = self._graphs[network]
        seen = graph.seen
        dynamic = [
            place for place in range(seen.tensors)
            if seen.tensor[place].mode == self._host.input_mode and -1 in seen.tensor[place].dims.shape
        ]  # fmt: skip
        found = [
            {
                seen.tensor[place].name.decode(): [
                    profiles[(number * seen.tensors + place) * 3 + selector].shape for selector in range(3)
                ]
                for place in dynamic
            }
            for number in range(count)
        ]
        self._plan = standin.plan(graph.model, found if dynamic else ())  # lives until the library has copied it
        plan[0] = Bytes(self._plan, len(self._plan))
        return True

    def _output_shapes(self, network: int, shapes: Any, _logger: int) -> bool:
        graph = self._graphs[network]
        assert graph.backend is not None
        inputs = {
            name: (dtype, shapes[place].shape)
            for place, (name, dtype, is_input) in enumerate(graph.tensors)
            if is_input
        }  # fmt: skip
        found = graph.backend.output_shapes(inputs)
        for place, (name, _, is_input) in enumerate(graph.tensors):
            if not is_input:
                shapes[place] = Dims.of(found[name])
        return True

    def _run(self, *call: int) -> bool:
        network, context, generation, stream, shapes, addresses, logger = call
        try:
            graph = self._graphs[network]
            run = graph.runs.get(context)
            if run is None or run.generation != generation:
                run = graph.runs[context] = _prepared(graph, graph.runs.get(context), generation, (shapes, addresses))
            assert graph.backend is not None
            graph.backend.queue(run.inputs, run.outputs, stream, run.state)
        except Exception as error:
            self._c.standin_say(logger, _ERROR, f"stand-in library: {type(error).__name__}: {error}".encode()[:1000])
            return False
        return True

    def _forget(self, network: int, context: int) -> None:
        self._graphs[network].runs.pop(context, None)

    def _describe(self, model: onnx.ModelProto, about: dict[str, Any] | None) -> _Graph:
        """A graph as the library sees it: as an engine with inputs and outputs, or as a network with layers as well."""
        graph = model.graph
        module = self._module
        weights = {value.name for value in graph.initializer}
        inputs = [value for value in graph.input if value.name not in weights]
        named = [*((value, module.TensorIOMode.INPUT) for value in inputs),
                 *((value, module.TensorIOMode.OUTPUT) for value in graph.output)]  # fmt: skip
        faults = () if about is None else about["faults"]
        infos = [self._tensor(value, mode, faults) for value, mode in named]
        tensors = [(value.name, _numpy_type(value).str, mode == module.TensorIOMode.INPUT) for value, mode in named]
        layers = self._layers(model, infos) if about is None else [
            LayerInfo((node.name or node.op_type).encode(), 0, 0) for node in graph.node
        ]  # fmt: skip
        profiles = [] if about is None else about["profiles"]
        ranges = [
            Dims.of(shape)
            for profile in profiles
            for name, *_ in tensors
            for shape in profile.get(name, [()] * 3)
        ]  # fmt: skip
        bits = {"shape": 1, "context": 2, "profile": 4, "infer": 8}
        arrays = (
            (TensorInfo * len(infos))(*infos), (LayerInfo * len(layers))(*layers), (Dims * len(ranges))(*ranges),
        )  # fmt: skip
        fails_after = None if about is None else about["fails_after"]
        seen = Network(
            len(infos), len(layers), len(profiles), sum(bits.get(fault, 0) for fault in faults),
            -1 if fails_after is None else fails_after, *arrays, _layers_json(model).encode(), standin.MEMORY_BYTES,
        )  # fmt: skip
        return _Graph(model, seen, tensors, [*arrays])

    def _tensor(self, value: Any, mode: Any, faults: Sequence[str]) -> TensorInfo:
        module = self._module
        kind = value.type.tensor_type
        shape = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in kind.shape.dim]
        dtype = getattr(module.DataType, _TYPES.get(onnx.TensorProto.DataType.Name(kind.elem_type), "FLOAT"))
        axes = [axis.dim_param.encode() or None for axis in kind.shape.dim]
        return TensorInfo(
            value.name.encode(), int(dtype), _numpy_type(value).itemsize, int(mode),
            int(module.TensorLocation.HOST if "host" in faults else module.TensorLocation.DEVICE),
            int(module.TensorFormat.CHW2 if "format" in faults else module.TensorFormat.LINEAR), Dims.of(shape),
            (ctypes.c_char_p * _MANY_AXES)(*axes),
        )  # fmt: skip

    def _layers(self, model: onnx.ModelProto, infos: list[TensorInfo]) -> list[LayerInfo]:
        """One for each node; the tensors between nodes are added to `infos`."""
        places = {info.name.decode(): place for place, info in enumerate(infos)}
        for value in model.graph.value_info:
            places[value.name] = len(infos)
            infos.append(self._tensor(value, self._module.TensorIOMode.NONE, ()))
        return [
            LayerInfo(
                (node.name or node.op_type).encode(),
                int(getattr(self._module.LayerType, _LAYERS.get(node.op_type, "IDENTITY"))),
                places.get(node.output[0], 0),
            )
            for node in model.graph.node
        ]


def _prepared(graph: _Graph, before: _Run | None, generation: int, arrays: tuple[int, int]) -> _Run:
    """The places of the inputs and outputs, from the addresses of the library's arrays of shapes and pointers."""
    count = len(graph.tensors)
    dims, pointers = (Dims * count).from_address(arrays[0]), (_P * count).from_address(arrays[1])
    shapes = tuple(dims[place].shape for place in range(count))
    places = {name: (pointers[place], dtype, shapes[place]) for place, (name, dtype, _) in enumerate(graph.tensors)}
    inputs = {name: places[name] for name, _, is_input in graph.tensors if is_input}
    outputs = {name: place for name, place in places.items() if name not in inputs}
    state = before.state if before is not None and before.shapes == shapes else {}  # what is kept for these shapes
    return _Run(generation, shapes, inputs, outputs, state)


_TYPES = {
    "FLOAT": "FLOAT", "FLOAT16": "HALF", "BFLOAT16": "BF16", "INT8": "INT8", "UINT8": "UINT8", "INT32": "INT32",
    "INT64": "INT64", "BOOL": "BOOL", "FLOAT8E4M3FN": "FP8",
}  # fmt: skip
"""ONNX's element types by TensorRT's names."""
_LAYERS = {
    "Conv": "CONVOLUTION", "Relu": "ACTIVATION", "Sigmoid": "ACTIVATION", "Cast": "CAST", "Add": "ELEMENTWISE",
    "Mul": "ELEMENTWISE", "Concat": "CONCATENATION", "MaxPool": "POOLING", "Resize": "RESIZE", "Reshape": "SHUFFLE",
    "Transpose": "SHUFFLE", "QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE", "Constant": "CONSTANT",
    "NonMaxSuppression": "NMS", "TopK": "TOPK", "Gather": "GATHER", "Slice": "SLICE", "Softmax": "SOFTMAX",
}  # fmt: skip
"""ONNX's operators by TensorRT's kinds of layers; the others are called IDENTITY here."""


def _numpy_type(value: Any) -> np.dtype[Any]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def _layers_json(model: onnx.ModelProto) -> str:
    """What an engine inspector says, in the form of a plan with details."""
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.output)}
    layers = [
        {
            "Name": node.name or node.op_type,
            "LayerType": node.op_type,
            "Outputs": [
                {"Name": name, "Format/Datatype": onnx.TensorProto.DataType.Name(types.get(name, 0)).capitalize()}
                for name in node.output
            ],
        }
        for node in model.graph.node
    ]
    return json.dumps({"Layers": layers})


_libraries: list[Library] = []


def connect(bindings: Any) -> None:
    """Connect the library of this process with these bindings. `import tensorrt` does it."""
    if not _libraries:
        _libraries.append(Library(bindings))


def library() -> Library:
    """The library of this process."""
    import tensorrt  # noqa: F401 - connects it

    return _libraries[0]
