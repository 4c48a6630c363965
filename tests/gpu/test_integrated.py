"""On a GPU whose memory is the host's, as in a Jetson, frames and tables are not copied up.

The stand-in for the driver says so if STAND_IN_INTEGRATED is set, and counts the bytes of all copies to the device.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.canned_device import CannedSession
from helpers.device_sessions import is_stand_in
from helpers.models import info
from yoloship.cuda.buffers import PinnedBuffer
from yoloship.detect.detector import Detector
from yoloship.detect.gpu.pipeline import CudaPipeline
from yoloship.detect.pipeline import ModelInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device

HW = (64, 96)


def answer(_canvas_hw: tuple[int, int]) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [rng.normal(-1.5, 2.0, (24, HW[0] // stride, HW[1] // stride)).astype(np.float32) for stride in (8, 16, 32)]


class Kernels(dict[str, Any]):
    """Kernels that outlive the detectors of these tests."""


@pytest.fixture
def detector(device: Device, kernels: KernelSet) -> Iterator[Detector]:
    record = info(batch=None)
    session: Any = CannedSession(device, record, answer)
    pipeline = CudaPipeline(session, Kernels(kernels), ModelInput.checked(record, HW, "square", "model"))
    with Detector.over(pipeline) as made:
        yield made


def copied_up() -> int:
    """Bytes that were copied to the device since the process began."""
    count = ctypes.CDLL("libcuda.so.1").stand_in_copied_up
    count.restype = ctypes.c_longlong
    return int(count())


def images(device: Device, kind: str) -> list[Any]:
    """One frame of each size, in ordinary or in pinned memory."""
    rng = np.random.default_rng(1)
    made = []
    for height, width in ((50, 120), (480, 640), (1080, 1920)):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if kind == "pinned":
            array = PinnedBuffer(device, pixels.nbytes).array(np.uint8, pixels.shape)
            array[...] = pixels
            pixels = array
        made.append(pixels)
    return made


@pytest.mark.parametrize("kind", ["ordinary", "pinned"])
@pytest.mark.parametrize("batch", [1, 3])
def test_no_byte_of_a_frame_or_a_table_is_copied_up(detector: Detector, device: Device, kind: str, batch: int) -> None:
    if not is_stand_in(device):
        pytest.skip("only the stand-in counts copies")
    frames = images(device, kind)
    batches = [[frame] for frame in frames] if batch == 1 else [frames]
    for turn in batches:
        detector.detect_batch(turn)  # makes and records what is made once
    before = copied_up()
    for turn in batches:
        detector.detect_batch(turn)
    moved = copied_up() - before  # what stands for the network copies in a recorded graph, which is not counted
    if device.info.integrated:
        assert moved == 0
    elif kind == "ordinary" and batch == 1:
        assert 0 < moved < 3 * 50 * 120  # the tables; such frames are fetched by a kernel
    else:
        assert moved >= 3 * 50 * 120


def test_the_device_says_whether_its_memory_is_the_hosts(device: Device) -> None:
    import os

    if not is_stand_in(device):
        pytest.skip("a real GPU says what it says")
    assert device.info.integrated == ("STAND_IN_INTEGRATED" in os.environ)
