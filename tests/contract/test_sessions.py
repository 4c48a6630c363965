"""One suite over every kind of session: what the pipeline may rely on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from _models import scale_and_shift
from yoloship.errors import InputError, SessionError
from yoloship.runtime import OnnxRuntimeSession, ScriptedSession, Session
from yoloship.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

METADATA = {"names": "{0: 'person'}", "note": "naïve ☂"}
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def _from_file(folder: Path) -> Session:
    path = folder / "model with a space.onnx"
    path.write_bytes(scale_and_shift(metadata=METADATA).SerializeToString())
    return OnnxRuntimeSession.open(path)


def _from_bytes(_: Path) -> Session:
    return OnnxRuntimeSession.open(scale_and_shift(metadata=METADATA).SerializeToString(), intra_op_threads=1)


def _scripted(_: Path) -> Session:
    def answer(feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.generic]]:
        return [feeds["x"] * np.float32(2) + np.float32(1)]

    specs = [TensorSpec(name, "float32", ("batch", 3)) for name in "xy"]
    return ScriptedSession(specs[:1], specs[1:], answer, metadata=METADATA)


@pytest.fixture(params=[_from_file, _from_bytes, _scripted])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Session]:
    make: Callable[[Path], Session] = request.param
    with make(tmp_path) as opened:
        yield opened


def test_it_has_all_that_the_protocol_names(session: Session) -> None:
    assert isinstance(session, Session)
    assert session.name


def test_it_tells_its_inputs_and_outputs(session: Session) -> None:
    assert session.inputs == (TensorSpec("x", "float32", ("batch", 3)),)
    assert session.outputs == (TensorSpec("y", "float32", ("batch", 3)),)


def test_it_hands_out_the_metadata_of_the_file(session: Session) -> None:
    assert dict(session.metadata) == METADATA


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
