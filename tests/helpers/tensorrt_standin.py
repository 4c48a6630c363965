"""A stand-in for TensorRT's runtime, for tests: its API and its manners, and another engine's arithmetic behind them.

It is not TensorRT. A "plan" holds an ONNX graph, which torch computes on the stream that it is given, or, over the
stand-in for the driver (whose device memory is the host's), ONNX Runtime on the CPU. `flavour` gives it as a flavour of
TensorRT. That names and parameters are TensorRT's own is checked by tests/unit/runtime/test_tensorrt_surface.py.

In a process with `helpers.tensorrt_library.wheels.with_bindings`, `flavour` and `without` give TensorRT's own Python
bindings over a stand-in for its library instead. Plans are the same there.
"""

from __future__ import annotations

import enum
import functools
import json
import struct
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from helpers import standin_builder
from helpers.standin_backends import open_backend
from helpers.tensorrt_library.wheels import chosen
from yoloship.engine.builder import BuiltEngine
from yoloship.engine.config import BuildConfig, InputProfile
from yoloship.engine.file import write_engine
from yoloship.engine.flavours import Flavour, FlavourName, open_flavour
from yoloship.model import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.model import ModelInfo

__version__ = "10.0.0+standin"
MANNERS = ("10.3", "10.13", "11.4") if (_chosen := chosen()) is None else (".".join(_chosen.split(".")[:2]),)
"""Versions whose bindings' manners it can have. The real bindings have their own."""
_RTX_VERSION = (1, 7, 0, 0)
_HEAD_BYTES = 28
MEMORY_BYTES = 123_456_789
"""What an execution context is said to need."""


def _head(body_bytes: int, *, rtx: bool) -> bytes:
    """The header of a plan, as far as it is known."""
    if not rtx:
        return b"ftrt".ljust(_HEAD_BYTES, b"\0")
    return b"vtrt" + bytes(12) + struct.pack("<Q", _HEAD_BYTES + body_bytes) + bytes(_RTX_VERSION)


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6
    BF16 = 7
    INT64 = 8


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.Enum):
    DEVICE = 0
    HOST = 1


class TensorFormat(enum.Enum):
    LINEAR = 0
    CHW2 = 1


class Dims(tuple[int, ...]):
    __slots__ = ()


class UnknownDims(Dims):
    """What bindings before 11.4 give for an unknown tensor: a length of -1, and nothing to iterate over."""

    __slots__ = ()

    def __len__(self) -> int:
        return -1  # noqa: PLE0303 - as the bindings answer


class ProcessEnds(BaseException):
    """Where the real bindings end the process. It is not an Exception, so that nothing catches it."""


_DATA_TYPES = {
    "float32": DataType.FLOAT, "float16": DataType.HALF, "uint8": DataType.UINT8, "int8": DataType.INT8,
    "int32": DataType.INT32, "int64": DataType.INT64, "bool": DataType.BOOL,
}  # fmt: skip
_NUMPY = {
    DataType.FLOAT: "<f4", DataType.HALF: "<f2", DataType.UINT8: "|u1", DataType.INT8: "|i1", DataType.INT32: "<i4",
    DataType.INT64: "<i8", DataType.BOOL: "|b1",
}  # fmt: skip


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = Severity.INTERNAL_ERROR, Severity.ERROR, Severity.WARNING

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class LayerInformationFormat(enum.Enum):
    ONELINE = 0
    JSON = 1


class IProfiler:
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


class EngineInspector:
    """Says what a plan with details says; the names of fields are NVIDIA's."""

    def __init__(self, layers: list[dict[str, Any]]) -> None:
        self._layers = layers

    def get_engine_information(self, format: LayerInformationFormat) -> str:  # noqa: A002 - TensorRT's
        return json.dumps({"Layers": self._layers})


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY = 0
    EAGER = 1
    NONE = 2


class IRuntimeCache:
    """Only in TensorRT-RTX. What it contains are the shapes that contexts had, instead of kernels."""

    def __init__(self) -> None:
        self.kernels: set[str] = set()

    def deserialize(self, blob: Any) -> bool:
        try:
            self.kernels |= set(json.loads(bytes(blob)))
        except ValueError:
            return False
        return True

    def serialize(self) -> bytes | None:
        return json.dumps(sorted(self.kernels)).encode() if self.kernels else None

    def reset(self) -> bool:
        self.kernels.clear()
        return True


class IRuntimeConfig:
    """Only in TensorRT-RTX with these members."""

    def __init__(self) -> None:
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
        self._cache: IRuntimeCache | None = None

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache | None) -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> IRuntimeCache | None:
        return self._cache


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        try:
            about, model = read_plan(bytes(serialized_engine))
            return ICudaEngine(self.logger, model, about)
        except (ValueError, NotImplementedError) as error:
            self.logger.log(Severity.ERROR, f"IRuntime::deserializeCudaEngine: Error Code 1: cannot be read ({error})")
            return None


class ICudaEngine:
    def __init__(self, logger: ILogger, model: onnx.ModelProto, about: dict[str, Any]) -> None:
        self._logger = logger
        self._about = about
        self._contexts = 0
        self._tensors: dict[str, tuple[TensorIOMode, DataType, Dims]] = {}
        for mode, values in ((TensorIOMode.INPUT, model.graph.input), (TensorIOMode.OUTPUT, model.graph.output)):
            for value in values:
                kind = value.type.tensor_type
                dims = Dims(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
                dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
                self._tensors[value.name] = mode, _DATA_TYPES[dtype], dims
        self._layers = [
            {
                "Name": node.name or f"{node.op_type}_{number}",
                "LayerType": node.op_type,
                "Outputs": [{"Name": node.output[0], "Format/Datatype": "Row major linear FP32"}],
                **({"Weights": {"Type": "Float", "Count": 1}} if node.op_type == "Conv" else {}),
            }
            for number, node in enumerate(model.graph.node)
        ]
        self.backend = open_backend(model, compiled=about["compiled"])

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def num_optimization_profiles(self) -> int:
        return max(1, len(self._about["profiles"]))

    @property
    def device_memory_size_v2(self) -> int:
        return MEMORY_BYTES

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._tensors[name][0] if name in self._tensors else TensorIOMode.NONE

    def get_tensor_dtype(self, name: str) -> DataType:
        if name not in self._tensors:
            self.unknown(name)
            return DataType.FLOAT
        return self._tensors[name][1]

    def get_tensor_shape(self, name: str) -> Dims:
        if name not in self._tensors or "shape" in self._about["faults"]:
            self.unknown(name)
            return UnknownDims()
        return self._tensors[name][2]

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.HOST if "host" in self._about["faults"] else TensorLocation.DEVICE

    def get_tensor_format(self, name: str) -> TensorFormat:
        return TensorFormat.CHW2 if "format" in self._about["faults"] else TensorFormat.LINEAR

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        return [Dims(shape) for shape in self._about["profiles"][profile_index][name]]

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self._layers)

    @property
    def layer_names(self) -> list[str]:
        """Only in the stand-in."""
        return [str(layer["Name"]) for layer in self._layers]

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, runtime_config: IRuntimeConfig | None = None) -> IExecutionContext | None:
        if "context" in self._about["faults"]:
            self._logger.log(
                Severity.ERROR, "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)"
            )
            return None
        self._contexts += 1
        kernels = runtime_config.get_runtime_cache() if runtime_config is not None else None
        return IExecutionContext(self, 0 if self._contexts == 1 else -1, kernels)

    def error(self, text: str) -> bool:
        """Not TensorRT's: says it in the log, and answers False."""
        self._logger.log(Severity.ERROR, f"IExecutionContext::standIn: Error Code 3: API Usage Error ({text})")
        return False

    def unknown(self, name: str) -> None:
        """Not TensorRT's: what the bindings do about a tensor that they do not know, before they answer."""
        self.error(f"given invalid tensor name: {name}")
        if self.bindings >= (11, 4):
            raise RuntimeError(f"invalid tensor name {name}")

    @property
    def bindings(self) -> tuple[int, int]:
        """Only in the stand-in: the version of the bindings whose manners it has."""
        major, minor = self._about["bindings"].split(".")
        return int(major), int(minor)

    def refuses(self, call: str) -> bool:
        """Only in the stand-in: whether this call should be refused."""
        return call in self._about["faults"]

    def fails(self, runs: int) -> bool:
        """Only in the stand-in: whether the run of that number should fail."""
        after = self._about["fails_after"]
        return after is not None and runs > after


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, profile: int, kernels: IRuntimeCache | None = None) -> None:
        self.engine = engine
        self._kernels = kernels
        self.profiler: IProfiler | None = None
        self.enqueue_emits_profile = True
        self.active_optimization_profile = profile
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._outputs: dict[str, tuple[int, ...]] | None = None
        self._state: dict[str, Any] = {}
        self._runs = 0

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        is_there = 0 <= profile_index < self.engine.num_optimization_profiles
        if not is_there or not stream_handle or self.engine.refuses("profile"):
            self.engine.error(f"profile {profile_index}")
            if self.engine.bindings < (10, 13):
                raise ProcessEnds("the binding throws without holding the interpreter's lock")
            raise RuntimeError("Error in set optimization profile async.")
        self.active_optimization_profile = profile_index
        self._shapes.clear()
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        if self.engine.get_tensor_mode(name) is not TensorIOMode.INPUT:
            return self.engine.error(f"{name} is no input")
        fixed = self.engine.get_tensor_shape(name)
        if len(fixed) != len(shape) or any(want not in {-1, have} for want, have in zip(fixed, shape, strict=True)):
            return self.engine.error(f"static dimensions of {name} differ")
        if -1 in fixed:
            if self.active_optimization_profile < 0:
                return self.engine.error("no optimization profile is set")
            low, _, high = self.engine.get_tensor_profile_shape(name, self.active_optimization_profile)
            if not all(a <= have <= b for a, have, b in zip(low, shape, high, strict=True)):
                return self.engine.error(f"{tuple(shape)} is outside the profile")
        if self._shapes.get(name) != tuple(shape):
            self._shapes[name] = tuple(shape)
            self._outputs = None
            self._state = {}  # what earlier runs kept for their shapes
        return True

    def infer_shapes(self) -> list[str]:
        if self.engine.refuses("infer"):
            self.engine.error("the shapes contradict each other")
            if self.engine.bindings < (10, 13):
                raise ProcessEnds("the binding throws without holding the interpreter's lock")
            raise RuntimeError("infer_shapes error code: -1")
        return [
            name
            for name in map(self.engine.get_tensor_name, range(self.engine.num_io_tensors))
            if self.engine.get_tensor_mode(name) is TensorIOMode.INPUT
            and -1 in self.engine.get_tensor_shape(name)
            and name not in self._shapes
        ]

    def _input_shapes(self) -> dict[str, tuple[int, ...]]:
        names = map(self.engine.get_tensor_name, range(self.engine.num_io_tensors))
        inputs = [name for name in names if self.engine.get_tensor_mode(name) is TensorIOMode.INPUT]
        return {name: self._shapes.get(name) or tuple(self.engine.get_tensor_shape(name)) for name in inputs}

    def get_tensor_shape(self, name: str) -> Dims:
        if self.engine.get_tensor_mode(name) is TensorIOMode.NONE:
            return self.engine.get_tensor_shape(name)
        if self.engine.get_tensor_mode(name) is TensorIOMode.INPUT:
            return Dims(self._input_shapes()[name])
        fixed = self.engine.get_tensor_shape(name)
        if self.engine.refuses("infer"):
            self.engine.error("the shapes contradict each other")
            return UnknownDims()
        if -1 not in fixed or self.infer_shapes():
            return fixed
        if self._outputs is None:
            self._outputs = self.engine.backend.output_shapes(self._typed(self._input_shapes()))
        return Dims(self._outputs[name])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self.engine.get_tensor_mode(name) is TensorIOMode.NONE or memory % 256:
            return self.engine.error(f"the address of {name}")
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._runs += 1
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        if missing := [name for name in names if name not in self._addresses]:
            return self.engine.error(f"no address for {missing}")
        if self.infer_shapes() or self.active_optimization_profile < 0:
            return self.engine.error("shapes or profile are not set")
        if self.engine.fails(self._runs):
            return self.engine.error("Cuda Runtime (an illegal memory access was encountered)")
        shapes = {name: tuple(self.get_tensor_shape(name)) for name in names}
        places = {name: (self._addresses[name], *typed) for name, typed in self._typed(shapes).items()}
        inputs = {n: p for n, p in places.items() if self.engine.get_tensor_mode(n) is TensorIOMode.INPUT}
        outputs = {n: p for n, p in places.items() if n not in inputs}
        self.engine.backend.queue(inputs, outputs, stream_handle, self._state)
        if self._kernels is not None:
            self._kernels.kernels.add(str(sorted(shapes.items())))
        if self.enqueue_emits_profile and self.profiler is not None:
            self.report_to_profiler()
        return True

    def report_to_profiler(self) -> bool:
        if self.profiler is None or not self._runs or self.engine.refuses("report"):
            return self.engine.error("there is nothing to report")
        for number, name in enumerate(self.engine.layer_names):
            self.profiler.report_layer_time(name, float(number + 1))
        return True

    def _typed(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        return {name: (_NUMPY[self.engine.get_tensor_dtype(name)], shape) for name, shape in shapes.items()}


def plan(
    model: onnx.ModelProto,
    profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]] = (),
    faults: Sequence[str] = (),
    fails_after: int | None = None,
    compiled: bool = False,
    bindings: str = "10.13",
    *,
    rtx: bool = False,
) -> bytes:
    """Only in the stand-in: a "plan" with a graph, the shapes that it may take, and the failures to simulate.

    The manners of a refusal are those of the bindings of that version.
    """
    told = {
        "profiles": list(profiles), "faults": list(faults), "fails_after": fails_after, "compiled": compiled,
        "bindings": bindings,
    }  # fmt: skip
    about = json.dumps(told).encode()
    body = b"".join([struct.pack("<I", len(about)), about, model.SerializeToString()])
    return _head(len(body), rtx=rtx) + body


def read_plan(data: bytes) -> tuple[dict[str, Any], onnx.ModelProto]:
    """Only in the stand-in: what `plan` was told, and its graph.

    Raises:
        ValueError: it is not such a plan, or is to be refused.
    """
    if not data.startswith((b"ftrt", b"vtrt")):
        raise ValueError("magic number")
    (length,) = struct.unpack_from("<I", data, _HEAD_BYTES)
    about = json.loads(data[_HEAD_BYTES + 4 :][:length])
    model = onnx.load_from_string(data[_HEAD_BYTES + 4 + length :])
    if "deserialize" in about["faults"]:
        raise ValueError("on purpose")
    return about, model


_RTX_ONLY = ("DynamicShapesKernelSpecializationStrategy", "IRuntimeCache")


def flavour(name: FlavourName = "tensorrt") -> Flavour:
    """Not TensorRT's: this module as a flavour of it, or the real bindings in a process that has them."""
    if name == "rtx":
        return Flavour(name, ".".join(map(str, _RTX_VERSION)), _module(without=()))
    return python_flavour() if chosen() is None else open_flavour(name)


def python_flavour() -> Flavour:
    """Not TensorRT's: this module as a flavour of it, also in a process with the real bindings."""
    return Flavour("tensorrt", __version__, _module(without=_RTX_ONLY))


@functools.cache  # one logger for each module
def _module(without: tuple[str, ...]) -> ModuleType:
    module = ModuleType("tensorrt")
    everything = {**vars(standin_builder), **globals()}
    vars(module).update({name: thing for name, thing in everything.items() if name not in without})
    return module


def without(kind: str, said: str) -> Flavour:
    """Not TensorRT's: a flavour in which one constructor gets a null pointer, as the bindings say it."""
    if chosen() is not None:
        return _bindings_without(kind, said)

    class Null:
        def __init__(self, *arguments: Any) -> None:
            logger = next(thing for thing in arguments if isinstance(thing, ILogger))
            logger.log(Severity.ERROR, said)
            raise TypeError("pybind11::init(): factory function returned nullptr")

    module = ModuleType("tensorrt")
    vars(module).update({**vars(_module(_RTX_ONLY)), kind: Null})
    return Flavour("tensorrt", __version__, module)


def _bindings_without(kind: str, said: str) -> Flavour:
    from helpers.tensorrt_library.host import library

    whole = flavour()

    def null(*arguments: Any) -> Any:
        with library().without(kind, said):
            return getattr(whole.module, kind)(*arguments)

    module = ModuleType("tensorrt")
    vars(module).update({**vars(whole.module), kind: null})
    return Flavour("tensorrt", whole.version, module)


def write_plan(
    path: Path,
    model: onnx.ModelProto,
    profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]] = (),
    *,
    info: ModelInfo | None = None,
    compute_capability: str | None = None,
    faults: Sequence[str] = (),
    fails_after: int | None = None,
    config: BuildConfig | None = None,
    compiled: bool = False,
    bindings: str = "10.13",
    flavour_name: FlavourName = "tensorrt",
) -> Path:
    """Not TensorRT's: an engine file with its sidecar, as `yoloship build` writes them."""

    def specs(values: Any) -> tuple[TensorSpec, ...]:
        found = []
        for value in values:
            kind = value.type.tensor_type
            dtype: Any = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
            shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim)
            found.append(TensorSpec(value.name, dtype, shape))
        return tuple(found)

    built = BuiltEngine(
        plan=plan(model, profiles, faults, fails_after, compiled, bindings, rtx=flavour_name == "rtx"),
        flavour=flavour_name,
        version=flavour(flavour_name).version,
        compute_capability=compute_capability,
        inputs=specs(model.graph.input),
        outputs=specs(model.graph.output),
        profiles=tuple(
            InputProfile(name, *(tuple(shape) for shape in shapes)) for p in profiles[:1] for name, shapes in p.items()
        ),
        dtypes=frozenset({"float32"}),
        onnx_sha256="0" * 64,
        config=config or BuildConfig(),
        warnings=(),
        elapsed_s=0.0,
    )
    write_engine(path, built, source_name="model.onnx", model=info)
    return path
