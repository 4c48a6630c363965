from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

from helpers.graphs import HW, ours, scaled
from yoloship.errors import GraphError, InputError
from yoloship.graph.passes.quantize import layers, values_to_watch
from yoloship.model import Calibrator
from yoloship.precision.calibrate import FEW_IMAGES, calibrate, survey
from yoloship.precision.lowering import in_precision
from yoloship.precision.quantization import QuantizeConfig

if TYPE_CHECKING:
    pass

RNG = np.random.default_rng(5)
IMAGES = [RNG.integers(0, 256, (*HW, 3), np.uint8) for _ in range(16)]
FAINT: dict[str, Any] = {"score_threshold": 0.001, "calibrator": "minmax"}
"""The generated network's weights are random, and its scores low."""


def test_images_that_teach_nothing_are_refused_or_told() -> None:
    model, config = ours("heads", "image"), QuantizeConfig(max_drop=1, other_layers="float32", **FAINT)
    black = [np.zeros((*HW, 3), np.uint8)] * 3
    with pytest.raises(InputError, match="calibration images: every image has a single colour"):
        in_precision(model, "int8", black, config=config)
    result = in_precision(model, "int8", [*IMAGES[:2], IMAGES[0], black[0]], config=config)
    assert result.warnings == (
        "only 3 distinct images among 4 calibration images: ranges found on so few may not hold in use",
        "1 of 4 calibration images have a single colour and are of no use",
        "with fewer than 16 images the loss is measured on the images that were used for calibration",
    )


def test_enough_images_are_told_only_of_their_copies() -> None:
    distinct = [RNG.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(FEW_IMAGES)]
    assert list(survey(distinct).warnings()) == []
    assert list(survey([*distinct, distinct[3]]).warnings()) == ["1 of 51 calibration images are copies of others"]


@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "entropy"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_is_broken_in_float32_is_refused_by_the_place(value: float, calibrator: Any) -> None:
    model = scaled({"model.2.cv1.conv.weight": value}, ours("heads", "image"))
    config = QuantizeConfig(max_drop=1, calibrator=calibrator, other_layers="float32")
    with pytest.raises(GraphError, match=r"not finite, even in float32: got NaN or infinity in model\.2\."):
        in_precision(model, "int8", IMAGES[:2], config=config)


def test_an_activation_that_overflows_on_one_image_alone_is_refused_by_every_calibrator() -> None:
    model = ours("heads", "image")
    names = values_to_watch(layers(model), "inputs")
    feeds = [{"images": IMAGES[0][None]}]
    wild = scaled({"model.0.conv.weight": np.float32(3e38)}, model)
    for calibrator in get_args(Calibrator):
        with pytest.raises(GraphError, match="an activation"):
            calibrate(wild, names, feeds, calibrator)
