"""Without a GPU: one detector on two devices of the stand-in for the driver."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import nvjpeg_standin
from helpers.cuda_emulator import with_stand_in_driver

TESTS = ("tests/gpu/test_several.py", "tests/gpu/test_several_commands.py")
ASTRAY = """
from yoloship.cuda.buffers import DeviceBuffer
from yoloship.cuda.compiler import KernelSet
from yoloship.cuda.device import Device
from yoloship.cuda.letterbox import launch_fetch
from yoloship.cuda.stream import Stream
from yoloship._util.cache import trusted_folder
with Device.open(0) as first, Device.open(1) as second, KernelSet(first, trusted_folder("kernels")) as kernels:
    with Stream(first) as stream, DeviceBuffer(second, 4096) as table:
        print("ready", flush=True)
        launch_fetch(kernels, stream, table.pointer, 1)
"""
ROOT = Path(__file__).resolve().parents[4]

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")


@pytest.mark.timeout(0)  # each of its tests has a limit of its own
def test_the_tests_for_two_gpus_pass_on_two_stand_ins_that_keep_their_memories_apart(tmp_path: Path) -> None:
    environment = with_stand_in_driver(tmp_path)
    environment["LD_LIBRARY_PATH"] += f":{nvjpeg_standin.folder()}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT, env={**environment, "STAND_IN_DEVICES": "2", "STAND_IN_APART": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_a_kernel_that_touches_the_memory_of_the_other_stand_in_ends_the_process(tmp_path: Path) -> None:
    environment = with_stand_in_driver(tmp_path)
    astray = subprocess.run(
        [sys.executable, "-c", ASTRAY], env={**environment, "STAND_IN_DEVICES": "2", "STAND_IN_APART": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "ready" in astray.stdout
    assert astray.returncode == -signal.SIGSEGV
