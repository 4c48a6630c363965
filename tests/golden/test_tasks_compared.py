"""A real checkpoint of each task against itself in float16 and INT8: what is compared, and how far off is it?"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.families import FOLDER, checkpoint
from helpers.shared import PHOTOS, require
from yoloship.detect.detector import Detector
from yoloship.evaluate.verification import verify
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.passes.half import emulate
from yoloship.images import read_image
from yoloship.precision.lowering import in_precision
from yoloship.precision.quantization import QuantizeConfig
from yoloship.runtime import open_session

if TYPE_CHECKING:
    from yoloship.evaluate.verification import Verification

HW = (192, 192)
MODELS = {
    "detect": ("v8-detect", ()),
    "segment": ("y5-seg", ("box IoU",)),
    "pose": ("v8-pose-kpt5x2", ("keypoint distance", "box IoU")),
    "obb": ("v8-obb", ("difference of centres", "difference of sides", "difference of angles")),
    "classify": ("v8-cls", ("probability difference",)),
}


@cache
def photos() -> tuple[Any, ...]:
    return tuple(read_image(path) for path in sorted(require(PHOTOS).glob("*.jpg"))[:2])


def detector(model: Any) -> Detector[Any]:
    return Detector(open_session(graph_bytes(model)))


@cache
def graph(task: str) -> Any:
    found = checkpoint(FOLDER / f"{MODELS[task][0]}.pt")
    assert found.task == task
    return build_graph(found, GraphConfig(HW, input_form="image"))


def against_float32(task: str, precision: Any) -> tuple[Verification, str]:
    config = QuantizeConfig(calibrator="minmax", max_drop=1, other_layers="float32") if precision == "int8" else None
    lowered = in_precision(graph(task), precision, photos(), config=config)
    with detector(graph(task)) as right, detector(emulate(lowered.model)) as judged:
        return verify(("a", right), ("b", judged), photos()), lowered.words


@pytest.mark.parametrize("task", MODELS)
def test_float16_is_closer_to_float32_than_int8_by_the_measure_of_the_task(task: str) -> None:
    half, _ = against_float32(task, "float16")
    quantized, words = against_float32(task, "int8")
    assert half.task == task
    assert tuple(detail.name for detail in half.details) == MODELS[task][1]
    assert half.agreement.share >= 0.85
    assert half.agreement.share >= quantized.agreement.share
    assert words.startswith("int8 in ")
    assert half.measure.agreed in words
    if task == "classify":
        assert half.details[0].mean < quantized.details[0].mean
        assert half.passed
        return
    assert np.mean(half.ious) > 0.95
    assert np.mean(half.ious) > np.mean(quantized.ious) or not quantized.ious
    score, lower = (np.abs(np.diff(found.scores, axis=1)).mean() for found in (half, quantized))
    assert score < lower
