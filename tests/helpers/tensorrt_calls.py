"""Every call into TensorRT that the product makes, with its parameters, and every property that it reads."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CALLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # building: executed by the tests beside this one
        "Builder.create_network": ("flags",),
        "Builder.create_builder_config": (),
        "Builder.create_optimization_profile": (),
        "Builder.build_serialized_network": ("network", "config"),
        "OnnxParser.parse_from_file": ("model",),
        "OnnxParser.get_error": ("index",),
        "ParserError.code": (),
        "ParserError.desc": (),
        "ParserError.node": (),
        "ParserError.node_name": (),
        "ParserError.node_operator": (),
        "INetworkDefinition.get_input": ("index",),
        "INetworkDefinition.get_output": ("index",),
        "INetworkDefinition.get_layer": ("index",),
        "ILayer.get_output": ("index",),
        "ITensor.get_dimension_name": ("index",),
        "IOptimizationProfile.set_shape": ("input", "min", "opt", "max"),
        "IBuilderConfig.add_optimization_profile": ("profile",),
        "IBuilderConfig.set_memory_pool_limit": ("pool", "pool_size"),
        "IBuilderConfig.get_memory_pool_limit": ("pool",),
        "IBuilderConfig.set_compute_capability": ("compute_capability", "index"),
        "IProgressMonitor.phase_start": ("phase_name", "parent_phase", "num_steps"),
        "IProgressMonitor.step_complete": ("phase_name", "step"),
        "IProgressMonitor.phase_finish": ("phase_name",),
        # other flavours: refused here, so not executed
        "IBuilderConfig.set_flag": ("flag",),
        "IBuilderConfig.get_flag": ("flag",),
        "IBuilderConfig.create_timing_cache": ("serialized_timing_cache",),
        "IBuilderConfig.set_timing_cache": ("cache", "ignore_mismatch"),
        "IBuilderConfig.get_timing_cache": (),
        "ITimingCache.serialize": (),
        # device side: needs a GPU
        "Runtime.deserialize_cuda_engine": (),
        "ICudaEngine.get_tensor_name": ("index",),
        "ICudaEngine.get_tensor_mode": ("name",),
        "ICudaEngine.get_tensor_dtype": ("name",),
        "ICudaEngine.get_tensor_shape": ("name",),
        "ICudaEngine.get_tensor_profile_shape": ("name", "profile_index"),
        "ICudaEngine.create_engine_inspector": (),
        "EngineInspector.get_engine_information": ("format",),
    }
)
PROPERTIES = (
    "OnnxParser.num_errors",
    "INetworkDefinition.num_inputs",
    "INetworkDefinition.num_outputs",
    "INetworkDefinition.num_layers",
    "ILayer.name",
    "ILayer.type",
    "ILayer.num_outputs",
    "ITensor.name",
    "ITensor.dtype",
    "ITensor.shape",
    "IBuilderConfig.progress_monitor",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.builder_optimization_level",
    "IBuilderConfig.hardware_compatibility_level",
    "IBuilderConfig.profiling_verbosity",
    "ICudaEngine.num_io_tensors",
    "ICudaEngine.num_optimization_profiles",
    "ICudaEngine.device_memory_size_v2",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    "MemoryPoolType.WORKSPACE",
    "BuilderFlag.VERSION_COMPATIBLE",
    "HardwareCompatibilityLevel.AMPERE_PLUS",
    "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY",
    "LayerType.NMS",
    "LayerInformationFormat.JSON",
    "ProfilingVerbosity.DETAILED",
    "TensorIOMode.INPUT",
)
SESSION_CALLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ICudaEngine.create_execution_context": (),
        "ICudaEngine.get_tensor_location": ("name",),
        "ICudaEngine.get_tensor_format": ("name",),
        "IExecutionContext.set_optimization_profile_async": ("profile_index", "stream_handle"),
        "IExecutionContext.set_input_shape": ("name", "shape"),
        "IExecutionContext.get_tensor_shape": ("name",),
        "IExecutionContext.set_tensor_address": ("name", "memory"),
        "IExecutionContext.execute_async_v3": ("stream_handle",),
        "IExecutionContext.report_to_profiler": (),
        "IProfiler.report_layer_time": ("layer_name", "ms"),
    }
)
"""Of a session; `CALLS` are those of building and inspecting."""
SESSION_PROPERTIES = (
    "IExecutionContext.active_optimization_profile",
    "IExecutionContext.profiler",
    "IExecutionContext.enqueue_emits_profile",
    "Runtime.engine_host_code_allowed",
    "TensorLocation.DEVICE",
    "TensorFormat.LINEAR",
)


def member(module: Any, path: str) -> Any:
    """The member of a class of TensorRT's module, by its path; None if it has none."""
    kind, name = path.split(".")
    return getattr(getattr(module, kind, None), name, None)


def signatures(function: Any) -> list[tuple[str, ...]]:
    """Names of the parameters of each form of a function; pybind11 writes them into its docstring."""
    pattern = re.compile(rf"^(?:\d+\. )?{function.__name__}\((?!\*args)(.*)\) -> ", re.MULTILINE)
    return [tuple(re.findall(r"(\w+): ", found))[1:] for found in pattern.findall(function.__doc__ or "")]
