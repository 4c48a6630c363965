"""Sessions on a device: ONNX Runtime's CUDA provider, and TensorRT's stand-in (torch on a GPU, the CPU without one)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from helpers.device_sessions import (
    SIDES,
    ask,
    assert_same,
    expected,
    is_stand_in,
    make_images,
    on_host,
    require_onnxruntime,
    small,
)
from helpers.models import scale_and_shift
from yoloship.cuda.buffers import PinnedBuffer, download, upload
from yoloship.cuda.stream import Graph, Stream
from yoloship.errors import CudaError, InputError, SessionError
from yoloship.model import TensorSpec
from yoloship.runtime.device_context import ContextCache, StreamContext
from yoloship.runtime.onnxruntime.cuda import CudaProviderOptions, OnnxRuntimeCudaSession
from yoloship.runtime.scripted import ScriptedDeviceSession
from yoloship.runtime.session import DeviceContext, DeviceSession

if TYPE_CHECKING:
    from helpers.device_sessions import Open
    from yoloship.cuda.device import Device


def test_it_has_all_that_the_protocol_names(session: DeviceSession, stream: Stream) -> None:
    assert isinstance(session, DeviceSession)
    assert "cuda:0" in session.name
    assert session.inputs == (TensorSpec("images", "float32", ("batch", 3, "h", "w")),)
    assert session.outputs == (TensorSpec("output0", "float32", ("batch", 8, "h", "w")),)
    with session.context({"images": (2, 3, 32, 48)}, stream) as context:
        assert isinstance(context, DeviceContext)
        assert context.inputs["images"].shape == (2, 3, 32, 48)
        assert context.outputs["output0"].shape == (2, 8, 32, 48)
        assert context.inputs["images"].pointer % 256 == 0
        assert context.stream is stream


def test_runs_are_recorded_and_give_right_results_for_every_image(session: DeviceSession, stream: Stream) -> None:
    with session.context({"images": (1, 3, 32, 32)}, stream) as context:
        assert context.capturable
        for _ in range(4):
            images = make_images(1, 3, 32, 32)
            assert_same(ask(context, images), expected(images))


def test_other_shapes_have_their_own_recording_and_none_disturbs_another(
    session: DeviceSession, stream: Stream
) -> None:
    with ContextCache(session, stream, capacity=2) as cache:
        for hw in ((32, 32), (32, 64), (32, 32), (64, 48), (32, 64), (16, 16), (32, 32)):
            for batch in (1, 3):
                images = make_images(batch, 3, *hw)
                assert_same(ask(cache.get({"images": images.shape}), images), expected(images))
                assert len(cache) <= 2


def test_a_run_can_be_recorded_within_a_larger_graph(session: DeviceSession, stream: Stream, device: Device) -> None:
    shape, out = (2, 3, 32, 32), (2, 8, 32, 32)
    with (
        session.context({"images": shape}, stream) as context,
        PinnedBuffer(device, 4 * int(np.prod(shape))) as staging,
        PinnedBuffer(device, 4 * int(np.prod(out))) as landing,
    ):
        source, target = staging.array("float32", shape), landing.array("float32", out)

        def work() -> None:
            upload(stream, context.inputs["images"].pointer, source)
            context.enqueue()
            download(stream, target, context.outputs["output0"].pointer)

        with Graph(stream, work) as graph:
            for _ in range(3):
                source[:] = make_images(*shape)
                graph.launch(stream)
                stream.sync()
                assert_same(target, expected(source))
        images = make_images(*shape)
        assert_same(ask(context, images), expected(images))


def test_several_streams_run_one_session(session: DeviceSession, device: Device) -> None:
    def work(_: int) -> bool:
        with Stream(device) as mine, ContextCache(session, mine) as cache:
            for _ in range(5):
                images = make_images(1, 3, *np.random.default_rng().choice([16, 32, 64], 2))
                assert_same(ask(cache.get({"images": images.shape}), images), expected(images))
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_many_threads_share_a_host_session_and_memory_stays_flat(open_session: Open, device: Device) -> None:
    inputs = [make_images(batch, 3, 32, 32) for batch in (1, 2, 3) for _ in range(4)]
    wanted = [expected(images) for images in inputs]
    before = device.usage()
    with on_host(open_session(small(), [{"images": SIDES}])) as host:

        def work(seed: int) -> bool:
            for index in np.random.default_rng(seed).integers(0, len(inputs), 25):
                assert_same(np.asarray(host.run({"images": inputs[index]})[0]), wanted[index])
            return True

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))
            usage = device.usage()
            assert all(pool.map(work, range(8)))
        assert device.usage().device_bytes <= max(usage.device_bytes, 1 << 24)
    assert device.usage() == before


def test_closing_while_threads_run_lets_them_finish_and_refuses_new_ones(open_session: Open, device: Device) -> None:
    before = device.usage()
    host = on_host(open_session(small(), [{"images": SIDES}]))
    images = make_images(1, 3, 32, 32)
    wanted = expected(images)
    refused, started = [], threading.Event()

    def work() -> None:
        while True:
            try:
                (answer,) = host.run({"images": images})
            except SessionError as error:
                refused.append(str(error))
                return
            assert_same(np.asarray(answer), wanted)
            started.set()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    host.close()
    for thread in threads:
        thread.join()
    assert len(refused) == 4
    assert all("the session is closed" in text for text in refused)
    assert device.usage() == before


def test_another_thread_may_record_a_run_once_it_has_rehearsed(session: DeviceSession, stream: Stream) -> None:
    with session.context({"images": (1, 3, 32, 32)}, stream) as context, ThreadPoolExecutor(1) as elsewhere:
        if not context.capturable:
            pytest.skip("runs of this session cannot be recorded")

        def record() -> Graph:
            context.rehearse()
            return Graph(stream, context.enqueue)

        images = make_images(1, 3, 32, 32)
        wanted = expected(images)
        upload(stream, context.inputs["images"].pointer, images)
        with elsewhere.submit(record).result() as graph:
            answer = np.zeros_like(wanted)
            graph.launch(stream)
            download(stream, answer, context.outputs["output0"].pointer)
            stream.sync()
        assert_same(answer, wanted)
    with pytest.raises(SessionError, match="the context is closed"):
        context.rehearse()


def test_contexts_outlive_their_closed_session(session: DeviceSession, stream: Stream) -> None:
    context = session.context({"images": (1, 3, 32, 32)}, stream)
    session.close()
    with pytest.raises(SessionError, match="the session is closed"):
        session.context({"images": (1, 3, 32, 32)}, stream)
    images = make_images(1, 3, 32, 32)
    assert_same(ask(context, images), expected(images))
    context.close()
    context.close()
    with pytest.raises(SessionError, match="the context is closed"):
        context.enqueue()


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({}, "the shapes are not those of the model's inputs: expected images, got none"),
        ({"images": (1, 4, 32, 32)}, r"images: wrong shape: expected \(batch, 3, h, w\), got \(1, 4, 32, 32\)"),
        ({"images": (1, 3, 32)}, "wrong shape"),
        ({"images": (0, 3, 32, 32)}, "wrong shape"),
    ],
)
def test_shapes_that_do_not_fit_the_model_are_refused(
    session: DeviceSession, stream: Stream, device: Device, shapes: Any, words: str
) -> None:
    before = device.usage()
    with pytest.raises(InputError, match=words):
        session.context(shapes, stream)
    assert device.usage() == before


def test_thousands_of_contexts_leak_nothing(session: DeviceSession, stream: Stream, device: Device) -> None:
    cycles = 2000 if "standin" in session.name else 40

    def cycle(number: int) -> None:
        with session.context({"images": (1, 3, 16 + 16 * (number % 2), 16)}, stream) as context:
            context.enqueue()

    for number in range(6):
        cycle(number)
    before, (free_before, _) = device.usage(), device.memory()
    deadline = time.monotonic() + 8
    for number in range(cycles):
        cycle(number)
        if time.monotonic() > deadline and number >= 30:
            break
    free_after, _ = device.memory()
    assert device.usage() == before
    assert free_before - free_after <= 1 << 24


def test_opening_and_closing_sessions_leaks_nothing(open_session: Open, stream: Stream, device: Device) -> None:
    def cycle() -> None:
        with open_session(small(), [{"images": SIDES}]) as session:
            session.context({"images": (1, 3, 32, 32)}, stream).close()

    for _ in range(3):
        cycle()
    before, (free_before, _) = device.usage(), device.memory()
    for _ in range(10):
        cycle()
    free_after, _ = device.memory()
    assert device.usage() == before
    assert free_before - free_after <= 1 << 23


def test_out_of_memory_says_what_was_asked_and_what_is_free(open_session: Open, stream: Stream, device: Device) -> None:
    huge = (1, 3, 16, 16), (1, 3, 32, 32), (1 << 20, 3, 4096, 4096)
    with open_session(small(), [{"images": huge}]) as session:
        before = device.usage()
        with pytest.raises(CudaError, match=r"asked for .*iB \(\d+ bytes\), .* free of .* on cuda:0") as caught:
            session.context({"images": (1 << 16, 3, 4096, 4096)}, stream)
        assert caught.value.code == 2
        assert device.usage() == before
        with session.context({"images": (1, 3, 32, 32)}, stream) as context:
            images = make_images(1, 3, 32, 32)
            assert_same(ask(context, images), expected(images))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_gets_a_clear_refusal(session: DeviceSession, stream: Stream) -> None:
    context = session.context({"images": (1, 3, 32, 32)}, stream)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            for use in (context.enqueue, lambda: session.context({"images": (1, 3, 16, 16)}, stream)):
                with pytest.raises(CudaError) as caught:
                    use()
                os.write(writer, f"{caught.value}\n".encode())
            context.close()
            session.close()
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read().splitlines()
    assert os.waitpid(child, 0)[1] == 0
    assert len(said) == 2
    assert all("was opened before this process was forked" in line for line in said)
    images = make_images(1, 3, 32, 32)
    assert_same(ask(context, images), expected(images))
    context.close()


def test_what_cannot_be_recorded_runs_all_the_same(device: Device, stream: Stream) -> None:
    specs = [TensorSpec("images", "float32", ("n",)), TensorSpec("output0", "float32", ("n",))]
    with ScriptedDeviceSession(device, specs[:1], specs[1:], lambda feeds: [feeds["images"] + 1]) as session:
        scripted = session.context({"images": (5,)}, stream)
        assert not scripted.capturable
        np.testing.assert_array_equal(ask(scripted, np.arange(5, dtype=np.float32)), np.arange(1, 6))
        scripted.close()

        with (
            ExitStack() as resources,
            StreamContext(stream, (), (), stream.sync, resources) as waits,  # what a recording does not allow
        ):
            assert not waits.capturable
            waits.enqueue()
    assert device.usage().counts.get("graph", 0) == 0


def test_the_binding_reads_and_writes_our_buffers(
    device: Device, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in's memory is the host's: ONNX Runtime's CPU provider is bound to it as the other is to a GPU's."""
    if not is_stand_in(device):
        pytest.skip("the other tests do this with the provider itself")
    module = "yoloship.runtime.onnxruntime.cuda"
    monkeypatch.setattr(f"{module}.PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(f"{module}._MEMORY", "cpu")
    before = device.usage()
    with OnnxRuntimeCudaSession.open(
        small().SerializeToString(), device, CudaProviderOptions(recorded=False)
    ) as session:
        for shape in ((1, 3, 32, 32), (2, 3, 16, 48)):
            images = make_images(*shape)
            with session.context({"images": shape}, stream) as context:
                assert not context.capturable
                for _ in range(2):
                    assert_same(ask(context, images), expected(images))
    assert device.usage() == before


def test_a_device_that_is_lost_for_real_is_a_clear_error_and_no_hang(device: Device, tmp_path: Path) -> None:
    require_onnxruntime(device)
    path = tmp_path / "model.onnx"
    onnx.save(scale_and_shift(), path)
    program = f"""
from pathlib import Path
from yoloship.cuda.device import Device
from yoloship.cuda.compiler import KernelSet
from yoloship.cuda.stream import Stream
from yoloship.errors import CudaError
from yoloship.runtime.onnxruntime.cuda import OnnxRuntimeCudaSession
import os
device = Device.open()
stream = Stream(device)
context = OnnxRuntimeCudaSession.open(Path({str(path)!r}), device).context({{"x": (2, 3)}}, stream)
KernelSet(device, None)["letterbox_f32"].launch(stream, (1, 1, 1), (32, 8, 1), 256, 256, 8, 8, 114)
try:
    for _ in range(100):
        context.enqueue()
    stream.sync()
except CudaError as error:
    print(error.code, error, flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert re.match(r"7\d\d ", done.stdout), done.stdout + done.stderr
    assert "restart the process" in done.stdout
