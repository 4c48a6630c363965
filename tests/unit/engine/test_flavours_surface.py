"""Every call into TensorRT that this package makes exists in the real bindings, with the parameters that it is given.

Nothing on this machine may be able to run the device side of them; that they exist, under these names and with these
parameters, is asked from the bindings themselves: pybind11 writes signatures into docstrings.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import yoloship.engine
from helpers.tensorrt_calls import CALLS, PROPERTIES
from yoloship.engine import BuildConfig
from yoloship.engine.network import check_features
from yoloship.errors import EngineError

if TYPE_CHECKING:
    from yoloship.engine import Flavour

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
