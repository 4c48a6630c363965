from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.cuda_steps import run_letterbox
from yoloship.cuda.device_pixels import DevicePixels
from yoloship.cuda.interop import ForeignFrame
from yoloship.cuda.letterbox import FrameDescriptor
from yoloship.cuda.stream import BorrowedStream
from yoloship.errors import InputError
from yoloship.letterbox import Letterbox

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream

CANVAS_HW = (320, 320)


def letterboxed(rig: Any, frame: ForeignFrame) -> tuple[npt.NDArray[Any], Letterbox]:
    box = Letterbox.fixed(frame.image_hw, CANVAS_HW)
    place = (box.resized_hw, (box.top, box.left))
    pixels = DevicePixels(frame.pointer, frame.pitch_bytes, frame.image_hw)
    found = run_letterbox(rig, [FrameDescriptor(pixels, *place)], CANVAS_HW, "uint8_bgr_hwc")
    return found[0], box


def original() -> npt.NDArray[np.uint8]:
    return np.random.default_rng().integers(0, 256, (270, 401, 3), dtype=np.uint8)


class OnlyInterface:
    """Hides DLPack, so that the older protocol is taken."""

    def __init__(self, array: Any) -> None:
        self.__cuda_array_interface__ = array.__cuda_array_interface__
        self.array = array


def test_a_torch_tensor_is_read_where_it_lies(rig: Any, torch: Any, stream: Stream) -> None:
    image = original()
    tensor = torch.from_numpy(image).cuda()
    for view, expected in ((tensor, image), (tensor[10:250, 7:300], image[10:250, 7:300])):
        for array in (view, OnlyInterface(view)):
            with ForeignFrame(array, stream) as frame:
                assert frame.pointer == view.data_ptr()
                found, box = letterboxed(rig, frame)
                np.testing.assert_array_equal(found, box.apply(np.ascontiguousarray(expected)))


def test_a_cupy_array_is_read_where_it_lies(rig: Any, cupy: Any, stream: Stream) -> None:
    image = original()
    array = cupy.asarray(image)
    for view, expected in ((array, image), (array[10:250, 7:300], image[10:250, 7:300])):
        for given in (view, OnlyInterface(view)):
            with ForeignFrame(given, stream) as frame:
                assert frame.pointer == view.data.ptr
                found, box = letterboxed(rig, frame)
                np.testing.assert_array_equal(found, box.apply(np.ascontiguousarray(expected)))


def test_work_that_torch_queued_before_is_waited_for(rig: Any, torch: Any, stream: Stream) -> None:
    image = original()
    source = torch.from_numpy(image).cuda()
    side = torch.cuda.Stream()
    for _ in range(5):
        target = torch.zeros_like(source)
        heavy = torch.rand(4096, 4096, device="cuda")
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            for _ in range(20):
                heavy = heavy @ heavy
            target.copy_(source)
            with ForeignFrame(target, stream) as frame:
                found, box = letterboxed(rig, frame)
        np.testing.assert_array_equal(found, box.apply(image))


def test_work_that_cupy_queued_before_is_waited_for(rig: Any, cupy: Any, stream: Stream) -> None:
    image = original()
    source = cupy.asarray(image)
    side = cupy.cuda.Stream(non_blocking=True)
    for hide in (False, True):
        target = cupy.zeros_like(source)
        heavy = cupy.zeros((1 << 26,), cupy.float32)
        cupy.cuda.Device().synchronize()
        with side:
            for _ in range(50):
                heavy += 1
            target[...] = source
            with ForeignFrame(OnlyInterface(target) if hide else target, stream) as frame:
                found, box = letterboxed(rig, frame)
        np.testing.assert_array_equal(found, box.apply(image))


def test_the_owner_keeps_its_memory_until_the_frame_is_closed(torch: Any, stream: Stream) -> None:
    tensor = torch.zeros((8, 8, 3), dtype=torch.uint8, device="cuda")
    before = torch.cuda.memory_allocated()
    frame = ForeignFrame(tensor, stream)
    alive = weakref.ref(tensor)
    del tensor
    gc.collect()
    assert torch.cuda.memory_allocated() == before
    frame.close()
    frame.close()
    gc.collect()
    assert alive() is None
    assert torch.cuda.memory_allocated() < before


def test_streams_of_torch_and_cupy_can_be_borrowed(device: Device, torch: Any, cupy: Any) -> None:
    for theirs, address in ((torch.cuda.Stream(), "cuda_stream"), (cupy.cuda.Stream(), "ptr")):
        with BorrowedStream(device, theirs) as borrowed:
            assert borrowed.address == getattr(theirs, address)
            borrowed.sync()


def test_torch_can_work_on_our_stream(torch: Any, stream: Stream) -> None:
    with torch.cuda.stream(torch.cuda.ExternalStream(stream.address)):
        total = torch.ones(1000, device="cuda").sum()
    stream.sync()
    assert float(total) == 1000


def test_what_is_no_frame_is_refused_with_a_reason(torch: Any, stream: Stream) -> None:
    good = torch.zeros((8, 8, 3), dtype=torch.uint8, device="cuda")
    for wrong, reason in (
        (good.float(), r"expected uint8 \(u1\), got f4"),
        (good[:, :, 0], r"got \(8, 8\)"),
        (good[:0], r"got \(0, 8, 3\)"),
        (good[..., :2], r"got \(8, 8, 2\)"),
        (good.permute(1, 0, 2), "make it contiguous"),
        (good[:, ::2], "make it contiguous"),
        (good.cpu(), "DLPack device type 1"),
        (np.zeros((8, 8, 3), np.uint8), "DLPack device type 1"),
        ([[0]], "got list"),
    ):
        with pytest.raises(InputError, match=reason):
            ForeignFrame(wrong, stream)
