"""Who decodes JPEG files, on a stand-in for the driver and one for nvJPEG."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import nvjpeg_standin
from helpers.cuda_emulator import with_stand_in_driver

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., str]

ROOT = Path(__file__).resolve().parents[4]

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")

CHOICE = """
import sys
from yoloship._util.cache import trusted_folder
from yoloship.cuda.compiler import KernelSet
from yoloship.cuda.device import Device
from yoloship.detect.gpu.decoding import JpegDecoding
from yoloship.errors import YoloshipError

with Device.open() as device, KernelSet(device, trusted_folder("kernels")) as kernels:
    try:
        with JpegDecoding(device, kernels, sys.argv[1], "model.onnx") as decoding:
            print(decoding.chosen.images, "|", decoding.chosen.reason)
    except YoloshipError as error:
        print(type(error).__name__, "|", error)
"""


VIDEOS = """
from yoloship._util.cache import trusted_folder
from yoloship.cuda.compiler import KernelSet
from yoloship.cuda.device import Device
from yoloship.detect.gpu.decoding import JpegDecoding
from yoloship.errors import YoloshipError
from yoloship.images import open_image
from helpers import jpegs

with Device.open() as device, KernelSet(device, trusted_folder("kernels")) as kernels:
    with JpegDecoding(device, kernels, "gpu", "model.onnx") as decoding:
        print(decoding._queue is None, decoding.taken(open_image(jpegs.for_the_host()["PNG"])))
        for _ in range(2):
            try:
                decoding.taken(open_image(jpegs.encoded(jpegs.picture(70, 90))))
            except YoloshipError as error:
                print(type(error).__name__, "|", error)
"""


FORKED = """
import os, signal, threading
from yoloship.detect.gpu import decoding
from yoloship.errors import CudaError

inside, may_end = threading.Event(), threading.Event()

def open_engine(*_):
    inside.set()
    may_end.wait()
    raise CudaError("on purpose", code=2, name="CUDA_ERROR_OUT_OF_MEMORY")

decoding.JpegEngine = open_engine
jpegs = decoding.JpegDecoding(None, {}, "auto", "model.onnx")
jpegs.begin()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(600)  # only to end what hangs
    jpegs.close()
    os._exit(0)
print(os.waitpid(child, 0)[1])
may_end.set()
jpegs.close()
"""


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs Python with the stand-ins; what it wrote on stdout."""
    usual = with_stand_in_driver(tmp_path_factory.mktemp("cache"))

    def python(*arguments: str, has_library: bool = True, has_engine: bool = True) -> str:
        environment = dict(usual)
        if has_library:
            environment["LD_LIBRARY_PATH"] += f":{nvjpeg_standin.folder()}"
        if not has_engine:
            environment["STAND_IN_NO_JPEG_ENGINE"] = "1"
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout

    return python


@pytest.mark.timeout(0)  # each of its tests has a limit of its own
def test_the_decoders_tests_on_a_device_pass(run: Run) -> None:
    files = ("tests/gpu/test_jpeg_decoding.py", "tests/gpu/test_lone_jpeg.py")
    found = run("-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", *files)
    assert " passed" in found
    assert "skipped" not in found


def test_the_gpu_is_taken_if_it_can_decode_and_the_cpu_if_it_is_wanted(run: Run) -> None:
    assert run("-c", CHOICE, "auto") == "gpu | nvJPEG 13.0.0\n"
    assert run("-c", CHOICE, "gpu") == "gpu | nvJPEG 13.0.0\n"
    assert run("-c", CHOICE, "cpu", has_library=False) == "cpu | chosen\n"


def test_without_the_library_or_the_engine_the_cpu_decodes_or_the_demand_is_refused_by_name(run: Run) -> None:
    library = "nvJPEG{} the library nvJPEG is not installed (libnvjpeg for CUDA 13 or 12)"
    engine = "nvJPEG{} stand-in (no GPU) has no JPEG engine (NVJPEG_STATUS_ARCH_MISMATCH, code 7, in nvjpegCreateEx)"
    assert run("-c", CHOICE, "auto", has_library=False) == f"cpu | {library.format(':')}\n"
    assert run("-c", CHOICE, "auto", has_engine=False) == f"cpu | {engine.format(':')}\n"
    refused = run("-c", CHOICE, "gpu", has_library=False)
    assert refused == f"DependencyError | {library.format(':')}; pip install 'yoloship[gpu-media]'\n"
    assert run("-c", CHOICE, "gpu", has_engine=False).startswith(f"CudaError | {engine.format(':')}")


def test_the_engine_that_was_demanded_is_opened_for_the_first_jpeg_which_gets_the_refusal_and_so_do_the_others(
    run: Run,
) -> None:
    refusal = "DependencyError | nvJPEG: the library nvJPEG is not installed (libnvjpeg for CUDA 13 or 12)"
    found = run("-c", "import sys; sys.path.insert(0, 'tests')" + VIDEOS, has_library=False).splitlines()
    assert found[0] == "True None"
    assert [line.startswith(refusal) for line in found[1:]] == [True, True]


def test_a_forked_child_may_close_it_while_its_parent_opens_the_engine(run: Run) -> None:
    assert run("-W", "ignore", "-c", FORKED) == "0\n"
