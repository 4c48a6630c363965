"""The tests of sessions, engines and commands over TensorRT's real Python bindings, each version in its own process.

Behind the bindings is a stand-in library (`helpers.tensorrt_library`), over a stand-in for the CUDA driver. TensorRT's
own kernels, optimiser and plans are not here, so nothing is known about them from this.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cuda_emulator import with_stand_in_driver
from helpers.tensorrt_library.wheels import ALL_VERSIONS, MORE_VERSIONS, VERSIONS, with_bindings

ROOT = Path(__file__).resolve().parents[2]
GPU_TESTS = (
    "sessions", "making", "tensorrt_session", "trained_sessions", "detector", "other_exports", "small_networks",
    "layer_times", "verify_engine",
)  # fmt: skip
SUITES = (
    "tests/bindings/over_library",
    "tests/contract/test_sessions.py",
    *(f"tests/engines/test_{name}.py" for name in ("bad_input", "builder", "building", "build_command")),
    *(f"tests/gpu/test_{name}.py" for name in GPU_TESTS),
)

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in library has the layout of Linux")


def passed(version: str, cache: Path, suites: tuple[str, ...]) -> int:
    """How many tests passed over the bindings of a version; none may fail."""
    environment = with_bindings(version, with_stand_in_driver(cache))
    options = ["-n0", "-q", "-p", "no:cacheprovider", "-p", "helpers.tensorrt_library.watch"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *suites],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return int(done.stdout.split(" passed")[0].split()[-1])


@pytest.mark.timeout(0)  # each of its tests has a limit of its own
@pytest.mark.parametrize("version", [*VERSIONS, *(MORE_VERSIONS if ALL_VERSIONS else ())])
def test_everything_about_engines_works_over_the_real_bindings(
    version: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert passed(version, tmp_path_factory.mktemp("cache"), SUITES) > 300


@pytest.mark.parametrize("version", () if ALL_VERSIONS else MORE_VERSIONS)
def test_every_call_and_property_is_known_in_further_versions(
    version: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert passed(version, tmp_path_factory.mktemp("cache"), ("tests/bindings/over_library/test_surface.py",)) > 60
