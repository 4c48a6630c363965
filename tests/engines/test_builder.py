"""Real builds through TensorRT-RTX, on machines without a GPU."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from helpers.networks import built_or_refused, float_network, half_network, quantized_network
from yoloship.engine import BuildConfig, Flavour, InputProfile, Range, build_engine, read_engine, write_engine
from yoloship.engine.file import read_header, sidecar_path
from yoloship.errors import EngineError
from yoloship.model import ModelInfo, TensorSpec

Save = Callable[[onnx.ModelProto], Path]
INFO = ModelInfo("detect", "yolov5", ("a",), (8, 16, 32), (), "float", "raw", (32, 32), 1)


def said_in_the_header(flavour: Flavour) -> str | None:
    """The version that a plan names; TensorRT's own plans do so at an unknown place."""
    return flavour.version if flavour.name == "rtx" else None


def test_a_float32_network_becomes_a_plan_that_says_what_it_is(flavour: Flavour, saved: Save) -> None:
    built = build_engine(saved(float_network()), flavour=flavour, info=INFO)
    assert (built.flavour, built.version) == (flavour.name, flavour.version)
    assert built.inputs == (TensorSpec("images", "float32", (1, 3, 32, 32)),)
    assert built.outputs == (TensorSpec("output0", "float32", (1, 8, 32, 32)),)
    assert built.dtypes == frozenset({"float32"})
    assert (built.profiles, built.warnings) == ((), ())
    assert read_header(memoryview(built.plan), subject="plan").version == said_in_the_header(flavour)


def test_a_static_network_gives_the_same_bytes_again(flavour: Flavour, saved: Save) -> None:
    path = saved(float_network())
    assert build_engine(path, flavour=flavour).plan == build_engine(path, flavour=flavour).plan


def test_dynamic_batch_and_size_are_built_with_their_profile(flavour: Flavour, saved: Save) -> None:
    config = BuildConfig(batch=Range(1, 2, 4), height=Range(32, 64, 96), width=Range(32, 32, 32))
    built = build_engine(saved(float_network(batch="batch", side_hw=("height", "width"))), config, flavour=flavour)
    assert built.inputs[0].shape == ("batch", 3, "height", "width")
    assert built.profiles == (InputProfile("images", (1, 3, 32, 32), (2, 3, 64, 32), (4, 3, 96, 32)),)


@pytest.mark.parametrize(
    ("model", "precision", "dtype"),
    [
        (half_network(TensorProto.FLOAT16), "float16", "float16"),
        (half_network(TensorProto.BFLOAT16), "bfloat16", "bfloat16"),
        (quantized_network(TensorProto.INT8), "int8", "int8"),
        (quantized_network(TensorProto.FLOAT8E4M3FN), "float8", "float8_e4m3fn"),
    ],
)
def test_precision_comes_from_the_graph(
    flavour: Flavour, saved: Save, model: onnx.ModelProto, precision: str, dtype: str
) -> None:
    info = replace(INFO, precision=precision)  # type: ignore[arg-type]
    with built_or_refused(precision):
        built = build_engine(saved(model), flavour=flavour, info=info)
        assert dtype in built.dtypes


def test_a_graph_without_the_precision_that_it_claims_is_refused(flavour: Flavour, saved: Save) -> None:
    path = saved(float_network())
    with pytest.raises(EngineError) as caught:
        build_engine(path, flavour=flavour, info=replace(INFO, precision="float16"))
    assert str(caught.value) == (
        f"{path}: claims float16, but its graph has no tensor of that type: expected float16, got float32; "
        "export it again with the precision that you want"
    )


@pytest.mark.only_rtx
def test_targets_change_the_plan(flavour: Flavour, saved: Save) -> None:
    path = saved(float_network())
    plans = {
        build_engine(path, BuildConfig(targets=targets), flavour=flavour).plan
        for targets in ((), ("sm75",), ("sm89", "sm120"))
    }
    assert len(plans) == 3


@pytest.mark.only_rtx
def test_naming_the_portable_target_is_the_same_as_naming_none(flavour: Flavour, saved: Save) -> None:
    path = saved(float_network())
    assert build_engine(path, BuildConfig(targets=("portable",)), flavour=flavour).plan == build_engine(path).plan


def test_progress_runs_from_nothing_to_all_and_never_back(flavour: Flavour, saved: Save) -> None:
    steps: list[tuple[str, float, float]] = []
    build_engine(saved(float_network()), flavour=flavour, on_progress=lambda *step: steps.append(step))
    shares = [done for _, done, _ in steps]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert {total for _, _, total in steps} == {1}
    assert len({what for what, _, _ in steps}) > 1
    assert all(what.startswith(f"{flavour.title}: ") for what, _, _ in steps)


def test_what_a_progress_callback_raises_cancels_the_build(flavour: Flavour, saved: Save) -> None:
    seen = 0

    def refuse(what: str, done: float, total: float) -> None:
        nonlocal seen
        seen += 1
        if done > 0.3:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        build_engine(saved(float_network()), flavour=flavour, on_progress=refuse)
    assert 0 < seen < 60


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself Ctrl-C there")
def test_an_interrupt_ends_the_build_and_gives_the_handler_back(flavour: Flavour, saved: Save) -> None:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sent = False

    def interrupt(what: str, done: float, total: float) -> None:
        nonlocal sent
        if done > 0.3 and not sent:
            sent = True
            os.kill(os.getpid(), signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            build_engine(saved(float_network()), flavour=flavour, on_progress=interrupt)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself this signal there")
def test_a_request_to_end_is_not_lost_during_a_build(flavour: Flavour, saved: Save) -> None:
    """What a handler raises while TensorRT calls back is swallowed by TensorRT."""

    class Asked(BaseException):
        pass

    def ask(number: int, _: object) -> None:
        raise Asked

    def send(what: str, done: float, total: float) -> None:
        if done > 0.3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, ask)
    try:
        with pytest.raises(Asked):
            build_engine(saved(float_network()), flavour=flavour, on_progress=send)
        assert signal.getsignal(signal.SIGTERM) is ask
    finally:
        signal.signal(signal.SIGTERM, before)


def test_two_threads_may_build_at_once(flavour: Flavour, saved: Save) -> None:
    path, plans = saved(float_network()), []

    def work() -> None:
        plans.append(build_engine(path, flavour=flavour).plan)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(plans) == 2
    assert plans[0] == plans[1]


@pytest.mark.only_rtx
def test_a_build_after_a_failed_one_has_its_own_errors_and_succeeds(flavour: Flavour, saved: Save) -> None:
    path = saved(float_network())
    with pytest.raises(EngineError):
        build_engine(path, BuildConfig(workspace_bytes=1 << 20), flavour=flavour)
    assert build_engine(path, flavour=flavour).warnings == ()


@pytest.mark.only_rtx
def test_a_workspace_that_is_too_small_says_so(flavour: Flavour, saved: Save) -> None:
    with pytest.raises(EngineError) as caught:
        build_engine(saved(float_network()), BuildConfig(workspace_bytes=1 << 20), flavour=flavour)
    assert re.search(r"TensorRT could not build it: .*no tactics.*within workspace limit", str(caught.value))
    assert str(caught.value).endswith("; give it a larger workspace (--workspace), or leave that to TensorRT")


def test_an_engine_is_a_plain_plan_and_a_sidecar(flavour: Flavour, tmp_path: Path) -> None:
    onnx = tmp_path / "best.onnx"
    onnx.write_bytes(float_network(batch="batch").SerializeToString())
    built = build_engine(onnx, BuildConfig(batch=Range(1, 2, 4)), flavour=flavour)
    path = tmp_path / "best.engine"
    record = write_engine(path, built, source_name="best.onnx", model=INFO)
    assert path.read_bytes() == built.plan
    assert sidecar_path(path) == tmp_path / "best.engine.json"
    engine = read_engine(path)
    assert (engine.record, engine.info, bytes(engine.plan)) == (record, INFO, built.plan)
    assert engine.header.version == said_in_the_header(flavour)
