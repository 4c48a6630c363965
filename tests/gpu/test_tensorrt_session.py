"""TensorRT's own manners, over its stand-in."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import onnx
import pytest

from helpers import tensorrt_standin as standin
from helpers.device_sessions import (
    SIDES,
    ask,
    assert_same,
    expected,
    make_images,
    small,
)
from helpers.networks import float_network
from yoloship.cuda.stream import Graph, Stream
from yoloship.engine import BuildConfig
from yoloship.errors import CudaError, EngineError, InputError, SessionError
from yoloship.model import TensorSpec
from yoloship.runtime.tensorrt import TensorRTSession
from yoloship.runtime.tensorrt_execution import Execution

if TYPE_CHECKING:
    from helpers.device_sessions import Open
    from yoloship.cuda.device import Device


def test_the_profile_is_chosen_by_the_shape(open_engine: Open, stream: Stream) -> None:
    profiles = [
        {"images": [(1, 3, 16, 16), (1, 3, 32, 32), (1, 3, 64, 64)]},
        {"images": [(1, 3, 16, 16), (8, 3, 32, 32), (16, 3, 64, 64)]},
    ]
    with open_engine(small(), profiles) as session:
        assert [p[0].maximum for p in session.profiles] == [(1, 3, 64, 64), (16, 3, 64, 64)]
        for batch in (1, 8, 2, 16, 1):
            images = make_images(batch, 3, 32, 32)
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
        images = make_images(1, 3, 32, 32)
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


def test_a_stale_or_foreign_engine_is_refused_before_it_is_loaded(device: Device, tmp_path: Path) -> None:
    path = standin.write_plan(tmp_path / "a.engine", small(), [{"images": SIDES}], faults=["deserialize"])
    newer = replace(standin.flavour(), version="10.1.0")
    version = re.escape(standin.flavour().version)
    with pytest.raises(EngineError, match=rf"another version of TensorRT: expected .* {version}, got"):
        TensorRTSession.open(path, device, flavour=newer)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(EngineError, match=r"does not match the \.json file beside it"):
        TensorRTSession.open(path, device, flavour=standin.flavour())


def test_code_for_the_host_is_run_only_when_that_is_asked_for(device: Device, tmp_path: Path) -> None:
    config = BuildConfig(version_compatible=True)
    path = standin.write_plan(tmp_path / "a.engine", small(), [{"images": SIDES}], config=config)
    with pytest.raises(EngineError, match="is version compatible, so it contains code that runs on the host; if you"):
        TensorRTSession.open(path, device, flavour=standin.flavour())
    TensorRTSession.open(path, device, flavour=standin.flavour(), allow_host_code=True).close()
    TensorRTSession.open(path, device, flavour=replace(standin.flavour(), name="lean")).close()


def test_an_engine_with_metadata_in_front_says_what_it_is(device: Device, stream: Stream, tmp_path: Path) -> None:
    about = json.dumps({"names": {"0": "person"}, "stride": 32, "batch": 1, "imgsz": [32, 32]}).encode()
    path = tmp_path / "prefixed.engine"
    plan = standin.plan(small(), [{"images": SIDES}])
    path.write_bytes(b"".join([len(about).to_bytes(4, "little"), about, plan]))
    with TensorRTSession.open(path, device, flavour=standin.flavour()) as session:
        assert (session.metadata["names"], session.metadata["imgsz"]) == ("{'0': 'person'}", "[32, 32]")
        assert session.inputs[0].shape == ("images.0", 3, "images.2", "images.3")  # nobody wrote down their names
        images = make_images(2, 3, 32, 48)
        with session.context({"images": images.shape}, stream) as context:
            assert_same(ask(context, images), expected(images))


def test_a_runtime_that_tensorrt_does_not_make_is_said_with_the_reason_and_what_to_do(
    device: Device, tmp_path: Path
) -> None:
    path = standin.write_plan(tmp_path / "a.engine", small(), [{"images": SIDES}])
    flavour = standin.without("Runtime", "CUDA initialization failure with error: 46")
    with pytest.raises(EngineError) as caught:
        TensorRTSession.open(path, device, flavour=flavour)
    assert str(caught.value) == (
        f"{flavour.title}: cannot make its Runtime: CUDA initialization failure with error: 46; another process holds "
        "the GPU: end it, or allow several with 'nvidia-smi -c DEFAULT'"
    )


TWO_PROFILES = (
    {"images": [(1, 3, 16, 16), (1, 3, 32, 32), (1, 3, 64, 64)]},
    {"images": [(1, 3, 16, 16), (8, 3, 32, 32), (16, 3, 64, 64)]},
)


@pytest.mark.parametrize("bindings", standin.MANNERS)
def test_a_refused_profile_is_an_error_and_one_that_is_not_there_is_never_asked_for(
    open_engine: Open, stream: Stream, bindings: str
) -> None:
    with open_engine(small(), TWO_PROFILES, bindings=bindings) as session:
        assert isinstance(session, TensorRTSession)
        run = Execution(session._engine.create_execution_context(), standin.flavour(), stream, "a.engine")
        for number in (-1, 2):  # 10.3 would end the process
            with pytest.raises(SessionError, match=rf"has no such profile: expected 0 to 1, got {number}"):
                run.set_profile(number, 2)
        run.set_profile(1, 2)
        run.set_profile(1, 2)
    if tuple(map(int, bindings.split("."))) < (10, 13):
        return  # its process would end
    with (
        open_engine(small(), TWO_PROFILES, faults=["profile"], bindings=bindings) as session,
        pytest.raises(SessionError, match=r"TensorRT refuses profile 1: profile 1$"),
    ):
        session.context({"images": (8, 3, 32, 32)}, stream)


@pytest.mark.parametrize("bindings", standin.MANNERS)
def test_a_shape_that_tensorrt_does_not_say_is_an_error_in_both_manners(
    open_engine: Open, stream: Stream, bindings: str
) -> None:
    with pytest.raises(EngineError, match=r"does not describe it: given invalid tensor name|does not report the shape"):
        open_engine(small(), [{"images": SIDES}], faults=["shape"], bindings=bindings)
    with open_engine(small(), [{"images": SIDES}], bindings=bindings) as session:
        assert isinstance(session, TensorRTSession)
        run = Execution(session._engine.create_execution_context(), standin.flavour(), stream, "a.engine")
        with pytest.raises(SessionError, match=r"TensorRT (does not know|cannot infer the shape of) 'nothing'"):
            run.set_shapes({"images": (1, 3, 32, 32)}, (TensorSpec("nothing", "float32", (1,)),))
        with pytest.raises(SessionError, match=r"TensorRT refuses \(1, 3\) for 'images': static dimensions"):
            run.set_shapes({"images": (1, 3)}, session.outputs)


def test_shapes_that_contradict_each_other_are_an_error(open_engine: Open, stream: Stream) -> None:
    with (
        open_engine(small(), [{"images": SIDES}], faults=["infer"]) as session,
        pytest.raises(SessionError, match=r"TensorRT (cannot infer the shape of|does not know) 'output0'"),
    ):
        session.context({"images": (1, 3, 32, 32)}, stream)


def test_a_stream_of_another_device_or_in_a_recording_is_refused_before_tensorrt_gets_it(
    open_engine: Open, stream: Stream, device: Device
) -> None:
    elsewhere = SimpleNamespace(device=SimpleNamespace(ordinal=device.ordinal + 1), address=1)
    with open_engine(small(), [{"images": SIDES}]) as session:
        with pytest.raises(InputError, match="is a stream of another device: expected cuda:0"):
            session.context({"images": (1, 3, 32, 32)}, cast("Stream", elsewhere))
        with pytest.raises(InputError, match="something is being recorded on this stream"):
            Graph(stream, lambda: session.context({"images": (1, 3, 32, 32)}, stream).close())


def test_an_rtx_session_keeps_the_kernels_that_it_compiled_for_the_next_one(
    device: Device, stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    path = standin.write_plan(
        tmp_path / "a.engine", small(), [{"images": SIDES}], config=BuildConfig(targets=("current",)),
        compute_capability=device.info.sm, flavour_name="rtx",
    )  # fmt: skip
    sizes = []
    for side in (32, 32, 48):
        with TensorRTSession.open(path, device, flavour=standin.flavour("rtx")) as session:
            images = make_images(1, 3, side, side)
            with session.context({"images": images.shape}, stream) as context:
                assert_same(ask(context, images), expected(images))
        (kept,) = (tmp_path / "cache" / "compiled").iterdir()
        sizes.append(kept.stat().st_size)
    assert sizes[0] == sizes[1] < sizes[2]
