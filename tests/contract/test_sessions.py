"""One suite over every kind of session: what the pipeline may rely on."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from helpers.models import scale_and_shift
from yoloship.cuda.device import Device, probe
from yoloship.errors import InputError, SessionError
from yoloship.model import METADATA_KEY, ModelInfo, TensorSpec
from yoloship.runtime import RUNTIMES, RunOptions, Session
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.runtime.onnxruntime.cuda import PROVIDER, OnnxRuntimeCudaSession
from yoloship.runtime.scripted import ScriptedDeviceSession, ScriptedSession
from yoloship.runtime.session import DeviceSession
from yoloship.runtime.tensorrt import TensorRTSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

METADATA = {"names": "{0: 'person'}", "note": "naïve ☂"}
INFO = ModelInfo("detect", "yolov5", ("person",), (8, 16, 32), (), "float", "raw", (640, 640), 1)
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def _from_file(folder: Path) -> Session:
    path = folder / "model with a space.onnx"
    path.write_bytes(scale_and_shift(metadata=METADATA).SerializeToString())
    return OnnxRuntimeSession.open(path)


def _from_bytes(_: Path) -> Session:
    return OnnxRuntimeSession.open(scale_and_shift(metadata=METADATA).SerializeToString(), intra_op_threads=1)


def _of_the_table(name: str) -> Callable[[Path], Session]:
    """What a runtime of the table opens on the CPU."""

    def opened(_: Path) -> Session:
        return RUNTIMES.load(name).open(scale_and_shift(metadata=METADATA).SerializeToString(), RunOptions())

    opened.__name__ = name
    return opened


def _scripted(_: Path) -> Session:
    def answer(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.generic]]:
        return [feeds["x"] * np.float32(2) + np.float32(1)]

    specs = [TensorSpec(name, "float32", ("batch", 3)) for name in "xy"]
    return ScriptedSession(specs[:1], specs[1:], answer, metadata=METADATA)


def _on_host(session: DeviceSession) -> Session:
    """Closes the session and its device as well."""
    owned = ExitStack()
    owned.enter_context(session.device)
    owned.enter_context(session)
    return session.as_host_session(owned)


def _onnxruntime_cuda(_: Path) -> Session:
    data = scale_and_shift(metadata=METADATA).SerializeToString()
    return _on_host(OnnxRuntimeCudaSession.open(data, Device.open()))


def _tensorrt_stand_in(folder: Path) -> Session:
    from helpers import tensorrt_standin as standin

    profiles = [{"x": [(1, 3), (2, 3), (8, 3)]}]
    path = standin.write_plan(folder / "a.engine", scale_and_shift(), profiles, info=INFO)
    return _on_host(TensorRTSession.open(path, Device.open(), flavour=standin.flavour()))


def _scripted_device(_: Path) -> Session:
    specs = [TensorSpec(name, "float32", ("batch", 3)) for name in "xy"]
    return _on_host(
        ScriptedDeviceSession(
            Device.open(), specs[:1], specs[1:], lambda feeds: [feeds["x"] * np.float32(2) + 1], metadata=METADATA
        )
    )


def _kinds() -> list[Callable[[Path], Session]]:
    """Those that can run here: a machine without a GPU runs what needs none, and the others over a stand-in driver."""
    kinds: list[Callable[[Path], Session]] = [_from_file, _from_bytes, _scripted]
    for name in RUNTIMES.own:
        runtime = RUNTIMES.load(name)
        if "cpu" in runtime.devices and runtime.is_installed():
            kinds.append(_of_the_table(name))
    if probe().problem is not None:
        return kinds
    with Device.open() as device:
        is_real = not device.name.startswith("stand-in")
    kinds.append(_scripted_device)
    if not is_real or importlib.util.find_spec("torch") is not None:
        kinds.append(_tensorrt_stand_in)
    if is_real and PROVIDER in onnxruntime.get_available_providers():
        kinds.append(_onnxruntime_cuda)
    return kinds


@pytest.fixture(params=_kinds())
def session(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    make: Callable[[Path], Session] = request.param
    with make(tmp_path) as opened:
        yield opened


def test_it_is_a_session_with_a_name(session: Session) -> None:
    assert isinstance(session, Session)
    assert session.name
    assert session.concurrent_runs >= 1
    assert session.reason == ""


def test_it_tells_its_inputs_and_outputs(session: Session) -> None:
    assert session.inputs == (TensorSpec("x", "float32", ("batch", 3)),)
    assert session.outputs == (TensorSpec("y", "float32", ("batch", 3)),)


def test_it_hands_out_the_metadata_of_the_file(session: Session) -> None:
    engine_metadata = {METADATA_KEY: INFO.to_json()}  # all that an engine's sidecar holds
    assert dict(session.metadata) == (engine_metadata if "tensorrt" in session.name else METADATA)


def test_it_runs(session: Session) -> None:
    (y,) = session.run({"x": X})
    np.testing.assert_array_equal(y, X * 2 + 1)


def test_a_dynamic_axis_takes_any_extent(session: Session) -> None:
    for batch in (1, 5, 2):
        (y,) = session.run({"x": np.ones((batch, 3), np.float32)})
        assert y.shape == (batch, 3)


def test_the_caller_owns_the_outputs(session: Session) -> None:
    (first,) = session.run({"x": X})
    first[:] = np.float32(99)
    (second,) = session.run({"x": X})
    np.testing.assert_array_equal(second, X * 2 + 1)


def test_the_feeds_are_read_only(session: Session) -> None:
    x = X.copy()
    x.flags.writeable = False
    session.run({"x": x})
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, "the feeds are not the model's inputs: expected x, got none"),
        ({"x": X, "z": X}, "expected x, got x, z"),
        ({"z": X}, "expected x, got z"),
        ({"x": X.astype(np.float64)}, "x: wrong element type: expected float32, got float64"),
        ({"x": X[:, :2].copy()}, r"x: wrong shape: expected \(batch, 3\), got \(2, 2\)"),
        ({"x": X[0]}, r"x: wrong shape: expected \(batch, 3\), got \(3,\)"),
        ({"x": np.asfortranarray(X)}, "x: array is not C-contiguous"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(
    session: Session, feeds: dict[str, npt.NDArray[np.generic]], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        session.run(feeds)


def test_many_threads_get_their_own_answers(session: Session) -> None:
    def ask(value: int) -> bool:
        x = np.full((2, 3), value, np.float32)
        return bool((session.run({"x": x})[0] == x * 2 + 1).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))


def test_a_closed_one_refuses_to_run(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(SessionError, match="closed"):
        session.run({"x": X})


def test_leaving_the_context_closes_it(session: Session) -> None:
    with session:
        session.run({"x": X})
    with pytest.raises(SessionError, match="closed"):
        session.run({"x": X})
