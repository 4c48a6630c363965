from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from helpers.graphs import HW, ours
from yoloship.graph import graph_bytes
from yoloship.graph.passes.quantize import layers, values_to_watch
from yoloship.precision.calibrate import calibrate
from yoloship.precision.sensitivity import ending_at
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

FEEDS = [{"images": np.random.default_rng(seed).random((1, 3, *HW), np.float32)} for seed in range(2)]


@pytest.fixture(scope="module")
def ranges() -> Mapping[str, float]:
    return calibrate(ours(), values_to_watch(layers(ours()), "inputs_and_outputs"), FEEDS, "minmax")


def run(model: onnx.ModelProto, feeds: Any = FEEDS) -> list[Any]:
    with OnnxRuntimeSession.open(graph_bytes(model)) as session:
        return [session.run(feed) for feed in feeds]


def test_min_max_ranges_are_the_largest_values_that_a_run_shows(ranges: Mapping[str, float]) -> None:
    names = list(ranges)
    seen = np.max([[np.abs(value).max() for value in outputs] for outputs in run(ending_at(ours(), names))], axis=0)
    np.testing.assert_allclose([ranges[name] for name in names], seen, rtol=1e-5)


@pytest.mark.parametrize("calibrator", ["entropy", "percentile"])
def test_the_other_calibrators_cut_outliers_off_and_no_more(calibrator: Any, ranges: Mapping[str, float]) -> None:
    names = values_to_watch(layers(ours())[:6], "inputs")
    cut = calibrate(ours(), names, FEEDS, calibrator)
    for name in names:
        assert 0.05 * ranges[name] < cut[name] <= ranges[name] * 1.01
