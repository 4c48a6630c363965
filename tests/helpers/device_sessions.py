"""Sessions on a device, and small networks for them: what the tests of several runtimes share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import pytest

from helpers import tensorrt_standin as standin
from helpers.networks import float_network
from yoloship.cuda.buffers import download, upload
from yoloship.runtime import Session
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.runtime.onnxruntime.cuda import PROVIDER, CudaProviderOptions
from yoloship.runtime.session import DeviceContext, DeviceSession
from yoloship.runtime.tensorrt import TensorRTSession

if TYPE_CHECKING:
    from collections.abc import Callable

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


def make_images(*shape: int) -> Array:
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


def on_host(session: DeviceSession) -> Session:
    """The session for host arrays; closes it as well."""
    return session.as_host_session(session)


def run(session: Session, images: Array) -> tuple[Any, ...]:
    return session.run({"images": images})


def assert_same(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
