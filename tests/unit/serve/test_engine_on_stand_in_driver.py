"""Without a GPU: the server's tests on a device pass on a stand-in for the driver that runs our kernels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cuda_emulator import with_stand_in_driver

ROOT = Path(__file__).resolve().parents[3]

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")


def test_the_servers_own_tests_pass(tmp_path: Path) -> None:
    arguments = ("-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", "tests/gpu/test_serving.py")
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, env=with_stand_in_driver(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "4 passed" in done.stdout
