"""A Jetson with JetPack 6 (Python 3.10, TensorRT 10.3, glibc 2.35, aarch64) can install and run this package.

No machine of the tests is one. That its wheels exist is asked from the package index; that the calls exist in the
bindings of its TensorRT is tested in tests/bindings, with the same version.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib", reason="the standard library reads TOML from Python 3.11 on")

from helpers.shared import IN_CI
from helpers.tensorrt_library.wheels import VERSIONS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "jetson.md").read_text(encoding="utf-8")
GLIBC = (2, 35)
"""Of Ubuntu 22.04, on which JetPack 6 is based."""
_MANY = "manylinux2014_aarch64.manylinux_2_17_aarch64.manylinux_2_28_aarch64"
WHEELS = {
    "numpy": "numpy-2.2.6-cp310-cp310-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    "onnx": "onnx-1.23.2-cp310-cp310-manylinux_2_26_aarch64.manylinux_2_28_aarch64.whl",
    "onnxruntime": "onnxruntime-1.23.2-cp310-cp310-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
    "opencv-python-headless": "opencv_python_headless-5.0.0.93-cp37-abi3-manylinux_2_28_aarch64.whl",
    "click": "click-8.5.1-py3-none-any.whl",
    "simplejpeg": f"simplejpeg-1.9.0-cp310-cp310-{_MANY}.whl",
    "pyyaml": f"pyyaml-6.0.4-cp310-cp310-{_MANY}.whl",
}
"""What pip chose on 2026-11-28, for each dependency of the base installation."""


def base_dependencies() -> dict[str, str]:
    """Name and least version of each."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pairs = [re.fullmatch(r"([\w.-]+)>=([\d.]+)", entry) for entry in project["dependencies"]]
    return {match[1]: match[2] for match in pairs if match is not None}


def fits(wheel: str) -> bool:
    """Whether a wheel of that name installs on JetPack 6, by its tags (PEP 425, PEP 600)."""
    _, _, python, abi, platforms = wheel.removesuffix(".whl").rsplit("-", 4)
    if platforms == "any":
        return "py3" in python.split(".") and abi == "none"
    is_for_310 = (python, abi) == ("cp310", "cp310") or (abi == "abi3" and int(python.removeprefix("cp3")) <= 10)
    platforms = platforms.replace("manylinux2014_", "manylinux_2_17_")  # its old name
    least = [tuple(map(int, match)) for match in re.findall(r"manylinux_(\d+)_(\d+)_aarch64", platforms)]
    return is_for_310 and any(version <= GLIBC for version in least)


def test_each_base_dependency_has_a_wheel_for_jetpack_6() -> None:
    wanted = base_dependencies()
    assert wanted.keys() == WHEELS.keys()
    for name, wheel in WHEELS.items():
        assert fits(wheel), wheel
        version = wheel.split("-")[1]
        assert tuple(map(int, version.split("."))) >= tuple(map(int, wanted[name].split("."))), wheel


@pytest.mark.parametrize(
    "wheel",
    [
        "a-1-cp310-cp310-manylinux_2_17_x86_64.whl",
        "a-1-cp311-cp311-manylinux_2_17_aarch64.whl",
        "a-1-cp311-abi3-manylinux_2_28_aarch64.whl",
        "a-1-cp310-cp310-manylinux_2_39_aarch64.whl",
        "a-1-cp310-cp310-macosx_11_0_arm64.whl",
    ],
)
def test_wheels_of_other_machines_do_not_fit(wheel: str) -> None:
    assert not fits(wheel)


def test_pip_finds_wheels_for_all_that_the_base_installation_needs_also_indirectly(tmp_path: Path) -> None:
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(17, GLIBC[1] + 1)]
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--only-binary=:all:",
        "--disable-pip-version-check", "--no-input", "--timeout=10", "--retries=1", "--python-version=3.10",
        "--implementation=cp", "--target", str(tmp_path / "none"), "--report", str(tmp_path / "report.json"),
        *(f"--platform={platform}" for platform in platforms), "--platform=manylinux2014_aarch64",
        *(f"{name}>={version}" for name, version in base_dependencies().items()),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if IN_CI:
            pytest.fail(f"pip finds no wheels for a Jetson: {reason}")
        pytest.skip(f"the package index cannot be asked, or lacks a wheel: {reason}")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    found = [entry["download_info"]["url"].rpartition("/")[2].partition("#")[0] for entry in report["install"]]
    assert len(found) >= len(WHEELS)
    assert [wheel for wheel in found if not fits(wheel)] == []


def test_the_page_names_the_versions_that_are_tested() -> None:
    assert VERSIONS[0] == "10.3.0"
    for words in ("JetPack 6", "Python 3.10", "TensorRT 10.3", "CUDA 12.6", "tensorrt-cu12-bindings 10.3.0"):
        assert words in PAGE, words
    assert "never" in PAGE or "not been run" in PAGE
