"""The device tests of sessions, run over a stand-in for the driver: all but what computes on a real GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cuda_emulator import with_stand_in_driver

ROOT = Path(__file__).resolve().parents[3]

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")


@pytest.mark.timeout(0)  # each of its tests has a limit of its own
def test_the_device_tests_and_the_contract_pass_on_a_stand_in_for_the_driver(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    environment = with_stand_in_driver(tmp_path_factory.mktemp("cache"))
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider",
            "tests/gpu/test_sessions.py", "tests/gpu/test_making.py", "tests/gpu/test_tensorrt_session.py",
            "tests/gpu/test_trained_sessions.py", "tests/gpu/test_layer_times.py", "tests/gpu/test_verify_engine.py",
            "tests/contract/test_sessions.py",
        ],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = int(done.stdout.split(" passed")[0].split()[-1])
    assert passed > 80, done.stdout[-1000:]
