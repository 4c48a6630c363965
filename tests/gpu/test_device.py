from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.kept import compiled_kernels
from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer, download, fill_words, upload
from yoloship.cuda.compiler import KernelSet
from yoloship.cuda.device import Device, probe, quick
from yoloship.cuda.stream import _NOT_READY, BorrowedStream, Event, Stream, StreamCalls
from yoloship.errors import CudaError, InputError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_probe_agrees_with_the_device(device: Device) -> None:
    found = probe()
    assert found.problem is None
    assert found.gpus[device.ordinal] == device.info
    assert device.info.cuda_version == device.driver_version
    assert device.total_bytes > 0
    assert device.name
    assert device.compute_capability >= (7, 5)


def test_a_device_that_is_not_there_is_refused_with_the_range() -> None:
    with pytest.raises(CudaError, match=r"cuda:99: no such device .*expected 0 to \d+, got 99") as caught:
        Device.open(99)
    assert (caught.value.code, caught.value.name) == (101, "CUDA_ERROR_INVALID_DEVICE")


def test_out_of_memory_says_how_much_was_asked_and_is_free(device: Device) -> None:
    before = device.usage()
    with pytest.raises(CudaError, match=r"asked for .*iB \(\d+ bytes\), .* free of .* on cuda:0") as caught:
        DeviceBuffer(device, 2 * device.total_bytes)
    assert (caught.value.code, caught.value.name) == (2, "CUDA_ERROR_OUT_OF_MEMORY")
    assert device.usage() == before
    with DeviceBuffer(device, 1 << 20) as small:
        assert small.pointer


def test_what_is_uploaded_comes_back_through_pinned_and_pageable_memory(device: Device, stream: Stream) -> None:
    data = np.random.default_rng().integers(0, 256, 1_000_003, dtype=np.uint8)
    with DeviceBuffer(device, data.nbytes) as buffer, PinnedBuffer(device, data.nbytes) as pinned:
        staging = pinned.array(np.uint8, data.shape)
        staging[:] = data
        upload(stream, buffer.pointer, staging)
        back = np.zeros_like(data)
        download(stream, back, buffer.pointer)
        stream.sync()
        np.testing.assert_array_equal(back, data)
        upload(stream, buffer.pointer, data[::-1].copy())
        download(stream, staging, buffer.pointer)
        stream.sync()
        np.testing.assert_array_equal(staging, data[::-1])


def test_a_view_of_pinned_memory_outlives_its_buffer(device: Device) -> None:
    before = device.usage()
    with PinnedBuffer(device, 4096) as pinned:
        view = pinned.array(np.float32, (16, 64))
        view[:] = 7
        with pytest.raises(InputError, match="goes past the end"):
            pinned.array(np.float32, (16, 64), offset_bytes=4)
    assert (view == 7).all()
    assert device.usage() != before
    del view
    assert device.usage() == before


def test_non_contiguous_arrays_are_refused(device: Device, stream: Stream) -> None:
    with DeviceBuffer(device, 64) as buffer:
        with pytest.raises(InputError, match="not contiguous"):
            upload(stream, buffer.pointer, np.zeros((8, 8), np.uint8)[:, ::2])
        with pytest.raises(InputError, match="not contiguous"):
            download(stream, np.zeros((8, 8), np.uint8)[:, ::2], buffer.pointer)


def test_events_order_streams_and_measure_time(device: Device, stream: Stream) -> None:
    with (
        Stream(device) as other,
        Event(device, timing=True) as start,
        Event(device, timing=True) as end,
        DeviceBuffer(device, 1 << 26) as buffer,
    ):
        stream.record(start)
        fill_words(stream, buffer.pointer, 1, 1 << 24)
        stream.record(end)
        other.wait(end)
        back = np.zeros(1 << 24, np.uint32)
        download(other, back, buffer.pointer)
        other.sync()
        assert (back == 1).all()
        assert stream.is_idle()
        assert end.elapsed_ms(start) > 0


def test_a_borrowed_stream_is_left_open(device: Device, stream: Stream) -> None:
    with BorrowedStream(device, stream) as borrowed:
        assert borrowed.address == stream.address
        borrowed.sync()
    stream.sync()
    with pytest.raises(InputError, match="is not a CUDA stream"):
        BorrowedStream(device, "stream")


def test_thousands_of_cycles_leak_nothing(device: Device) -> None:
    def cycle() -> None:
        with (
            Stream(device) as stream,
            Event(device) as event,
            DeviceBuffer(device, 1 << 16) as buffer,
            PinnedBuffer(device, 1 << 12) as pinned,
        ):
            upload(stream, buffer.pointer, pinned.array(np.uint8, (1 << 12,)))
            stream.record(event)
            event.sync()

    before = device.usage()
    for _ in range(50):
        cycle()
    free_before, _ = device.memory()
    for _ in range(3000):
        cycle()
    free_after, _ = device.memory()
    assert device.usage() == before
    assert free_before - free_after <= 1 << 21


def test_opening_and_closing_the_device_and_its_kernels_leaks_nothing() -> None:
    def cycle() -> None:
        with Device.open() as device, KernelSet(device, compiled_kernels()) as kernels:
            assert "mask_windows" in kernels
            assert device.usage().counts == {"module": 4}
            assert kernels["mask_windows"] is kernels["mask_windows"]
            assert device.usage().counts == {"module": 5}
        assert device.usage().counts == {}

    cycle()
    with Device.open() as device:
        free_before, _ = device.memory()
        for _ in range(100):
            cycle()
        free_after, _ = device.memory()
    assert free_before - free_after <= 1 << 22


def test_closed_things_say_so(device: Device) -> None:
    stream = Stream(device)
    stream.close()
    stream.close()
    with pytest.raises(CudaError, match="stream: is closed"):
        stream.sync()
    buffer = DeviceBuffer(device, 16)
    buffer.close()
    with pytest.raises(CudaError, match="device buffer: is closed"):
        _ = buffer.pointer


def test_a_closed_device_lives_until_its_last_resource_is_closed() -> None:
    device = Device.open()
    stream = Stream(device)
    device.close()
    with pytest.raises(CudaError, match="is closed"):
        DeviceBuffer(device, 16)
    stream.sync()
    stream.close()
    with pytest.raises(CudaError, match="is closed"), device.current():
        pass


def test_threads_that_close_the_same_buffer_free_it_once(device: Device) -> None:
    before = device.usage()
    for _ in range(50):
        buffer = DeviceBuffer(device, 256)
        threads = [threading.Thread(target=buffer.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert device.usage() == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_gets_a_clear_refusal(device: Device) -> None:
    with DeviceBuffer(device, 256) as buffer:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                DeviceBuffer(device, 16)
            except CudaError as error:
                os.write(writer, str(error).encode())
            buffer.close()
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        assert os.waitpid(child, 0)[1] == 0
        assert "was opened before this process was forked" in said
        assert "spawn" in said


def test_a_kernel_that_reads_nowhere_is_a_clear_error_and_no_hang(device: Device, tmp_path: Path) -> None:
    if device.name.startswith("stand-in"):
        pytest.skip("a stand-in for the driver cannot lose a device")
    program = f"""
from pathlib import Path
from yoloship.cuda.device import Device
from yoloship.cuda.compiler import KernelSet
from yoloship.cuda.stream import Stream
from yoloship.errors import CudaError
device = Device.open()
kernels, stream = KernelSet(device, Path({str(tmp_path)!r})), Stream(device)
kernels["letterbox_f32"].launch(stream, (1, 1, 1), (32, 8, 1), 256, 256, 8, 8, 114)
try:
    stream.sync()
except CudaError as error:
    print(error.code, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert re.match(r"7\d\d stream: .*\(CUDA_ERROR_\w+, code 7\d\d, in cu", done.stdout), done.stdout + done.stderr
    assert "restart the process" in done.stdout


@pytest.mark.parametrize("usual_s", [0.0, 1e-3])
def test_quick_calls_order_two_streams(device: Device, usual_s: float) -> None:
    numbers = np.arange(1 << 20, dtype=np.uint32)
    size = numbers.nbytes
    with (
        Stream(device) as first, Stream(device) as second, Event(device) as written,
        PinnedBuffer(device, size) as source, PinnedBuffer(device, size) as target,
        DeviceBuffer(device, size) as middle,
    ):  # fmt: skip
        source.array(np.uint32, numbers.shape)[...] = numbers
        found = target.array(np.uint32, numbers.shape)
        ours, theirs = StreamCalls(first), StreamCalls(second)
        with ours:
            ours.upload(middle.pointer, source.pointer, size)
            ours.record(written)
        with theirs:
            theirs.hold(written)
            download(second, found, middle.pointer)
            theirs.wait(usual_s)
        np.testing.assert_array_equal(found, numbers)


def test_ctrl_c_while_a_thread_sleeps_does_not_leave_before_the_work_is_done(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    waited: list[Any] = []
    with Stream(device) as stream, StreamCalls(stream) as calls:
        wait = calls._wait

        def noted(handle: Any) -> Any:
            waited.append(handle)
            return wait(handle)

        calls._wait = noted
        monkeypatch.setattr(calls, "_query", lambda _: _NOT_READY)
        monkeypatch.setattr(time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calls.wait(1e-3)
    assert len(waited) == 1


@pytest.mark.parametrize("looks", [0, 1, 5, 200])
def test_a_thread_hardly_oversleeps_work_that_is_far_quicker_than_usual(
    device: Device, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """It finds the work not done so many times; 200 take longer than usual."""
    usual_s, now_s, slept = 8.0, [7.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now_s[0] += seconds

    answers = iter([_NOT_READY] * looks + [0])
    with Stream(device) as stream, StreamCalls(stream) as calls:
        monkeypatch.setattr(calls, "_query", lambda _: next(answers))
        monkeypatch.setattr(time, "sleep", sleep)
        monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
        calls.wait(usual_s)
    assert slept == ([1.0] * 6 + [2e-4] * 194)[:looks]


@pytest.mark.parametrize("usual_s", [-1.0, -1e9])
def test_a_thread_that_is_late_already_does_not_sleep(
    device: Device, monkeypatch: pytest.MonkeyPatch, usual_s: float
) -> None:
    with Stream(device) as stream, StreamCalls(stream) as calls:
        monkeypatch.setattr(time, "sleep", pytest.fail)
        calls.wait(usual_s)


def test_a_call_that_keeps_pythons_lock_fails_by_name(device: Device) -> None:
    no_event: Any = SimpleNamespace(address=0)
    with Stream(device) as stream, StreamCalls(stream) as calls, pytest.raises(CudaError) as caught:
        calls.record(no_event)
    assert str(caught.value).startswith(
        "stream: invalid handle (CUDA_ERROR_INVALID_HANDLE, code 400, in cuEventRecord)"
    )
    with pytest.raises(CudaError, match="cuNoSuch_v9: the driver, or cuda-bindings, is too old"):
        quick("cuNoSuch_v9")
