"""A real device for these tests, or a skip that says why there is none."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.device_sessions import QUICK, SIDES, is_stand_in, require_onnxruntime, small, stand_in_opener
from helpers.kept import compiled_kernels
from yoloship.cuda.buffers import DeviceBuffer, download, fill_words, upload
from yoloship.cuda.compiler import KERNELS, KernelSet
from yoloship.cuda.device import Device, probe
from yoloship.cuda.nvjpeg import NvJpeg
from yoloship.cuda.stream import Stream
from yoloship.errors import CudaError, DependencyError
from yoloship.runtime.onnxruntime.cuda import OnnxRuntimeCudaSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    import numpy.typing as npt

    from helpers.device_sessions import Open
    from helpers.nvdec_stand_in import StandInAv
    from helpers.nvjpeg_standin import StandInNvJpeg
    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.nvdec import Nvdec
    from yoloship.runtime.session import DeviceSession


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    problem = probe().problem
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.gpu)
            if problem is not None:
                item.add_marker(pytest.mark.skip(reason=f"no GPU here: {problem}"))


@pytest.fixture(scope="session")
def device() -> Iterator[Device]:
    with Device.open() as opened:
        yield opened


@pytest.fixture
def stream(device: Device) -> Iterator[Stream]:
    with Stream(device) as opened:
        yield opened


@pytest.fixture(scope="session")
def kernels(device: Device) -> Iterator[KernelSet]:
    with KernelSet(device, compiled_kernels()) as loaded:
        assert len(dict(loaded)) == len(KERNELS)  # loads all of them, so that what a test leaves behind can be counted
        yield loaded


class DeviceRig:
    """What `helpers.cuda_steps.Rig` asks for, on the real device."""

    def __init__(self, kernels: Mapping[str, Launchable], stream: Stream) -> None:
        self.kernels = kernels
        self.stream = stream
        self._buffers: list[DeviceBuffer] = []

    def put(self, array: npt.NDArray[Any]) -> int:
        address = self.empty(array.nbytes)
        upload(self.stream, address, np.ascontiguousarray(array))
        return address

    def empty(self, size_bytes: int) -> int:
        self._buffers.append(DeviceBuffer(self.stream.device, size_bytes))
        words = size_bytes // 4
        if words:
            fill_words(self.stream, self._buffers[-1].pointer, 0xCDCDCDCD, words)
        return self._buffers[-1].pointer

    def zero(self, address: int, words: int) -> None:
        fill_words(self.stream, address, 0, words)

    def get(self, address: int, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        target = np.empty(shape, dtype)
        download(self.stream, target, address)
        self.stream.sync()
        return target

    def close(self) -> None:
        self.stream.sync()
        for buffer in self._buffers:
            buffer.close()


@pytest.fixture
def rig(kernels: KernelSet, stream: Stream) -> Iterator[DeviceRig]:
    opened = DeviceRig(kernels, stream)
    yield opened
    opened.close()


def _imported(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's, while they are imported
        return pytest.importorskip(name)  # type: ignore[no-any-return]  # a module


@pytest.fixture(scope="session")
def torch() -> Any:
    module = _imported("torch")
    if not module.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    return module


@pytest.fixture(scope="session")
def cupy() -> Any:
    return _imported("cupy")


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


@pytest.fixture
def session(open_session: Open) -> Iterator[DeviceSession]:
    with open_session(small(), [{"images": SIDES}]) as opened:
        yield opened


@pytest.fixture(scope="module")
def nvjpeg_stand_in() -> StandInNvJpeg | None:
    """The stand-in for nvJPEG; None on a machine with the real one."""
    from helpers import nvjpeg_standin

    return nvjpeg_standin.install_if_on_the_path()


@pytest.fixture(scope="module")
def jpeg_problem(nvjpeg_stand_in: StandInNvJpeg | None, device: Device) -> str:
    """Why there is no engine; empty if there is one."""
    del nvjpeg_stand_in  # which must be there before it is opened
    try:
        NvJpeg(device).close()
    except (CudaError, DependencyError) as error:
        return str(error)
    return ""


@pytest.fixture
def jpeg_engine(nvjpeg_stand_in: StandInNvJpeg | None, jpeg_problem: str) -> Iterator[StandInNvJpeg | None]:
    """The stand-in, which also refuses files when it is told to; None for the engine itself."""
    if jpeg_problem:
        pytest.skip(f"no JPEG engine here: {jpeg_problem}")
    yield nvjpeg_stand_in
    if nvjpeg_stand_in is not None:
        nvjpeg_stand_in.fail(0)
        assert nvjpeg_stand_in.handles == 0


@pytest.fixture(params=["NVDEC", "stand-in"])
def nvdec_stand_in(request: pytest.FixtureRequest, device: Device, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """None for NVDEC itself; or the stand-in for PyAV, which also fails when it is told to, and runs on any device."""
    pytest.importorskip("av")
    if request.param == "NVDEC":
        if is_stand_in(device):
            pytest.skip("no GPU here that decodes")
        yield None
        return
    from helpers.nvdec_stand_in import StandInAv

    made = StandInAv(device)
    monkeypatch.setattr("yoloship.cuda.nvdec.load_av", lambda _name: made)
    yield made
    made.close()


@pytest.fixture
def nvdec(nvdec_stand_in: StandInAv | None, device: Device, kernels: KernelSet) -> Iterator[Nvdec]:
    from yoloship.cuda.nvdec import Nvdec

    before = device.usage()
    with Nvdec(device, kernels) as opened:
        yield opened
    gc.collect()
    assert device.usage() == before
    assert nvdec_stand_in is None or (nvdec_stand_in.open, nvdec_stand_in.frames) == (0, 0)
