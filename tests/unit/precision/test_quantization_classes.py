"""INT8 of classification models: what the budget is of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from helpers.resnets import classifier, resnet, resnet_arrays, resnet_module
from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.graph import GraphConfig, build_graph
from yoloship.precision.quantization import ClassLoss, QuantizeConfig, opener, quantize_with_images

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
        by_accuracy = ClassLoss(detector, paths, opened)
        by_agreement = ClassLoss(detector, [cv2.imread(str(path)) for path in paths], opened)
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


def test_a_classifier_is_quantized_without_boxes(tmp_path: Path) -> None:
    model = build_graph(resnet(), GraphConfig((64, 64), transform="yolov5"))
    images = [np.random.default_rng(seed).integers(0, 256, (70, 80, 3), np.uint8) for seed in range(4)]
    found = quantize_with_images(model, images, QuantizeConfig(max_drop=1, other_layers="float32"))
    assert found.is_measured
    with pytest.raises(InputError, match="labels: are boxes, which a classification model does not give"):
        quantize_with_images(model, images, QuantizeConfig(), truths=[Truth(np.zeros((0, 4)), np.zeros(0, int))] * 4)
