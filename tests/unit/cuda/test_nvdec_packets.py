"""Without a GPU: the tests of tests/gpu/test_nvdec_packets.py, on stand-ins for the driver and for PyAV's NVDEC."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cuda_emulator import with_stand_in_driver
from helpers.pyav import needs_pyav_for_gpus

ROOT = Path(__file__).resolve().parents[3]

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
needs_pyav_for_gpus()


@pytest.mark.skipif(sys.platform == "win32", reason="live sources are not for Windows yet")
def test_live_streams_are_decoded_by_the_gpu_or_said_not_to_be(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", "tests/gpu/test_nvdec_packets.py")
    done = subprocess.run(
        command, cwd=ROOT, env=with_stand_in_driver(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "6 passed" in done.stdout
