"""Without a GPU: one detector on two devices of the stand-in for the driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers import nvjpeg_standin
from helpers.cuda_emulator import with_stand_in_driver

TESTS = ("tests/gpu/test_several.py", "tests/gpu/test_several_commands.py")
ROOT = Path(__file__).resolve().parents[4]

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")


@pytest.mark.timeout(0)  # each of its tests has a limit of its own
def test_the_tests_for_two_gpus_pass_on_two_stand_ins(tmp_path: Path) -> None:
    environment = with_stand_in_driver(tmp_path)
    environment["LD_LIBRARY_PATH"] += f":{nvjpeg_standin.folder()}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT, env={**environment, "STAND_IN_DEVICES": "2"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
