"""TensorRT's Python bindings of one version, and the environment of a process that uses them.

The bindings of two versions cannot share a process, so each version has one of its own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.kept import kept
from helpers.shared import IN_CI
from helpers.tensorrt_library.compiled import stand_in_library

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = "tensorrt-cu12-bindings"
VERSIONS = ("10.3.0", "10.13.0.35", "11.4.0.106")
"""JetPack 6's, the most common one, and the newest: always tested."""
MORE_VERSIONS = ("10.0.1", "10.8.0.43", "11.0.0.114")
"""The oldest, one with other slots, and the first 11. Their calls are always checked, and everything is tested once a
week, by `YOLOSHIP_TEST_ALL_BINDINGS=1`."""
ALL_VERSIONS = bool(os.environ.get("YOLOSHIP_TEST_ALL_BINDINGS"))
CHOICE = "YOLOSHIP_TEST_BINDINGS"
"""In a process with the bindings: their version. `helpers.tensorrt_standin` looks here."""
WHEELS = "YOLOSHIP_TEST_WHEELS"
"""A folder with the wheels, for machines without a network."""
_FIRST_FOR_313 = (10, 9)
"""Older bindings have no wheels for Python 3.13."""
_TESTS = Path(__file__).resolve().parents[2]


def chosen() -> str | None:
    """The version of the bindings in this process; None if the stand-in is the one in Python."""
    return os.environ.get(CHOICE)


def require_python(version: str) -> None:
    """Skip if this version has no wheel for this Python. `.ci/run` runs these tests under an older Python as well."""
    if sys.version_info >= (3, 13) and tuple(map(int, version.split(".")[:2])) < _FIRST_FOR_313:
        pytest.skip(f"{PACKAGE} {version} has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]}")


def bindings(version: str) -> Path:
    """A folder to put on ``sys.path``, with `tensorrt` of this version over the stand-in library.

    The wheels are fetched once. Without a network this skips; in CI that is a failure.
    """
    require_python(version)
    libraries = stand_in_library()
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    wheels = kept(f"tensorrt-bindings-{tag}-{version}", "wheel", lambda folder: _fetch(version, tag, folder))
    major = version.split(".", maxsplit=1)[0]

    def build(folder: Path) -> None:
        (folder / "tensorrt_bindings").symlink_to(wheels / "tensorrt_bindings")
        _package(folder, "tensorrt_libs", [
            "import ctypes",
            *(f"ctypes.CDLL({os.fspath(libraries / f'lib{stem}.so.{major}')!r})" for stem in _LIBRARIES),
        ])  # fmt: skip
        _package(folder, "tensorrt", [
            "import tensorrt_bindings as _bindings",
            "from tensorrt_bindings import *",
            "from tensorrt_bindings import __version__",
            "from helpers.tensorrt_library.host import connect as _connect",
            "_connect(_bindings)",
        ])  # fmt: skip

    key = hashlib.sha256(libraries.name.encode() + Path(__file__).read_bytes()).hexdigest()[:16]
    return kept(f"tensorrt-over-library-{tag}-{version}", key, build)


_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")


def with_bindings(version: str, environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which `import tensorrt` gives the bindings of this version over the stand-in library."""
    places = [os.fspath(bindings(version)), os.fspath(_TESTS), environment.get("PYTHONPATH", "")]
    return {**environment, CHOICE: version, "PYTHONPATH": os.pathsep.join(filter(None, places))}


def _package(folder: Path, name: str, lines: list[str]) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("\n".join([*lines, ""]))


def _fetch(version: str, tag: str, folder: Path) -> None:
    if (offline := os.environ.get(WHEELS)) is not None:
        (wheel,) = Path(offline).glob(f"{PACKAGE.replace('-', '_')}-{version}-{tag}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        return
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:",
            "--disable-pip-version-check", "--retries", "1", "--target", os.fspath(folder), f"{PACKAGE}=={version}",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return
    message = f"cannot fetch {PACKAGE} {version}: {(done.stderr.strip().splitlines() or ['pip fails'])[-1]}"
    if IN_CI:
        pytest.fail(f"{message}; CI must have it")
    pytest.skip(message)
