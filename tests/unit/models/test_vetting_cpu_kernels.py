from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.cli import run
from helpers.graphs import ours
from yoloship.errors import SessionError
from yoloship.graph import graph_bytes
from yoloship.graph.passes.half import convert_precision
from yoloship.models.loading import load
from yoloship.models.vetting import explained, refusal
from yoloship.precision.lowering import in_precision

if TYPE_CHECKING:
    from pathlib import Path

REASON = (
    "computes in bfloat16, for which ONNX Runtime has no kernels on a CPU; use float32 or float16 on a CPU; "
    "'yoloship build' builds an engine from it, and 'yoloship verify' emulates it"
)


def test_bfloat16_on_a_cpu_is_refused_with_its_reason(tmp_path: Path) -> None:
    data = graph_bytes(convert_precision(ours("heads", "image"), "bfloat16"))
    path = tmp_path / "bf16.onnx"
    path.write_bytes(data)
    for model, name in ((path, str(path)), (data, "model in memory")):
        with pytest.raises(SessionError) as caught:
            load(model)
        assert str(caught.value) == f"{name}: {REASON}"


def test_every_command_says_so(tmp_path: Path) -> None:
    path = tmp_path / "bf16.onnx"
    path.write_bytes(graph_bytes(convert_precision(ours("heads", "image"), "bfloat16")))
    assert run("detect", path, path).error == f"{path}: {REASON}"
    assert run("bench", path, "--rounds", "1").err.endswith(f"error: {path}: {REASON}\n")


def test_other_refusals_stay_as_they_were(tmp_path: Path) -> None:
    other = SessionError("the runtime refuses it: no such operator", subject="x.onnx")
    assert explained(other, tmp_path / "none.onnx", "x.onnx") is other
    lacking = SessionError("the runtime refuses it: Could not find an implementation for Odd(1)", subject="x.onnx")
    assert explained(lacking, graph_bytes(ours()), "x.onnx") is lacking
    assert explained(lacking, b"no model", "x.onnx") is lacking
    assert refusal(ours(), "x.onnx") is None


def test_whoever_writes_bfloat16_learns_that_a_cpu_will_not_run_it() -> None:
    assert in_precision(ours(), "bfloat16").not_on_cpu == (
        "computes in bfloat16, for which ONNX Runtime has no kernels on a CPU"
    )
    assert in_precision(ours(), "float16").not_on_cpu is None
