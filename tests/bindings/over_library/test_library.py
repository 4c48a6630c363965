"""What lives and dies in which order, and what the library says about a slot that it does not have."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from helpers import tensorrt_standin as standin
from helpers.device_sessions import SIDES, ask, assert_same, expected, make_images, small
from helpers.networks import float_network
from helpers.tensorrt_library.wheels import chosen
from yoloship.engine import BuildConfig, Range, build_engine
from yoloship.runtime.tensorrt import TensorRTSession

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.tensorrt_library.host import Library
    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.engine import Flavour


def test_the_version_asked_for_is_the_one_that_answers(tensorrt: Flavour) -> None:
    assert tensorrt.module.__version__ == chosen()
    assert tensorrt.module.Runtime.__module__.startswith("tensorrt_bindings")


def test_a_context_keeps_its_engine_and_runtime_alive(library: Library, tensorrt: Flavour) -> None:
    logger = tensorrt.module.Logger()
    with library.trail() as trail:
        runtime = tensorrt.module.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(standin.plan(small(), [{"images": SIDES}]))
        context = engine.create_execution_context()
        del runtime, engine
        gc.collect()
        assert trail() == ["+VRuntime", "+VCudaEngine", "+VExecutionContext"]
        del context
        assert trail()[3:] == ["-VExecutionContext", "-VCudaEngine", "-VRuntime"]


def test_a_session_gives_all_back_in_order(library: Library, device: Device, stream: Stream, tmp_path: Path) -> None:
    path = standin.write_plan(tmp_path / "a.engine", small(), [{"images": SIDES}])
    images = make_images(2, 3, 32, 48)
    with library.trail() as trail:
        with TensorRTSession.open(path, device, flavour=standin.flavour()) as session:
            for _ in range(2):
                with session.context({"images": images.shape}, stream) as context:
                    assert_same(ask(context, images), expected(images))
        assert trail() == [
            "+VRuntime", "+VCudaEngine", "+VExecutionContext", "-VExecutionContext", "-VCudaEngine", "-VRuntime",
        ]  # fmt: skip


def test_a_build_leaves_nothing_behind(library: Library, tensorrt: Flavour, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(small().SerializeToString())
    before = library.alive
    config = BuildConfig(batch=Range(1, 2, 4), height=Range(32, 32, 64), width=Range(32, 32, 64))
    with library.trail() as trail:
        build_engine(tmp_path / "a.onnx", config, flavour=tensorrt)
        gc.collect()
        ended = [word for word in trail() if word.startswith("-")]
    assert library.alive == before
    assert {word[1:] for word in trail() if word.startswith("+")} >= {
        "VBuilder", "VNetworkDefinition", "IParser", "VBuilderConfig", "VOptimizationProfile", "VTensor", "VLayer",
    }  # fmt: skip
    assert ended[-1] == "-VBuilder"


def test_a_cancelled_build_leaves_nothing_behind(library: Library, tensorrt: Flavour, tmp_path: Path) -> None:
    """An exception that the tracker kept once held them all: Python cannot see that a configuration has a monitor."""
    (tmp_path / "a.onnx").write_bytes(float_network().SerializeToString())
    before = library.alive

    def refuse(what: str, done: float, total: float) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        build_engine(tmp_path / "a.onnx", flavour=tensorrt, on_progress=refuse)
    gc.collect()
    assert library.alive == before


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("b.reset()", r"VBuilder slot \d+ of layout \S+: reset is not there"),
        ("b.create_network(FLAGS).add_input('x', trt.float32, (1,))", r"slot 2 of layout \S+: addInput is not there"),
        ("b.create_builder_config().reset()", r"VBuilderConfig slot \d+ of layout \S+: reset is not there"),
    ],
)
def test_a_call_that_the_library_lacks_is_named(code: str, said: str) -> None:
    """So a wrong table cannot go unnoticed: it names another function, or one that nobody called."""
    setup = (
        "import tensorrt as trt; b = trt.Builder(trt.Logger()); "
        "FLAGS = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED); "
    )
    done = subprocess.run(
        [sys.executable, "-c", setup + code], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert re.search(said, done.stderr), done.stderr
