"""The half of the stand-in for TensorRT that builds: a "plan" holds the ONNX graph as it was parsed.

`helpers.tensorrt_standin.flavour` gives both halves as one module. Names and parameters are held to TensorRT's own by
tests/unit/runtime/test_tensorrt_surface.py.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

if TYPE_CHECKING:
    from collections.abc import Sequence


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 0


class ProfilingVerbosity(enum.Enum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class ITensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        from helpers.tensorrt_standin import _DATA_TYPES, Dims

        kind = value.type.tensor_type
        self.name = value.name
        self.dtype = _DATA_TYPES[np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name]
        self.shape = Dims(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
        self._names: list[str] = [d.dim_param for d in kind.shape.dim]

    def get_dimension_name(self, index: int) -> str:
        return self._names[index]


class ILayer:
    def __init__(self, node: onnx.NodeProto, outputs: list[ITensor]) -> None:
        self.name = node.name
        self.type = node.op_type
        self._outputs = outputs

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]


class INetworkDefinition:
    def __init__(self) -> None:
        self.model: onnx.ModelProto | None = None
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []
        self._layers: list[ILayer] = []

    def fill(self, model: onnx.ModelProto) -> None:
        """Not TensorRT's: takes what the parser has read."""
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        known = {v.name: v for v in (*inferred.graph.value_info, *inferred.graph.output)}
        self.model = model
        self._inputs = [ITensor(value) for value in model.graph.input]
        self._outputs = [ITensor(value) for value in inferred.graph.output]
        self._layers = [ILayer(n, [ITensor(known[o]) for o in n.output if o in known]) for n in model.graph.node]

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_layer(self, index: int) -> ILayer:
        return self._layers[index]

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network = network
        self._logger = logger
        self.num_errors = 0

    def parse_from_file(self, model: str) -> bool:
        try:
            self._network.fill(onnx.load(model))
        except Exception as error:  # whatever a reader says of what is not a model
            from helpers.tensorrt_standin import Severity

            self._logger.log(Severity.ERROR, f"ModelImporter.cpp:1: {error}")
            return False
        return True


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:  # noqa: A002
        self.shapes[input] = [tuple(min), tuple(opt), tuple(max)]


class IBuilderConfig:
    def __init__(self) -> None:
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.profiles: list[IOptimizationProfile] = []
        self._limits: dict[MemoryPoolType, int] = {}

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self._limits[pool] = pool_size

    def get_memory_pool_limit(self, pool: MemoryPoolType) -> int:
        return self._limits[pool]


class Builder:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> INetworkDefinition:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        from helpers.tensorrt_standin import plan

        assert network.model is not None
        return plan(network.model, [profile.shapes for profile in config.profiles])
