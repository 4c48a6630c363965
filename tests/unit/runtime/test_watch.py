"""Runs of foreign files end: by themselves, after their time, or with Ctrl-C."""

from __future__ import annotations

import _thread
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from helpers.models import model, scale_and_shift
from yoloship.errors import SessionError
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.runtime.watch import watched

X = np.ones((1, 3), np.float32)


def endless() -> bytes:
    """Adds for 2^62 rounds."""
    inside = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Add", ["state", "state"], ["next"])],
        "inside",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    made: onnx.ModelProto = model(
        [helper.make_node("Loop", ["trips", "true", "x"], ["y"], body=inside)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        {"trips": np.array(1 << 62, np.int64), "true": np.array(True)},
    )
    data: bytes = made.SerializeToString()
    return data


@pytest.mark.timeout(60)
def test_a_run_that_takes_too_long_is_ended_and_the_session_still_works() -> None:
    with OnnxRuntimeSession.open(endless(), subject="x.onnx", limit_s=0.3) as session:
        for _ in range(2):
            with pytest.raises(SessionError, match=r"x\.onnx: the run took too long and was ended"):
                session.run({"x": X})


@pytest.mark.timeout(60)
def test_ctrl_c_is_heard_while_the_runtime_works() -> None:
    with OnnxRuntimeSession.open(endless(), limit_s=3600) as session:
        timer = threading.Timer(0.3, _thread.interrupt_main)
        with pytest.raises(KeyboardInterrupt):
            timer.start()  # on a busy machine, the interrupt may come before the run begins
            session.run({"x": X})
        timer.join()
    while any(thread.name == "yoloship-run" for thread in threading.enumerate()):
        pass  # it has been told to end, and ends; else the test's limit does


def test_a_watched_session_gives_what_an_unwatched_one_gives() -> None:
    data = scale_and_shift().SerializeToString()
    with OnnxRuntimeSession.open(data, limit_s=60) as one, OnnxRuntimeSession.open(data) as other:
        np.testing.assert_array_equal(one.run({"x": X})[0], other.run({"x": X})[0])


def test_what_a_watched_call_raises_is_raised_by_the_caller() -> None:
    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        watched(fails, lambda: None, 60, "x")
    assert watched(lambda: 7, lambda: None, 60, "x") == 7


def test_a_call_that_had_not_begun_when_it_was_asked_to_end_is_asked_again() -> None:
    asked, ended = [0], threading.Event()

    def stop() -> None:
        asked[0] += 1
        if asked[0] == 3:
            ended.set()

    with pytest.raises(SessionError, match="the run took too long and was ended"):
        watched(ended.wait, stop, 0.01, "x")
    assert ended.is_set()
