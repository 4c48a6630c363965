"""What is tried, a function each. They run in a process of their own; see `yoloship.doctor.examination`.

A trial returns what it found out, or raises; whatever it raises is the answer.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from yoloship.doctor.examination import MARK
from yoloship.runtime import RUNTIMES
from yoloship.runtime.session import RuntimePrecision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yoloship.engine import FlavourName
    from yoloship.runtime.session import Session

SMALL_ONNX = base64.b64decode(
    "CAgSCHlvbG9zaGlwOokBChUKAXgKAXcSAWMaBGNvbnYiBENvbnYKEgoBYxIBeRoEcmVsdSIEUmVsdRIFdHJpYWwqGwgBCAMIAQgB"
    "EAFCAXdKDAAAgD8AAIA/AACAP1obCgF4EhYKFAgBEhAKAggBCgIIAwoCCAgKAggIYhsKAXkSFgoUCAESEAoCCAEKAggBCgIICAoC"
    "CAhCBAoAEBE="
)
"""A model of 158 bytes: a 1×1 convolution that adds the three channels of ``x`` (1, 3, 8, 8), and a ReLU."""


class DoesNotWork(Exception):  # noqa: N818 - a finding, not an error
    """What was tried ran, and did not do what it should."""


def export() -> dict[str, Any]:
    """Read and check a graph with the onnx package."""
    from yoloship.graph.check import read_onnx

    with tempfile.TemporaryDirectory(prefix="yoloship-") as folder:
        path = Path(folder) / "small.onnx"
        path.write_bytes(SMALL_ONNX)
        file = read_onnx(path)
    _expect(dict(file.operators), {"Conv": 1, "Relu": 1})
    return {"onnx": _version("onnx")}


def onnxruntime() -> dict[str, Any]:
    """Run a graph on the processor and compare its numbers."""
    _run("onnxruntime")
    runtime: Any = importlib.import_module("onnxruntime")
    return {"onnxruntime": runtime.__version__, "providers": list(runtime.get_available_providers())}


def runtime_trial(name: str) -> dict[str, Any]:
    """Run a graph with a runtime in each precision that it has here, and compare its numbers.

    Args:
        name: In `RUNTIMES`; it runs on the processor.
    """
    from yoloship.errors import InputError

    runtime = RUNTIMES.load(name)
    runtime.check(None)
    worked: list[RuntimePrecision] = []
    for precision in get_args(RuntimePrecision):
        if precision not in runtime.precisions:
            continue
        try:
            runtime.check(precision)
        except InputError:  # the processor has no arithmetic of it
            continue
        _run(name, precision)
        worked.append(precision)
    _expect(bool(worked), True)
    return {runtime.packages[0]: _version(runtime.packages[0]), "precisions": worked}


def opencv() -> dict[str, Any]:
    """Write an image as JPEG, read it back and resize it."""
    import cv2

    image = np.full((48, 64, 3), 114, np.uint8)
    written, data = cv2.imencode(".jpg", image)
    read = cv2.imdecode(data, cv2.IMREAD_COLOR) if written else None
    _expect(None if read is None else cv2.resize(read, (32, 24)).shape, (24, 32, 3))
    return {"opencv": cv2.__version__, "threads": cv2.getNumThreads()}


def quantize() -> dict[str, Any]:
    """Import ONNX Runtime's quantizer, with all that it needs."""
    from yoloship.runtime.onnxruntime.cpu import import_onnxruntime

    import_onnxruntime()
    quantization: Any = importlib.import_module("onnxruntime.quantization")
    _expect(hasattr(quantization, "quantize_static"), True)
    return {"onnxruntime": _version("onnxruntime")}


def build_tensorrt() -> dict[str, Any]:
    """Build an engine with TensorRT."""
    return _build("tensorrt")


def build_rtx() -> dict[str, Any]:
    """Build an engine with TensorRT-RTX."""
    return _build("rtx")


def run_tensorrt() -> dict[str, Any]:
    """Build an engine with TensorRT, run it on the GPU and compare its numbers."""
    return _execute("tensorrt")


def run_rtx() -> dict[str, Any]:
    """Build an engine with TensorRT-RTX, run it on the GPU and compare its numbers."""
    return _execute("rtx")


def run_lean() -> dict[str, Any]:
    """Build an engine with TensorRT, run it with the lean runtime and compare its numbers."""
    from yoloship.engine import installed_flavours, open_flavour

    flavour = open_flavour("lean", to_build=False)
    if "tensorrt" not in installed_flavours():
        raise DoesNotWork(
            f"{flavour.title} can be imported; it builds nothing, so there is no engine to try: run 'yoloship verify' "
            "with one of yours"
        )
    return _execute("lean")


def gpu_media() -> dict[str, Any]:
    """Decode a JPEG with the GPU's engine and compare its pixels."""
    import cv2

    from yoloship.cuda.buffers import DeviceBuffer, download
    from yoloship.cuda.device import Device
    from yoloship.cuda.nvjpeg import NvJpeg, Target
    from yoloship.cuda.stream import Stream
    from yoloship.images import read_image

    image = cv2.resize(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5, (64, 48))
    data = cv2.imencode(".jpg", image)[1].tobytes()
    received = np.zeros(image.shape, np.uint8)
    with Device.open() as device, NvJpeg(device) as decoder, Stream(device) as stream:
        with DeviceBuffer(device, received.nbytes) as buffer:
            decoder.decode([data], [Target(buffer.pointer, received.strides[0])])
            download(stream, received, buffer.pointer)
            stream.sync()
        _expect(int(np.abs(received.astype(int) - read_image(data)).max()) <= 1, True)
        return {"nvjpeg": ".".join(map(str, decoder.version)), "device": device.name}


def rtx_plugin() -> dict[str, Any]:
    """Run a graph with NVIDIA's plugin for ONNX Runtime and compare its numbers."""
    from yoloship.cuda.device import Device
    from yoloship.runtime import RunOptions
    from yoloship.runtime.onnxruntime.rtx_plugin import PACKAGE, RtxPlugin

    RtxPlugin.check(None)
    with Device.open() as device, RtxPlugin.open_on(device, SMALL_ONNX, RunOptions()) as session:
        with session.as_host_session() as on_host:
            _compare(on_host, rtol=0)
        return {"plugin": _version(PACKAGE.replace("_", "-")), "device": device.name}


def cuda() -> dict[str, Any]:
    """Send numbers to the GPU and back."""
    from yoloship.cuda.buffers import DeviceBuffer, download, upload
    from yoloship.cuda.device import Device, probe
    from yoloship.cuda.stream import Stream

    found = probe()
    if found.problem is not None:
        raise found.problem
    sent, received = np.arange(256, dtype=np.float32), np.zeros(256, np.float32)
    with Device.open() as device, Stream(device) as stream, DeviceBuffer(device, sent.nbytes) as buffer:
        upload(stream, buffer.pointer, sent)
        download(stream, received, buffer.pointer)
        stream.sync()
        name = str(device)
    _expect(received.tolist(), sent.tolist())
    return {"device": name, "cuda-bindings": _version("cuda-bindings")}


def pillow() -> dict[str, Any]:
    """Make an image with Pillow."""
    image: Any = importlib.import_module("PIL.Image")
    _expect(image.new("RGB", (4, 2)).size, (4, 2))
    return {"pillow": _version("pillow")}


def heic() -> dict[str, Any]:
    """Write a HEIC image and read it as `detect` does, if this pillow-heif can write one."""
    from yoloship.images import read_image

    pillow_heif: Any = importlib.import_module("pillow_heif")
    written = io.BytesIO()
    if pillow_heif.libheif_info()["HEIF"]:
        pillow_heif.encode("RGB", (64, 48), bytes([200]) * (64 * 48 * 3), written)
        _expect(read_image(written.getvalue()).shape, (48, 64, 3))
    return {"pillow-heif": _version("pillow-heif")}


def video() -> dict[str, Any]:
    """Write a video with H.264 in it and read it as `predict` does."""
    from yoloship.sources.pyav_video import PyavVideo, load_av

    av = load_av("video")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(2):
            output.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(stream.encode(None))
    read = PyavVideo(file, "video")
    _expect([frame.error for frame in read.frames(lambda _: True)], [None, None])
    read.close()
    return {"av": _version("av")}


def parquet() -> dict[str, Any]:
    """Import what writes Parquet."""
    importlib.import_module("pyarrow.parquet")
    return {"pyarrow": _version("pyarrow")}


def serve() -> dict[str, Any]:
    """Import what the HTTP server is made of."""
    names = ("httptools", "starlette", "uvicorn", "prometheus_client", "python_multipart")
    for name in names:
        importlib.import_module(name)
    return {name.replace("_", "-"): _version(name.replace("_", "-")) for name in names}


def ray() -> dict[str, Any]:
    """Import what reads batches on a Ray cluster."""
    importlib.import_module("ray.data")
    return {"ray": _version("ray")}


def supervision() -> dict[str, Any]:
    """Import supervision."""
    importlib.import_module("supervision")
    return {"supervision": _version("supervision")}


def evaluate() -> dict[str, Any]:
    """Import what computes mAP."""
    importlib.import_module("hotcoco")
    importlib.import_module("pycocotools.cocoeval")  # for oriented boxes
    return {name: _version(name) for name in ("hotcoco", "pycocotools")}


TRIALS: Mapping[str, Callable[[], dict[str, Any]]] = MappingProxyType(
    {name: partial(runtime_trial, name) for name in RUNTIMES.own if "cpu" in RUNTIMES.load(name).devices}
    | {
        trial.__name__: trial
        for trial in (
            export,
            onnxruntime,
            opencv,
            quantize,
            build_tensorrt,
            build_rtx,
            run_tensorrt,
            run_rtx,
            run_lean,
            rtx_plugin,
            cuda,
            gpu_media,
            pillow,
            heic,
            video,
            parquet,
            serve,
            ray,
            supervision,
            evaluate,
        )
    }
)


def _run(runtime: str, precision: RuntimePrecision | None = None) -> None:
    from yoloship.runtime import RunOptions, open_session

    with open_session(SMALL_ONNX, RunOptions(precision), runtime=runtime) as session:
        _compare(session, rtol=0.01 if precision == "bfloat16" else 0)


def _build(name: FlavourName) -> dict[str, Any]:
    from yoloship.engine import build_engine, open_flavour

    flavour = open_flavour(name)
    with tempfile.TemporaryDirectory(prefix="yoloship-") as folder:
        path = Path(folder) / "small.onnx"
        path.write_bytes(SMALL_ONNX)
        built = build_engine(path, flavour=flavour)
    lacking = {feature: reason for feature, reason in flavour.features().items() if reason}
    return {"version": flavour.version, "plan_bytes": len(built.plan), "lacks": lacking}


def _execute(name: FlavourName) -> dict[str, Any]:
    from yoloship.cuda.device import Device, find_gpu
    from yoloship.engine import BuildConfig, build_engine, open_flavour, write_engine
    from yoloship.runtime.tensorrt import TensorRTSession

    is_lean = name == "lean"
    builder = open_flavour("tensorrt" if is_lean else name)
    flavour, gpu = open_flavour("lean", to_build=False) if is_lean else builder, find_gpu()
    if gpu is None:
        raise DoesNotWork("no NVIDIA driver, or no GPU")
    with tempfile.TemporaryDirectory(prefix="yoloship-") as folder:
        onnx, path = Path(folder) / "small.onnx", Path(folder) / "small.engine"
        onnx.write_bytes(SMALL_ONNX)
        built = build_engine(onnx, BuildConfig(version_compatible=is_lean), flavour=builder)
        write_engine(path, built, source_name=onnx.name, model=None)
        with Device.open() as device, TensorRTSession.open(path, device, flavour=flavour) as session:
            with session.as_host_session() as on_host:
                _compare(on_host, rtol=0)
            plan_bytes = path.stat().st_size
    return {"version": flavour.version, "device": gpu.name, "compute_capability": gpu.sm, "plan_bytes": plan_bytes}


def _compare(session: Session, rtol: float) -> None:
    """Run the small model on whole numbers, which every float type of a GPU holds exactly, and compare the sums."""
    image = np.arange(192, dtype=np.float32).reshape(1, 3, 8, 8) - 100
    (found,) = session.run({"x": image})
    wanted = np.maximum(image.sum(axis=1, keepdims=True), 0)
    near = found.shape == wanted.shape and np.allclose(found, wanted, rtol=rtol)
    _expect(wanted.tolist() if near else found.tolist(), wanted.tolist())


def _expect(found: object, expected: object) -> None:
    if found != expected:
        raise DoesNotWork(f"wrong result: expected {str(expected)[:80]}, got {str(found)[:80]}")


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of unknown version"


def main(name: str) -> None:
    """Run one trial and print its answer as a marked line of JSON."""
    facts: dict[str, Any] = {}
    problem = ""
    try:
        facts = TRIALS[name]()
    except Exception as error:  # whatever a broken library raises is what was asked for
        text = " ".join(str(error).split())[:300]
        problem = text if isinstance(error, DoesNotWork) or "yoloship" in type(error).__module__ else ""
        problem = problem or f"{type(error).__name__}: {text}"
    sys.stdout.write(f"\n{MARK}{json.dumps({'facts': facts, 'problem': problem})}\n")
