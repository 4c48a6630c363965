"""One suite over every runtime of the table: what the rest of yoloship may rely on, whatever the library behind it.

What their sessions must do is in test_sessions.py, which opens each runtime of the table that this machine can run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

from helpers.models import scale_and_shift
from helpers.plugins import install
from yoloship.errors import DependencyError, InputError, SessionError
from yoloship.runtime import RUNTIMES, RunOptions, Runtime, choose_runtime, open_session
from yoloship.runtime.session import DeviceKind, RuntimePrecision

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=list(RUNTIMES.own))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def runtime(name: str) -> type[Runtime]:
    return RUNTIMES.load(name)


def small() -> bytes:
    data: bytes = scale_and_shift().SerializeToString()
    return data


ON_A_CPU = [name for name in RUNTIMES.own if "cpu" in RUNTIMES.load(name).devices]


@pytest.fixture(params=ON_A_CPU)
def on_a_cpu(request: pytest.FixtureRequest) -> type[Runtime]:
    runtime = RUNTIMES.load(request.param)
    if not runtime.is_installed():
        pytest.skip(f"{runtime.title} is not installed")
    return runtime


def can(runtime: type[Runtime], precision: RuntimePrecision) -> bool:
    try:
        runtime.check(precision)
    except InputError:  # this processor has no arithmetic of it
        return False
    return True


def test_it_says_what_it_is_and_what_it_can(runtime: type[Runtime]) -> None:
    assert issubclass(runtime, Runtime)
    assert runtime.title
    assert runtime.packages
    assert runtime.opens
    assert runtime.devices
    assert runtime.devices <= set(get_args(DeviceKind))
    assert runtime.precisions <= set(get_args(RuntimePrecision))


def test_it_opens_models_where_it_says_that_it_runs(runtime: type[Runtime]) -> None:
    opens: dict[str, Callable[..., object]] = {"cpu": runtime.open, "cuda": runtime.open_on}
    base: dict[str, Any] = {"cpu": Runtime.open, "cuda": Runtime.open_on}
    for device, method in opens.items():
        overridden = getattr(method, "__func__", None) is not base[device].__func__
        assert overridden == (device in runtime.devices)


@pytest.mark.parametrize("name", sorted(set(RUNTIMES.own) - set(ON_A_CPU)))
def test_where_it_does_not_run_it_says_so(runtime: type[Runtime]) -> None:
    with pytest.raises(InputError, match=f"{runtime.title} does not run on a CPU"):
        runtime.open(small(), RunOptions())


def test_the_command_that_installs_it_names_what_the_project_offers(runtime: type[Runtime]) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert runtime.install.startswith("pip install ")
    what = runtime.install.removeprefix("pip install ").strip("'")
    if what.startswith("yoloship["):
        assert f"\n{what[9:-1]} = [" in project
    else:
        assert f'"{what}>=' in project


def test_asking_it_imports_none_of_its_packages(runtime: type[Runtime], name: str) -> None:
    program = (
        "import sys; from yoloship.runtime import RUNTIMES; "
        f"found = RUNTIMES.load({name!r}); found.is_installed(); found.check; "
        f"sys.exit(any(package in sys.modules for package in {runtime.packages!r}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_one_that_is_not_installed_says_how_to_install_it(
    runtime: type[Runtime], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yoloship.runtime.session.find_spec", lambda _: None)
    assert not runtime.is_installed()
    kind = "onnx" if "onnx" in runtime.opens else "engine"
    device: DeviceKind = "cpu" if "cpu" in runtime.devices else "cuda"
    with pytest.raises(DependencyError) as caught:
        choose_runtime(name, kind, device)  # type: ignore[arg-type]  # one of the two
    assert str(caught.value) == f"runtime: {runtime.title} is not installed; {runtime.install}"


def test_it_computes_what_the_graph_says_in_every_precision_that_it_names(on_a_cpu: type[Runtime]) -> None:
    for precision in (None, *sorted(on_a_cpu.precisions)):
        if precision is not None and not can(on_a_cpu, precision):
            continue
        with on_a_cpu.open(small(), RunOptions(precision)) as session:
            np.testing.assert_array_equal(session.run({"x": X})[0], X * 2 + 1)  # exact in bfloat16, too
            assert session.concurrent_runs >= 1
            assert precision is None or session.precision in {None, precision}


def test_for_throughput_it_may_run_several_at_once_and_gives_the_same(on_a_cpu: type[Runtime]) -> None:
    with on_a_cpu.open(small(), RunOptions(tuned_for="throughput")) as session:
        assert 1 <= session.concurrent_runs <= 16
        np.testing.assert_array_equal(session.run({"x": X})[0], X * 2 + 1)


def test_a_model_in_memory_is_called_as_it_was_named(on_a_cpu: type[Runtime]) -> None:
    with pytest.raises(SessionError) as caught:
        on_a_cpu.open(small()[:40], RunOptions(model_name="best.onnx"))
    assert str(caught.value).startswith("best.onnx: ")
    assert "\n" not in str(caught.value)


def test_what_nobody_vouches_for_is_run_under_watch(on_a_cpu: type[Runtime]) -> None:
    with on_a_cpu.open(small(), RunOptions(limit_s=60)) as session:
        np.testing.assert_array_equal(session.run({"x": X})[0], X * 2 + 1)


THIRD = """
import numpy as np
from yoloship.model import TensorSpec
from yoloship.runtime import RunOptions, Runtime
from yoloship.runtime.scripted import ScriptedSession

class Doubling(Runtime):
    title = "Doubling"
    packages = ("doubling_runtime",)
    install = "pip install doubling"
    opens = frozenset({"onnx"})
    devices = frozenset({"cpu"})
    precisions = frozenset({"float32"})

    @classmethod
    def open(cls, model, options):
        specs = [TensorSpec(name, "float32", ("batch", 3)) for name in "xy"]
        return ScriptedSession(specs[:1], specs[1:], lambda feeds: [feeds["x"] * 2], name=f"doubling {len(model)}")
"""


def test_a_package_adds_a_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch, tmp_path / "site", "yoloship.runtimes", {"doubling": "doubling_runtime:Doubling"},
        modules={"doubling_runtime": THIRD},
    )  # fmt: skip
    with open_session(b"12345", runtime="doubling") as session:
        assert session.name == "doubling 5"
        np.testing.assert_array_equal(session.run({"x": X})[0], X * 2)
    with pytest.raises(InputError, match="Doubling does not run on an NVIDIA GPU"):
        choose_runtime("doubling", "onnx", "cuda")
    with pytest.raises(InputError, match="Doubling cannot compute in bfloat16"):
        choose_runtime("doubling", "onnx", "cpu", "bfloat16")
