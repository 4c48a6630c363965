"""Every call into TensorRT that this package makes exists in the real bindings, with the parameters that it is given.

Nothing on this machine may be able to run the device side of them; that they exist, under these names and with these
parameters, is asked from the bindings themselves: pybind11 writes signatures into docstrings.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

import yoloship.engine
from yoloship.engine import BuildConfig
from yoloship.engine.network import check_features
from yoloship.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.engine import Flavour

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
OURS = frozenset({"lacks", "features"})


@pytest.mark.parametrize("path", [*CALLS, *PROPERTIES])
def test_the_bindings_have_it(rtx: Flavour, path: str) -> None:
    kind, name = path.split(".")
    assert hasattr(getattr(rtx.module, kind), name)


@pytest.mark.parametrize("path", [path for path, parameters in CALLS.items() if parameters])
def test_the_bindings_take_these_parameters(rtx: Flavour, path: str) -> None:
    kind, name = path.split(".")
    documented = getattr(getattr(rtx.module, kind), name).__doc__ or ""
    signature = next(line for line in documented.splitlines() if line.startswith(f"{name}("))
    parameters = tuple(re.findall(r"(\w+): ", signature))[1:]
    assert parameters[: len(CALLS[path])] == CALLS[path]


@pytest.mark.parametrize("target", ["SM75", "SM80", "SM86", "SM89", "SM120", "CURRENT"])
def test_the_bindings_know_each_target(rtx: Flavour, target: str) -> None:
    assert hasattr(rtx.module.ComputeCapability, target)


def test_a_target_that_the_bindings_do_not_know_is_refused_by_name(rtx: Flavour) -> None:
    if hasattr(rtx.module.ComputeCapability, "SM121"):  # from 1.5 on
        check_features(rtx, BuildConfig(targets=("sm121",)), has_device=False)
        return
    with pytest.raises(EngineError, match=r"does not know it: expected .*SM120.*, got SM121"):
        check_features(rtx, BuildConfig(targets=("sm121",)), has_device=False)


def test_every_call_on_a_tensorrt_object_stands_in_the_tables_above() -> None:
    """A call is told by the variable that it is made on; those names are used for nothing else."""
    objects = {
        "builder",
        "network",
        "settings",
        "parser",
        "layer",
        "tensor",
        "profile",
        "error",
        "runtime",
        "engine",
        "inspector",
    }
    known = {path.split(".")[1] for path in (*CALLS, *PROPERTIES)}
    used = set()
    for name in ("builder.py", "network.py", "inspect.py"):
        tree = ast.parse((Path(yoloship.engine.__file__).parent / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in objects:
                used.add(node.attr)
    assert used - known - OURS - {"errno", "strerror"} == set()
    assert len(used) > 20
