"""Without a GPU: the errors of a machine that has none, and the rest on a stand-in for the driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cuda_emulator import with_stand_in_driver
from yoloship.cuda.device import parse_device
from yoloship.errors import InputError

ROOT = Path(__file__).resolve().parents[3]

bindings = pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")


@pytest.mark.parametrize(("text", "ordinal"), [("cuda", 0), ("cuda:0", 0), ("cuda:12", 12)])
def test_a_device_is_named_by_its_number(text: str, ordinal: int) -> None:
    assert parse_device(text) == ordinal


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:٣", "cuda:99999", "CUDA"])
def test_other_names_are_no_device(text: str) -> None:
    with pytest.raises(InputError, match="expected cuda or cuda:N"):
        parse_device(text)


def test_the_gpu_tests_and_the_benchmark_pass_on_a_stand_in_for_the_driver(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Everything of tests/gpu but the kernels, which test_kernels_emulated.py runs, and what needs torch or CuPy."""
    environment = with_stand_in_driver(tmp_path_factory.mktemp("cache"))
    tests = ["tests/gpu/test_device.py", "tests/gpu/test_graph.py", "tests/gpu/test_jpeg_check.py"]
    bench = ["bench/gpu_kernels.py", "--smoke"]
    for command in (["-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", *tests], bench):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "end_to_end" in done.stdout
