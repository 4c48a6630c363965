"""The stand-in for TensorRT, and the calls that the TensorRT session makes, have names and parameters of the real one.

pybind11 writes signatures into docstrings; those of `tensorrt_rtx`, which installs anywhere, are asked.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import yoloship.runtime
from helpers import standin_builder as builder
from helpers import tensorrt_standin as standin
from helpers.networks import require_rtx

if TYPE_CHECKING:
    from types import ModuleType

CLASSES = (
    standin.ILogger, standin.Runtime, standin.ICudaEngine, standin.IExecutionContext, standin.IRuntimeConfig,
    standin.IRuntimeCache, standin.IProfiler, standin.EngineInspector, builder.Builder, builder.INetworkDefinition,
    builder.OnnxParser, builder.ILayer, builder.ITensor, builder.IOptimizationProfile, builder.IBuilderConfig,
)  # fmt: skip
ATTRIBUTES = ("engine", "active_optimization_profile", "profiler", "enqueue_emits_profile")
"""Of an execution context."""
ENUMS = (
    standin.Severity, standin.DataType, standin.TensorIOMode, standin.TensorLocation, standin.TensorFormat,
    standin.DynamicShapesKernelSpecializationStrategy, builder.NetworkDefinitionCreationFlag,
    builder.ProfilingVerbosity, builder.MemoryPoolType, standin.LayerInformationFormat,
)  # fmt: skip
OUR_OWN = frozenset({"error", "fails", "backend", "bindings", "refuses", "unknown", "fill", "layer_names"})
"""Of the stand-in; the session must not touch them."""
OBJECTS = frozenset({"engine", "_engine", "execution", "_runtime", "config", "_cache"})
"""Variables of the session that hold TensorRT's objects."""
BY_ASKING = frozenset({"is_stream_capturable", "create_runtime_config"})
"""What only some flavours have; used after asking for it."""


@pytest.fixture(scope="module")
def rtx() -> ModuleType:
    require_rtx()
    import tensorrt_rtx

    return tensorrt_rtx  # type: ignore[no-any-return]


def methods() -> list[tuple[type, str, Any]]:
    return [
        (kind, name, member)
        for kind in CLASSES
        for name, member in vars(kind).items()
        if not name.startswith("_") and name not in OUR_OWN
    ]


@pytest.mark.parametrize(("kind", "name", "member"), methods(), ids=lambda value: getattr(value, "__name__", None))
def test_each_method_of_the_stand_in_is_tensorrts(rtx: ModuleType, kind: type, name: str, member: Any) -> None:
    real_kind = rtx.ILogger if kind is standin.ILogger else getattr(rtx, kind.__name__)
    if not inspect.isfunction(member):
        assert name in {severity.name for severity in standin.Severity} or hasattr(real_kind, name)
        return
    mine = tuple(inspect.signature(member).parameters)[1:]
    documented = getattr(real_kind, name).__doc__ or ""
    pattern = re.compile(rf"^(?:\d+\. )?{name}\((?!\*args)(.*)\) -> ", re.MULTILINE)
    real = [tuple(re.findall(r"(\w+): ", found))[1:] for found in pattern.findall(documented)]
    assert mine in [parameters[: len(mine)] for parameters in real], (mine, real)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_of_the_stand_ins_contexts_are_tensorrts(rtx: ModuleType, name: str) -> None:
    assert hasattr(rtx.IExecutionContext, name)


@pytest.mark.parametrize("name", ["logger", "engine_host_code_allowed"])
def test_attributes_of_the_stand_ins_runtime_are_tensorrts(rtx: ModuleType, name: str) -> None:
    assert hasattr(rtx.Runtime, name)


@pytest.mark.parametrize("mine", ENUMS, ids=lambda kind: kind.__name__)
def test_enumerations_of_the_stand_in_have_tensorrts_names_and_values(rtx: ModuleType, mine: type[enum.Enum]) -> None:
    real = rtx.ILogger.Severity if mine is standin.Severity else getattr(rtx, mine.__name__)
    for member in mine:
        assert int(real.__members__[member.name]) == member.value


def test_the_session_calls_nothing_that_the_stand_in_lacks_unless_it_asks_first(rtx: ModuleType) -> None:
    used = set()
    for name in ("tensorrt.py", "tensorrt_execution.py", "rtx_cache.py"):
        tree = ast.parse((Path(yoloship.runtime.__file__).parent / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                owner = node.value
                called = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
                if called in OBJECTS:
                    used.add(node.attr)
    have = {name for _, name, _ in methods()} | {
        "active_optimization_profile",
        "engine_host_code_allowed",
        "profiler",
        "enqueue_emits_profile",
    }
    used.discard("version_compatible")  # of a record's own config
    assert used - have == {"dynamic_shapes_kernel_specialization_strategy"}
    assert len(used) > 15
    assert hasattr(rtx.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")
    assert hasattr(rtx.DynamicShapesKernelSpecializationStrategy, "EAGER")
    assert hasattr(rtx.ICudaEngine, "create_runtime_config")
    assert "stream: " in (rtx.IExecutionContext.is_stream_capturable.__doc__ or "")
