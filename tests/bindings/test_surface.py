"""Every call and property that the product uses, held against the bindings of six versions of TensorRT.

pybind11 writes signatures into docstrings. What a version lacks is listed here, and the product asks for it before use.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from helpers import tensorrt_standin as standin
from helpers.tensorrt_calls import CALLS, PROPERTIES
from helpers.tensorrt_library.wheels import MORE_VERSIONS, VERSIONS, with_bindings

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL = (*VERSIONS, *MORE_VERSIONS)
BEFORE_10_11 = frozenset({"10.0.1", "10.3.0", "10.8.0.43"})
OF_THE_STAND_IN = frozenset({"error", "fails", "bindings", "refuses", "unknown", "layer_names"})
SESSION = {
    f"{kind.__name__}.{name}": tuple(inspect.signature(member).parameters)[1:] if inspect.isfunction(member) else ()
    for kind in (standin.Runtime, standin.ICudaEngine, standin.IExecutionContext)
    for name, member in vars(kind).items()
    if not name.startswith("_") and name not in OF_THE_STAND_IN
}
"""What the session calls: the stand-in in Python has nothing else, which its own test checks."""
ASKED_FOR = ("IExecutionContext.is_stream_capturable", "DynamicShapesKernelSpecializationStrategy.EAGER")
"""What the product asks for with `hasattr` or `getattr`."""
ABSENT: Mapping[str, frozenset[str]] = {
    "IBuilderConfig.set_compute_capability": frozenset(ALL),
    "IBuilderConfig.num_compute_capabilities": frozenset(ALL),
    "IExecutionContext.is_stream_capturable": frozenset(ALL),
    "DynamicShapesKernelSpecializationStrategy.EAGER": frozenset(ALL),
    "ICudaEngine.create_runtime_config": BEFORE_10_11,
    "ICudaEngine.device_memory_size_v2": frozenset({"10.0.1"}),
    "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY": BEFORE_10_11,
}
"""In which of them it is absent. TensorRT-RTX has all of it."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in library has the layout of Linux")


@functools.cache
def surface(version: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "helpers.tensorrt_library.surface"], env=with_bindings(version, os.environ),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def signatures(name: str, documented: str) -> list[tuple[str, ...]]:
    """The names of the parameters of each overload, without `self`."""
    found = re.findall(rf"^(?:\d+\. )?{name}\((?!\*args)(.*)\) -> ", documented, re.MULTILINE)
    return [tuple(re.findall(r"(\w+): ", one))[1:] for one in found]


@pytest.mark.parametrize("version", ALL)
def test_each_version_has_all_but_what_is_known_to_be_absent(version: str) -> None:
    have = surface(version)
    wanted = {*CALLS, *PROPERTIES, *SESSION, *ASKED_FOR} - {"Runtime.logger"}
    absent = {path for path in wanted if path not in have and version not in ABSENT.get(path, ())}
    assert absent == set()
    assert {path for path, versions in ABSENT.items() if version in versions and path in have} == set()


@pytest.mark.parametrize("version", ALL)
def test_each_call_binds_in_each_version(version: str) -> None:
    have = surface(version)
    wrong: dict[str, Any] = {}
    without_config = version in ABSENT["ICudaEngine.create_runtime_config"]  # nor a parameter for one
    for path, parameters in {**CALLS, **SESSION}.items():
        if not parameters or version in ABSENT.get(path, ()):
            continue
        if path == "ICudaEngine.create_execution_context" and without_config:
            continue
        real = signatures(path.split(".")[1], have[path])
        if parameters not in [names[: len(parameters)] for names in real]:
            wrong[path] = (parameters, real)
    assert wrong == {}


def test_numbers_of_enumerations_differ_so_none_may_be_written_down() -> None:
    """They are asked from the bindings in over_library; here is why."""
    done = {}
    for version in ("10.13.0.35", "11.4.0.106"):
        code = "import tensorrt as t; print(int(t.NetworkDefinitionCreationFlag.STRONGLY_TYPED))"
        command = [sys.executable, "-c", code]
        ran = subprocess.run(
            command, env=with_bindings(version, os.environ), capture_output=True, text=True, check=True
        )
        done[version] = int(ran.stdout)
    assert done == {"10.13.0.35": 1, "11.4.0.106": 0}
