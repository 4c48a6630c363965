"""Without a GPU: the errors of a machine that has none, and the rest on a stand-in for the driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cuda_emulator import with_stand_in_driver
from yoloship.cuda import device as module
from yoloship.cuda.device import GpuInfo, parse_device, parse_devices
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


@pytest.mark.parametrize(
    ("text", "ordinals"),
    [("cuda", (0,)), ("cuda:2", (2,)), ("cuda:1,cuda:0", (1, 0)), ("cuda:0,2,cuda:1", (0, 2, 1))],
)
def test_several_devices_are_named_one_after_the_other(text: str, ordinals: tuple[int, ...]) -> None:
    assert parse_devices(text) == ordinals


@pytest.mark.parametrize(
    "text", ["cuda,cuda:1", "cuda:0,", "cuda:0,cpu", "cuda:0, cuda:1", "cuda:all,cuda:0", "cuda:0,all"]
)
def test_other_lists_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="no such device"):
        parse_devices(text)
    with pytest.raises(InputError, match="names a GPU twice"):
        parse_devices("cuda:0,cuda:1,0")


@pytest.mark.parametrize(("count", "ordinals"), [(0, (0,)), (1, (0,)), (3, (0, 1, 2))])
def test_all_devices_are_those_that_the_driver_shows(
    monkeypatch: pytest.MonkeyPatch, count: int, ordinals: tuple[int, ...]
) -> None:
    """Without any, the first one is opened, which says what is missing."""
    gpus = tuple(GpuInfo(number, "some", (9, 0), 1 << 30, (13, 0), False) for number in range(count))
    monkeypatch.setattr(module, "find_gpus", lambda: gpus)
    assert parse_devices("cuda:all") == ordinals


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
