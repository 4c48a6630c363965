from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from yoloship.cuda import interop
from yoloship.cuda.interop import ForeignFrame
from yoloship.cuda.stream import stream_address
from yoloship.errors import InputError


def test_streams_of_several_libraries_have_an_address() -> None:
    assert stream_address(SimpleNamespace(__cuda_stream__=lambda: (0, 77))) == 77
    assert stream_address(SimpleNamespace(__cuda_stream__=(0, 78))) == 78
    assert stream_address(SimpleNamespace(cuda_stream=5)) == 5
    assert stream_address(SimpleNamespace(ptr=6)) == 6
    assert stream_address(0) == 0
    for wrong in (SimpleNamespace(__cuda_stream__=lambda: (1, 77)), -1, True, None, "0"):
        with pytest.raises(InputError, match="stream"):
            stream_address(wrong)


class Exported:
    """NumPy memory that claims to lie on a device, so that the protocols can be read without one."""

    def __init__(self, array: np.ndarray[Any, Any], *, kind: int = 2, ordinal: int = 0) -> None:
        self.array, self.where = array, (kind, ordinal)
        self.asked: list[int] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.where

    def __dlpack__(self, *, stream: int) -> object:
        self.asked.append(stream)
        return self.array.__dlpack__()


OUR_STREAM: Any = SimpleNamespace(address=99, device=SimpleNamespace(ordinal=0, __str__=lambda: "cuda:0"))


def test_a_dlpack_frame_is_read_where_it_lies_on_our_stream() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    for view in (image, image[4:19, 2:20]):
        exported = Exported(view)
        with ForeignFrame(exported, OUR_STREAM) as frame:
            assert (frame.pointer, frame.image_hw, frame.pitch_bytes) == (view.ctypes.data, view.shape[:2], 90)
        assert exported.asked == [99]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4, 3), np.int8), r"expected uint8 \(u1\), got i1"),
        (np.zeros((4, 4, 3), np.float32), "got f4"),
        (np.zeros((4, 4), np.uint8), r"got \(4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\)"),
        (np.zeros((4, 8, 3), np.uint8)[:, ::2], "make it contiguous"),
        (np.zeros((4, 4, 3), np.uint8)[::-1], "make it contiguous"),
        (np.zeros((3, 4, 4), np.uint8).transpose(1, 2, 0), "make it contiguous"),
    ],
)
def test_a_dlpack_array_that_is_no_frame_is_refused(array: np.ndarray[Any, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        ForeignFrame(Exported(array), OUR_STREAM)


def test_memory_elsewhere_is_refused() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(InputError, match="got DLPack device type 1"):
        ForeignFrame(image, OUR_STREAM)
    with pytest.raises(InputError, match="got cuda:3"):
        ForeignFrame(Exported(image, ordinal=3), OUR_STREAM)
    with pytest.raises(InputError, match="expected __dlpack__ or __cuda_array_interface__, got list"):
        ForeignFrame([1], OUR_STREAM)


class Tensor:
    """A tensor of torch, as far as it is asked; `__dlpack__` is there and must not be needed."""

    is_cuda = True
    layout = "strided"

    def __init__(self, array: np.ndarray[Any, Any], dtype: str = "uint8", ordinal: int = 0) -> None:
        self.array, self.dtype, self.ordinal = array, dtype, ordinal
        self.shape = array.shape

    def get_device(self) -> int:
        return self.ordinal

    def data_ptr(self) -> int:
        return int(self.array.ctypes.data)

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self.array.itemsize for step in self.array.strides)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.ordinal

    def __dlpack__(self, *, stream: int) -> object:
        assert stream == 99
        return self.array.__dlpack__()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the driver was asked while a torch was there whose current stream is 7."""
    calls: list[tuple[Any, ...]] = []
    cuda = SimpleNamespace(current_stream=lambda ordinal: SimpleNamespace(cuda_stream=7 + ordinal))
    torch: Any = SimpleNamespace(Tensor=Tensor, uint8="uint8", strided="strided", cuda=cuda)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(interop, "call", lambda *arguments, subject: calls.append(arguments))
    monkeypatch.setattr(interop, "driver", lambda: SimpleNamespace(CUstream=lambda address: f"theirs at {address}"))
    return calls


def our_stream(address: int) -> Any:
    device = SimpleNamespace(ordinal=0, current=nullcontext)
    return SimpleNamespace(address=address, handle=f"ours at {address}", device=device)


def test_torch_is_asked_itself_where_a_tensor_is_and_our_stream_waits_for_its_stream(asked: list[Any]) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    mark: Any = SimpleNamespace(handle="mark")
    for view in (image, image[4:19, 2:20]):
        with ForeignFrame(Tensor(view), our_stream(99), mark) as frame:
            assert (frame.pointer, frame.image_hw, frame.pitch_bytes) == (view.ctypes.data, view.shape[:2], 90)
        assert asked == [("cuEventRecord", "mark", "theirs at 7"), ("cuStreamWaitEvent", "ours at 99", "mark", 0)]
        asked.clear()


def test_nothing_waits_on_one_stream(asked: list[Any]) -> None:
    tensor = Tensor(np.zeros((20, 30, 3), np.uint8))
    with ForeignFrame(tensor, our_stream(7)):
        assert asked == []


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (Tensor(np.zeros((4, 4, 3), np.float32), dtype="float32"), "got f4"),
        (Tensor(np.zeros((4, 4, 3), np.uint8), ordinal=1), "got cuda:1"),
        (Tensor(np.zeros((3, 4, 4), np.uint8).transpose(1, 2, 0)), "make it contiguous"),
    ],
)
def test_a_tensor_that_is_no_frame_is_refused_as_any_array(asked: list[Any], tensor: Tensor, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        ForeignFrame(tensor, our_stream(99), SimpleNamespace(handle="mark"))  # type: ignore[arg-type]  # enough of one
    assert all("Event" in call[0] for call in asked)


def test_a_class_of_its_own_goes_by_the_protocol(asked: list[Any]) -> None:
    class Special(Tensor):
        pass

    image = np.zeros((20, 30, 3), np.uint8)
    with ForeignFrame(Special(image), our_stream(99)) as frame:
        assert frame.pointer == image.ctypes.data
    assert asked == []
