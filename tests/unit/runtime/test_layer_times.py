"""How runs of TensorRT's profiler become the times of layers. tests/gpu/test_layer_times.py measures an engine."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yoloship.engine import InputProfile
from yoloship.engine.inspect import LoadedLayer
from yoloship.errors import InputError
from yoloship.model import TensorSpec
from yoloship.runtime.layer_times import layer_times, summed, tuned_shape

LAYERS = (LoadedLayer("conv", "CaskConvolution", "FP32", "Half"), LoadedLayer("cast", "Reformat", "FP16"))


def test_the_median_of_each_layer_counts_and_the_slowest_comes_first() -> None:
    runs = ((("cast", 1.0), ("conv", 2.0)), (("cast", 1.0), ("conv", 9.0)), (("cast", 4.0), ("conv", 4.0)))
    times = summed(runs, LAYERS, {"images": (1, 3, 8, 8)}, "GPU")
    assert [(layer.name, layer.ms, layer.kind, layer.precision) for layer in times.layers] == [
        ("conv", 4.0, "CaskConvolution", "Half"),
        ("cast", 1.0, "Reformat", "FP16"),
    ]
    assert (times.total_ms, times.runs) == (5.0, 3)
    assert [layer.share for layer in times.layers] == [0.8, 0.2]
    assert json.loads(json.dumps(times.to_dict()))["layers"][0]["name"] == "conv"


def test_what_is_reported_twice_in_a_run_is_added_and_what_is_missing_took_no_time() -> None:
    times = summed(((("a", 1.0), ("a", 2.0)), (("a", 3.0), ("b", 2.0))), (), {}, "GPU")
    assert {layer.name: layer.ms for layer in times.layers} == {"a": 3.0, "b": 1.0}
    assert times.layers[0].precision == ""


def test_times_of_nothing_are_no_division_by_nothing() -> None:
    assert summed(((("a", 0.0),),), (), {}, "GPU").layers[0].share == 0.0


def test_a_dynamic_input_has_the_shape_that_its_profile_is_tuned_for() -> None:
    profile = (InputProfile("images", (1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8)),)
    session: Any = SimpleNamespace(profiles=(profile,))
    assert tuned_shape(TensorSpec("images", "float32", ("batch", 3, 8, 8)), session) == (4, 3, 8, 8)
    assert tuned_shape(TensorSpec("sizes", "int64", (1, 2)), session) == (1, 2)


def test_no_runs_are_refused_before_anything_is_opened() -> None:
    with pytest.raises(InputError, match="runs: out of range: expected 1 or more, got 0"):
        layer_times(Path("none.engine"), runs=0)
