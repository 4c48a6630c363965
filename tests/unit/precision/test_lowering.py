from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.graphs import HW, ours
from yoloship.detect.options import DetectOptions
from yoloship.errors import GraphError, SessionError
from yoloship.evaluate.coco import Truth
from yoloship.graph.passes.half import convert_precision
from yoloship.graph.passes.quantize import layers, quantize, values_to_watch
from yoloship.precision.lowering import in_precision, quantized_share
from yoloship.precision.quantization import QuantizeConfig, opener

if TYPE_CHECKING:
    pass

RNG = np.random.default_rng(5)
IMAGES = [RNG.integers(0, 256, (*HW, 3), np.uint8) for _ in range(16)]
FAINT: dict[str, Any] = {"score_threshold": 0.001, "calibrator": "minmax"}
"""The generated network's weights are random, and its scores low."""


def truths() -> list[Truth]:
    with opener(None)(ours("heads", "image")) as detector:
        found = [detector(image, options=DetectOptions(score_threshold=0.002)) for image in IMAGES]
    return [Truth(one.boxes_xyxy[:3], one.class_ids[:3]) for one in found]


def test_labels_of_few_images_are_told() -> None:
    pytest.importorskip("pycocotools")
    nothing = Truth(np.empty((0, 4)), np.empty(0, int))
    some = [*truths()[:4], *[nothing] * 12]
    config = QuantizeConfig(max_drop=1, other_layers="float32", **FAINT)
    warnings = in_precision(ours("heads", "image"), "int8", IMAGES, config=config, truths=some).warnings
    assert warnings[1] == "12 of 16 images have no label, and count as images without objects"


def test_a_runtime_that_cannot_run_the_result_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: Any, feeds: Any) -> Any:
        raise SessionError("the runtime refuses it", subject="graph")

    monkeypatch.setattr("yoloship.precision.lowering.run_model", refuse)
    config = QuantizeConfig(max_drop=1, other_layers="float32", **FAINT)
    result = in_precision(ours("heads", "image"), "int8", IMAGES[:2], config=config)
    assert result.not_on_cpu == "the runtime refuses it"


@pytest.mark.parametrize("keep", [0, 20, 57])
def test_the_share_that_is_quantized_is_counted_in_the_graph_itself(keep: int) -> None:
    model = ours("heads", "image")
    every = layers(model)
    ranges = dict.fromkeys(values_to_watch(every, "inputs"), 1.0)
    share = quantized_share(quantize(model, ranges, keep=[layer.name for layer in every[:keep]]))
    assert (share.quantized, share.layers) == (57 - keep, 60)
    full = quantized_share(quantize(model, ranges)).arithmetic
    assert share.arithmetic is not None
    assert full is not None
    assert share.arithmetic == (0 if keep == 57 else pytest.approx(full, abs=0.01) if not keep else share.arithmetic)
    assert 0 <= share.arithmetic <= full < 1
    assert str(share) == f"{57 - keep} of 60 convolutions, {share.arithmetic:.0%} of the arithmetic"


def test_a_graph_in_lower_precision_is_not_lowered_again() -> None:
    config = QuantizeConfig(max_drop=1, other_layers="float32", **FAINT)
    quantized = in_precision(ours("heads", "image"), "int8", IMAGES[:2], config=config).model
    brain = convert_precision(ours("heads", "image"), "bfloat16")
    for model, got in ((quantized, "int8"), (brain, "bfloat16")):
        for precision in ("int8", "float16"):
            with pytest.raises(GraphError, match=f"is in lower precision already: expected a float32 graph, got {got}"):
                in_precision(model, precision, IMAGES[:2])


def test_a_budget_that_leaves_next_to_nothing_quantized_is_told() -> None:
    config = QuantizeConfig(max_drop=0, other_layers="float32", **FAINT)
    result = in_precision(ours("heads", "image"), "int8", IMAGES[:2], config=config, truths=None)
    assert any("of the arithmetic could be int8 within the budget" in warning for warning in result.warnings)
    assert " more" in result.words
