from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from helpers.graphs import HW, kept_layers, ours
from yoloship.errors import GraphError
from yoloship.graph import graph_bytes
from yoloship.graph.onnx_file import read_metadata
from yoloship.graph.passes.quantize import layers, values_to_watch
from yoloship.precision.calibrate import calibrate
from yoloship.precision.sensitivity import Quantizer, rank, search
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

FEEDS = [{"images": np.random.default_rng(seed).random((1, 3, *HW), np.float32)} for seed in range(2)]


@pytest.fixture(scope="module")
def ranges() -> Mapping[str, float]:
    return calibrate(ours(), values_to_watch(layers(ours()), "inputs_and_outputs"), FEEDS, "minmax")


def run(model: onnx.ModelProto, feeds: Any = FEEDS) -> list[Any]:
    with OnnxRuntimeSession.open(graph_bytes(model)) as session:
        return [session.run(feed) for feed in feeds]


def test_a_search_keeps_the_fewest_most_sensitive_modules_within_the_budget(ranges: Mapping[str, float]) -> None:
    quantizer = Quantizer(ours(), ranges, "int8", "inputs", {})
    ranking = rank(quantizer, FEEDS[:1], run)
    errors = [one.error for one in ranking]
    assert errors == sorted(errors, reverse=True)
    assert len(ranking) == len({layer.module for layer in layers(ours())})
    needed = set(ranking[0].layers) | set(ranking[1].layers) | set(ranking[2].layers)
    asked = []

    def measure(model: onnx.ModelProto) -> float:
        kept = set(kept_layers(read_metadata(model)))
        asked.append(len(kept))
        return 0.0 if needed <= kept else 0.1

    found = search(quantizer, FEEDS[:1], run, measure, 0.005)
    assert found.kept == tuple(one.module for one in ranking[:3])
    assert (found.drop, found.full_drop, found.evaluations) == (0.0, 0.1, len(asked))
    assert len(asked) <= 1 + len(ranking).bit_length()


def test_a_search_that_finds_no_way_says_so(ranges: Mapping[str, float]) -> None:
    quantizer = Quantizer(ours(), ranges, "int8", "inputs", {})
    with pytest.raises(GraphError, match=r"cannot be int8 within the budget.*drop of at most 0.005, got 0.5000"):
        search(quantizer, FEEDS[:1], run, lambda _: 0.5, 0.005)
