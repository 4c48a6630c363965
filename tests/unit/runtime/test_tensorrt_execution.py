"""The three forms of a refusal of TensorRT, each an error with the reason. tests/gpu has them over the stand-in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from helpers import tensorrt_standin as standin
from yoloship.errors import SessionError
from yoloship.model import TensorSpec
from yoloship.runtime.session import DeviceTensor
from yoloship.runtime.tensorrt_execution import Execution

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.cuda.stream import Stream

OUTPUT = (TensorSpec("output0", "float32", ("batch",)),)


def stream(*, recording: bool = False) -> Stream:
    made = SimpleNamespace(
        address=7, sync=lambda: None, is_recording=lambda: recording, is_idle=lambda: True, device=SimpleNamespace()
    )
    return cast("Stream", made)


def run_of(**members: Any) -> Execution:
    usual: dict[str, Any] = {
        "active_optimization_profile": 0,
        "set_input_shape": lambda _name, _shape: True,
        "get_tensor_shape": lambda _name: standin.Dims((2,)),
    }
    return Execution(SimpleNamespace(**{**usual, **members}), standin.flavour(), stream(), "a.engine")


def raising(text: str) -> Callable[..., Any]:
    def refuse(*_: object) -> None:
        raise RuntimeError(text)

    return refuse


def test_a_shape_that_is_refused_or_missing_is_an_error() -> None:
    assert run_of().set_shapes({"images": (2,)}, OUTPUT) == {"output0": (2,)}
    with pytest.raises(SessionError, match=r"a\.engine: TensorRT refuses \(2,\) for 'images': no reason given"):
        run_of(set_input_shape=lambda *_: False).set_shapes({"images": (2,)}, OUTPUT)
    with pytest.raises(SessionError, match=r"TensorRT refuses .* for 'images': invalid tensor name"):
        run_of(set_input_shape=raising("invalid tensor name.")).set_shapes({"images": (2,)}, OUTPUT)


def test_an_output_without_a_known_shape_is_an_error() -> None:
    with pytest.raises(SessionError, match="cannot infer the shape of 'output0' from those of the inputs"):
        run_of(get_tensor_shape=lambda _: standin.UnknownDims()).set_shapes({}, OUTPUT)
    with pytest.raises(SessionError, match="the shape of 'output0' depends on the data"):
        run_of(get_tensor_shape=lambda _: standin.Dims((-1,))).set_shapes({}, OUTPUT)
    with pytest.raises(SessionError, match="TensorRT does not know 'output0': invalid tensor name"):
        run_of(get_tensor_shape=raising("invalid tensor name")).set_shapes({}, OUTPUT)


def test_an_address_that_is_refused_is_an_error() -> None:
    tensor = DeviceTensor("images", "float32", (2,), 255)
    with pytest.raises(SessionError, match="TensorRT refuses the address of 'images'"):
        run_of(set_tensor_address=lambda *_: False).set_addresses([tensor])


def test_a_run_that_raises_is_an_error_like_one_that_says_false() -> None:
    for how in (lambda _: False, raising("enqueue failed")):
        run = run_of(execute_async_v3=how)
        run.sound = True
        with pytest.raises(SessionError, match=r"TensorRT failed: (no reason given|enqueue failed)"):
            run.queue()
        assert not run.sound


def test_what_cannot_be_asked_counts_as_recordable() -> None:
    assert run_of().is_recordable()
    assert not run_of(is_stream_capturable=lambda _: False).is_recordable()
