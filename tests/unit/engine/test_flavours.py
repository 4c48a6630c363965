from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from yoloship.engine import Flavour, flavours, installed_flavours, open_flavour
from yoloship.errors import DependencyError, EngineError, InputError


def fake_module(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    for key, value in members.items():
        setattr(module, key, value)
    return module


def full_members() -> dict[str, Any]:
    """What TensorRT 10 and 11 have of what is asked for here."""
    return {
        "__version__": "10.9.0.34",
        "Builder": SimpleNamespace(build_serialized_network=1),
        "OnnxParser": SimpleNamespace(parse_from_file=1),
        "IBuilderConfig": SimpleNamespace(
            set_memory_pool_limit=1,
            progress_monitor=1,
            hardware_compatibility_level=1,
            builder_optimization_level=1,
            create_timing_cache=1,
        ),
        "MemoryPoolType": SimpleNamespace(WORKSPACE=1),
        "IProgressMonitor": 1,
        "HardwareCompatibilityLevel": 1,
        "BuilderFlag": SimpleNamespace(VERSION_COMPATIBLE=1),
        "ITimingCache": 1,
    }


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make exactly these modules installed."""

    def install(**modules: ModuleType) -> None:
        monkeypatch.setattr(flavours, "find_spec", lambda name: modules[name].__spec__ if name in modules else None)
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)

    return install


def test_without_any_tensorrt_the_error_names_the_commands_that_install_one(only: Any) -> None:
    only()
    with pytest.raises(DependencyError) as caught:
        open_flavour()
    assert "no TensorRT is installed" in str(caught.value)
    assert "pip install 'yoloship[rtx]'" in str(caught.value)
    assert "pip install 'yoloship[tensorrt]'" in str(caught.value)


def test_a_flavour_that_is_not_installed_is_named_with_its_command(only: Any) -> None:
    only()
    with pytest.raises(DependencyError) as caught:
        open_flavour("lean")
    assert str(caught.value) == "tensorrt_lean: is not installed; install it with: pip install tensorrt_lean"


def test_the_full_flavour_comes_before_rtx(only: Any) -> None:
    only(tensorrt=fake_module("tensorrt", **full_members()), tensorrt_rtx=fake_module("tensorrt_rtx"))
    assert installed_flavours() == ("tensorrt", "rtx")
    assert open_flavour().title == "tensorrt 10.9.0.34"


def test_lean_alone_is_no_builder(only: Any) -> None:
    only(tensorrt_lean=fake_module("tensorrt_lean", __version__="10.9"))
    with pytest.raises(DependencyError, match="no TensorRT is installed"):
        open_flavour()
    with pytest.raises(EngineError, match="tensorrt_lean: cannot build engines"):
        open_flavour("lean")
    assert open_flavour("lean", to_build=False).name == "lean"


def test_a_broken_installation_is_told_from_a_missing_one(only: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    only(tensorrt=fake_module("tensorrt"))

    def fail(_name: str) -> None:
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(DependencyError, match=r"tensorrt: is installed, but cannot be imported.*libnvinfer\.so\.10"):
        open_flavour("tensorrt")


def test_an_unknown_flavour_is_refused() -> None:
    with pytest.raises(InputError, match="no such flavour of TensorRT: expected one of tensorrt, rtx, lean, got trt"):
        open_flavour("trt")  # type: ignore[arg-type]


def test_features_are_asked_from_the_module_and_not_from_its_version() -> None:
    old = Flavour("tensorrt", "99.0", fake_module("tensorrt", **full_members()))
    assert old.lacks("targets") == "it has no IBuilderConfig.set_compute_capability"
    assert [feature for feature, reason in old.features().items() if reason] == ["targets"]


def test_what_rtx_has_and_ignores_counts_as_lacking(rtx: Flavour) -> None:
    lacking = {feature for feature, reason in rtx.features().items() if reason}
    assert lacking == {"hardware_compatibility", "version_compatible", "optimization_level", "timing_cache"}
