"""Sessions on a device: ONNX Runtime's CUDA provider, and TensorRT's stand-in (torch on a GPU, the CPU without one)."""

from __future__ import annotations

import importlib.util
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
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import pytest

import _tensorrt_standin as standin
from _models import scale_and_shift
from _networks import float_network
from _shared import PHOTOS, TRAINED
from yoloship.checkpoint import read_checkpoint
from yoloship.cuda.buffers import PinnedBuffer, download, upload
from yoloship.cuda.graph import Graph
from yoloship.cuda.stream import Stream
from yoloship.errors import CudaError, EngineError, InputError, SessionError
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.pipeline import Detector
from yoloship.runtime import OnnxRuntimeSession, Session
from yoloship.runtime.context_cache import ContextCache
from yoloship.runtime.device_context import StreamContext
from yoloship.runtime.device_runner import DeviceRunner
from yoloship.runtime.device_session import DeviceContext, DeviceSession
from yoloship.runtime.onnxruntime_cuda import PROVIDER, CudaProviderOptions, OnnxRuntimeCudaSession
from yoloship.runtime.scripted_device import ScriptedDeviceSession
from yoloship.runtime.tensorrt import TensorRTSession
from yoloship.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from yoloship.cuda.device import Device

    Array: TypeAlias = npt.NDArray[Any]
    Open = Callable[..., DeviceSession]

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "runs" / "gpu-data"
QUICK = CudaProviderOptions(convolution_search="default")
SIDES = ((1, 3, 16, 16), (1, 3, 32, 48), (8, 3, 64, 64))
"""A profile for `float_network` with everything dynamic."""


def is_stand_in(device: Device) -> bool:
    return device.name.startswith("stand-in")


def small() -> onnx.ModelProto:
    """A convolution and a ReLU over (batch, 3, h, w)."""
    model = float_network(batch="batch", side_hw=("h", "w"))
    shape = model.graph.output[0].type.tensor_type.shape
    for axis in ("batch", 8, "h", "w"):
        extent = shape.dim.add()
        if isinstance(axis, int):
            extent.dim_value = axis
        else:
            extent.dim_param = axis
    return model


@pytest.fixture(params=["onnxruntime", "stand-in"])
def open_session(request: pytest.FixtureRequest, device: Device, tmp_path: Path) -> Open:
    """Opens a model in the way of one runtime; `profiles` count for TensorRT only."""
    if request.param == "onnxruntime":
        require_onnxruntime(device)
        return lambda model, profiles=(), **_: OnnxRuntimeCudaSession.open(model.SerializeToString(), device, QUICK)
    return stand_in_opener(device, tmp_path)


@pytest.fixture
def open_engine(device: Device, tmp_path: Path) -> Open:
    return stand_in_opener(device, tmp_path)


def require_onnxruntime(device: Device) -> None:
    if is_stand_in(device):
        pytest.skip("ONNX Runtime's CUDA provider needs a GPU")
    import onnxruntime

    if PROVIDER not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider")


def stand_in_opener(device: Device, folder: Path) -> Open:
    if not is_stand_in(device) and importlib.util.find_spec("torch") is None:
        pytest.skip("the stand-in for TensorRT computes with torch on a GPU, and torch is not installed")

    def opened(model: onnx.ModelProto, profiles: Any = (), **how: Any) -> DeviceSession:
        path = standin.write_plan(folder / f"{len(list(folder.iterdir()))}.engine", model, profiles, **how)
        return TensorRTSession.open(path, device, flavour=standin.flavour())

    return opened


@pytest.fixture
def session(open_session: Open) -> Iterator[DeviceSession]:
    with open_session(small(), [{"images": SIDES}]) as opened:
        yield opened


def pictures(*shape: int) -> Array:
    return np.random.default_rng().random(shape, dtype=np.float32)


def expected(images: Array) -> Array:
    with OnnxRuntimeSession.open(small().SerializeToString(), intra_op_threads=1) as session:
        return np.asarray(session.run({"images": images})[0])


def ask(context: DeviceContext, images: Array) -> Array:
    tensor = context.outputs["output0"]
    answer = np.empty(tensor.shape, tensor.dtype)
    upload(context.stream, context.inputs["images"].pointer, np.ascontiguousarray(images))
    context.enqueue()
    download(context.stream, answer, tensor.pointer)
    context.stream.sync()
    return answer


def run(session: Session, images: Array) -> tuple[Any, ...]:
    return session.run({"images": images})


def assert_same(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


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


def test_runs_are_recorded_and_give_right_results_for_every_picture(session: DeviceSession, stream: Stream) -> None:
    with session.context({"images": (1, 3, 32, 32)}, stream) as context:
        assert context.capturable
        for _ in range(4):
            images = pictures(1, 3, 32, 32)
            assert_same(ask(context, images), expected(images))


def test_other_shapes_have_their_own_recording_and_none_disturbs_another(
    session: DeviceSession, stream: Stream
) -> None:
    with ContextCache(session, stream, capacity=2) as cache:
        for hw in ((32, 32), (32, 64), (32, 32), (64, 48), (32, 64), (16, 16), (32, 32)):
            for batch in (1, 3):
                images = pictures(batch, 3, *hw)
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
                source[:] = pictures(*shape)
                graph.launch(stream)
                stream.sync()
                assert_same(target, expected(source))
        images = pictures(*shape)
        assert_same(ask(context, images), expected(images))


def test_several_streams_run_one_session(session: DeviceSession, device: Device) -> None:
    def work(_: int) -> bool:
        with Stream(device) as mine, ContextCache(session, mine) as cache:
            for _ in range(5):
                images = pictures(1, 3, *np.random.default_rng().choice([16, 32, 64], 2))
                assert_same(ask(cache.get({"images": images.shape}), images), expected(images))
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_many_threads_share_a_runner_and_memory_stays_flat(open_session: Open, device: Device) -> None:
    inputs = [pictures(batch, 3, 32, 32) for batch in (1, 2, 3) for _ in range(4)]
    wanted = [expected(images) for images in inputs]
    before = device.usage()
    with DeviceRunner(open_session(small(), [{"images": SIDES}])) as runner:

        def work(seed: int) -> bool:
            for index in np.random.default_rng(seed).integers(0, len(inputs), 25):
                assert_same(np.asarray(runner.run({"images": inputs[index]})[0]), wanted[index])
            return True

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))
            usage = device.usage()
            assert all(pool.map(work, range(8)))
        assert device.usage().device_bytes <= max(usage.device_bytes, 1 << 24)
    assert device.usage() == before


def test_closing_while_threads_run_lets_them_finish_and_refuses_new_ones(open_session: Open, device: Device) -> None:
    before = device.usage()
    runner = DeviceRunner(open_session(small(), [{"images": SIDES}]))
    images = pictures(1, 3, 32, 32)
    wanted = expected(images)
    refused, started = [], threading.Event()

    def work() -> None:
        while True:
            try:
                (answer,) = runner.run({"images": images})
            except SessionError as error:
                refused.append(str(error))
                return
            assert_same(np.asarray(answer), wanted)
            started.set()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait(60)
    runner.close()
    for thread in threads:
        thread.join(60)
    assert len(refused) == 4
    assert all("the session is closed" in text for text in refused)
    assert device.usage() == before


def test_contexts_outlive_their_closed_session(session: DeviceSession, stream: Stream) -> None:
    context = session.context({"images": (1, 3, 32, 32)}, stream)
    session.close()
    with pytest.raises(SessionError, match="the session is closed"):
        session.context({"images": (1, 3, 32, 32)}, stream)
    images = pictures(1, 3, 32, 32)
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
            images = pictures(1, 3, 32, 32)
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
    images = pictures(1, 3, 32, 32)
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
    module = "yoloship.runtime.onnxruntime_cuda"
    monkeypatch.setattr(f"{module}.PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(f"{module}._MEMORY", "cpu")
    before = device.usage()
    with OnnxRuntimeCudaSession.open(
        small().SerializeToString(), device, CudaProviderOptions(recorded=False)
    ) as session:
        for shape in ((1, 3, 32, 32), (2, 3, 16, 48)):
            images = pictures(*shape)
            with session.context({"images": shape}, stream) as context:
                assert not context.capturable
                for _ in range(2):
                    assert_same(ask(context, images), expected(images))
    assert device.usage() == before


# TensorRT's own manners, over its stand-in.


def test_the_profile_is_chosen_by_the_shape(open_engine: Open, stream: Stream) -> None:
    profiles = [
        {"images": [(1, 3, 16, 16), (1, 3, 32, 32), (1, 3, 64, 64)]},
        {"images": [(1, 3, 16, 16), (8, 3, 32, 32), (16, 3, 64, 64)]},
    ]
    with open_engine(small(), profiles) as session:
        assert [p[0].maximum for p in session.profiles] == [(1, 3, 64, 64), (16, 3, 64, 64)]
        for batch in (1, 8, 2, 16, 1):
            images = pictures(batch, 3, 32, 32)
            with session.context({"images": images.shape}, stream) as context:
                assert_same(ask(context, images), expected(images))
        with pytest.raises(InputError) as caught:
            session.context({"images": (17, 3, 32, 32)}, stream)
        assert str(caught.value) == (
            "images: the shape is outside every optimization profile of the engine: expected (1, 3, 16, 16) to "
            "(1, 3, 64, 64) or (1, 3, 16, 16) to (16, 3, 64, 64), got (17, 3, 32, 32); build the engine for a wider "
            "range (yoloship build --batch MIN:OPT:MAX --imgsz MIN:OPT:MAX)"
        )


def test_a_static_engine_has_no_profiles(open_engine: Open, stream: Stream) -> None:
    model = float_network()
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("output0", 1, [1, 8, 32, 32]))
    with open_engine(model) as session:
        assert session.profiles == ()
        images = pictures(1, 3, 32, 32)
        for _ in range(2):
            with session.context({"images": images.shape}, stream) as context, Stream(stream.device) as other:
                assert_same(ask(context, images), expected(images))
                with session.context({"images": images.shape}, other) as second:
                    assert_same(ask(second, images), expected(images))


def test_a_lost_device_in_mid_stream_is_a_clear_error_and_no_hang(
    open_engine: Open, stream: Stream, device: Device
) -> None:
    before = device.usage()
    with (  # the first run warms up, the recording fails, and so does the run that looks whether others still work
        open_engine(small(), [{"images": SIDES}], fails_after=1) as session,
        pytest.raises(CudaError, match=r"illegal address \(CUDA_ERROR_ILLEGAL_ADDRESS, code 700, in TensorRT"),
    ):
        session.context({"images": (1, 3, 32, 32)}, stream)
    assert device.usage() == before
    with open_engine(small(), [{"images": SIDES}], fails_after=2) as session:
        context = session.context({"images": (1, 3, 32, 32)}, stream)

        with pytest.raises(CudaError, match="restart the process"):
            Graph(stream, context.enqueue)
        context.close()
    assert device.usage() == before


def test_what_tensorrt_refuses_is_said_with_its_own_reason(open_engine: Open, stream: Stream) -> None:
    with pytest.raises(EngineError, match=r"TensorRT does not load it: cannot be read \(on purpose\)"):
        open_engine(small(), [{"images": SIDES}], faults=["deserialize"])
    with pytest.raises(EngineError, match="its tensor 'images' lies on the host"):
        open_engine(small(), [{"images": SIDES}], faults=["host"])
    with pytest.raises(EngineError, match="its tensor 'images' is not row-major"):
        open_engine(small(), [{"images": SIDES}], faults=["format"])
    with (
        open_engine(small(), [{"images": SIDES}], faults=["context"]) as session,
        pytest.raises(CudaError, match=r"asked for 117.7 MiB \(123456789 bytes\), .* free of"),
    ):
        session.context({"images": (1, 3, 32, 32)}, stream)


def test_an_engine_of_another_gpu_is_refused_before_it_is_loaded(device: Device, tmp_path: Path) -> None:
    path = standin.write_plan(tmp_path / "a.engine", small(), [{"images": SIDES}], compute_capability="sm52")
    with pytest.raises(EngineError, match="was built for another GPU: expected sm52, got"):
        TensorRTSession.open(path, device, flavour=standin.flavour())


def test_a_device_that_is_lost_for_real_is_a_clear_error_and_no_hang(device: Device, tmp_path: Path) -> None:
    require_onnxruntime(device)
    path = tmp_path / "model.onnx"
    onnx.save(scale_and_shift(), path)
    program = f"""
from pathlib import Path
from yoloship.cuda.device import Device
from yoloship.cuda.module import KernelSet
from yoloship.cuda.stream import Stream
from yoloship.errors import CudaError
from yoloship.runtime.onnxruntime_cuda import OnnxRuntimeCudaSession
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
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ)
    )
    assert re.match(r"7\d\d ", done.stdout), done.stdout + done.stderr
    assert "restart the process" in done.stdout


# A trained model.


def data(name: str, folder: Path) -> Path:
    for path in (DATA / name, folder / name):
        if path.exists():
            return path
    pytest.skip(f"neither runs/gpu-data nor ../shared has {name}")


def trained(config: GraphConfig) -> onnx.ModelProto:
    return build_graph(read_checkpoint(data("coco-yolov5n.pt", TRAINED)), config)


TRAINED_SIDES = [{"images": [(1, 3, 64, 64), (1, 3, 640, 640), (8, 3, 640, 640)]}]


def test_a_trained_network_gives_the_numbers_of_the_cpu(open_session: Open, device: Device) -> None:
    model = trained(GraphConfig(input_hw=None, batch=None, output_form="heads"))
    with (
        OnnxRuntimeSession.open(graph_bytes(model)) as reference,
        DeviceRunner(open_session(model, TRAINED_SIDES)) as runner,
    ):
        for shape in ((1, 3, 320, 256), (2, 3, 160, 192)):
            images = pictures(*shape)
            found, wanted = run(runner, images), run(reference, images)
            for a, b in zip(found, wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-3, atol=5e-3)


@pytest.mark.parametrize("output_form", ["raw", "compact"])
def test_graphs_that_decode_give_the_numbers_of_the_cpu(open_session: Open, output_form: Any) -> None:
    model = trained(GraphConfig(input_hw=(128, 160), output_form=output_form))
    with OnnxRuntimeSession.open(graph_bytes(model)) as reference, DeviceRunner(open_session(model)) as runner:
        images = pictures(1, 3, 128, 160)
        found, wanted = run(runner, images), run(reference, images)
        np.testing.assert_allclose(found[0][..., :4], wanted[0][..., :4], rtol=1e-3, atol=0.05)  # boxes, in pixels
        if output_form == "raw":
            np.testing.assert_allclose(found[0][..., 4:], wanted[0][..., 4:], atol=1e-3)
        else:
            np.testing.assert_allclose(found[1], wanted[1], atol=1e-3)
            assert (found[2] == wanted[2]).mean() > 0.9  # of rubbish, the best class is a near thing


def test_detections_on_photos_are_those_of_the_cpu(open_session: Open, device: Device) -> None:
    photos = [data(name, PHOTOS) for name in ("bus.jpg", "zidane.jpg")]
    if is_stand_in(device):
        photos = photos[:1]  # the CPU runs it twice
    from yoloship.images import read_image

    model = trained(GraphConfig(output_form="heads"))
    runner = DeviceRunner(open_session(model, info=None))
    if not runner.metadata:  # an engine without a record
        from yoloship.graph import model_info

        runner.close()
        config = GraphConfig(output_form="heads")
        info = model_info(read_checkpoint(data("coco-yolov5n.pt", TRAINED)), config)
        runner = DeviceRunner(open_session(model, info=info))
    with Detector(OnnxRuntimeSession.open(graph_bytes(model))) as cpu, Detector(runner) as gpu:
        for photo in photos:
            image = read_image(photo)
            wanted, found = cpu(image), gpu(image)
            assert len(wanted) == len(found) > 0
            np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
            np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.5)
            np.testing.assert_allclose(found.scores, wanted.scores, atol=2e-3)


def test_half_precision_stays_near_the_cpu(open_session: Open) -> None:
    model = trained(GraphConfig(input_hw=(128, 128), precision="float16"))
    plain = trained(GraphConfig(input_hw=(128, 128)))
    with OnnxRuntimeSession.open(graph_bytes(plain)) as reference, DeviceRunner(open_session(model)) as runner:
        images = pictures(1, 3, 128, 128)
        (found,), (wanted,) = run(runner, images), run(reference, images)
        assert float(np.abs(found[..., 4:] - wanted[..., 4:]).max()) < 0.05
        assert float(np.abs(found[..., :4] - wanted[..., :4]).max()) < 8
