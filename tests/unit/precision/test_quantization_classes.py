"""INT8 of classification models: what the budget is of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from helpers.resnets import classifier, resnet, resnet_arrays, resnet_module
from yoloship.errors import InputError
from yoloship.evaluate.labels import truths_in_folders
from yoloship.graph import GraphConfig, build_graph
from yoloship.precision.lowering import in_precision
from yoloship.precision.quantization import Disagreement, PrecisionLoss, QuantizeConfig, opener

if TYPE_CHECKING:
    from pathlib import Path


def test_a_classifier_is_held_to_its_accuracy_in_folders_of_class_names(tmp_path: Path) -> None:
    network = resnet()
    model = build_graph(network, GraphConfig((64, 64), transform="yolov5"))
    paths = []
    for place in range(6):
        paths.append(tmp_path / f"c{place % 3}" / f"{place}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        cv2.imwrite(str(paths[-1]), np.random.default_rng(place).integers(0, 256, (70, 80, 3), np.uint8))
    opened = opener(None)
    with opened(model) as detector:
        right = [detector(path).class_id == place % 3 for place, path in enumerate(paths)]
        truths = truths_in_folders(paths, detector.class_names)
        assert truths is not None
        by_accuracy = PrecisionLoss(detector, paths, truths, QuantizeConfig(max_drop=1), opened)
        by_agreement = Disagreement(detector, paths, QuantizeConfig(), opened)
    assert (by_accuracy(model), by_agreement(model)) == (0, 0)
    arrays = resnet_arrays()
    other = build_graph(
        classifier(
            resnet_module({**arrays, "fc.weight": -arrays["fc.weight"], "fc.bias": -arrays["fc.bias"]}),
            network.class_names,
        ),
        GraphConfig((64, 64), transform="yolov5"),
    )
    assert by_agreement(other) == 1
    assert by_accuracy(other) <= sum(right) / len(right)


def test_the_summary_says_what_a_classifier_lost(tmp_path: Path) -> None:
    model = build_graph(resnet(), GraphConfig((64, 64), transform="yolov5"))
    images = [np.random.default_rng(seed).integers(0, 256, (70, 80, 3), np.uint8) for seed in range(4)]
    config = QuantizeConfig(max_drop=1, other_layers="float32")
    assert re.search(
        r"; the most probable class is that of float32 on \d+\.0% of the images$",
        in_precision(model, "int8", images, config=config).words,
    )
    paths = [tmp_path / f"c{place % 3}" / f"{place}.png" for place in range(4)]
    for path, image in zip(paths, images, strict=True):
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image)
    words = in_precision(model, "int8", paths, config=config).words
    assert re.search(r"; (top-1 accuracy is \d\.\d{4} (below|above) float32's|float32 finds nothing)", words), words


def test_half_precision_needs_no_transform_and_images_need_one() -> None:
    model = build_graph(resnet(), GraphConfig((64, 64), transform="none"))
    assert in_precision(model, "float16").words == "float16"
    image = np.zeros((70, 80, 3), np.uint8)
    with pytest.raises(InputError, match="does not say how images become its input"):
        in_precision(model, "float16", [image])
