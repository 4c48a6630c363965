"""All figures of a model that finds objects, together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from helpers.validated import BOX, FAR, NAMES, OTHER, dataset, found, sample
from yoloship.datasets.dataset import Fault
from yoloship.errors import InputError
from yoloship.validate.choices import ValOptions
from yoloship.validate.objects import judge_objects, truth_of

SAMPLES = [sample("a.jpg", [BOX, OTHER], [0, 1]), sample("b.jpg", [FAR], [0]), sample("c.jpg", [], [])]
FOUND = [
    found([BOX, OTHER], [0.9, 0.8], [0, 1]),
    found([BOX], [0.7], [1]),
    found([FAR], [0.3], [0]),
]


def test_every_part_of_the_record_says_the_same() -> None:
    one = judge_objects(SAMPLES, FOUND, dataset(SAMPLES), ValOptions())
    assert (one.images, one.labels, one.detections, one.metric, one.rules) == (3, 3, 4, "box", "coco")
    assert one.confidence == one.best_confidence
    assert one.confusion is not None
    assert one.confusion.diagonal().sum() == 2
    assert one.confusion[:, :-1].sum() == one.labels
    cat, dog = one.classes
    assert (cat.recall, dog.recall) == (0.5, 1)
    assert one.recall == pytest.approx(0.75)
    assert one.coco is not None
    assert (one.map50, one.map50_95) == (one.coco.ap50, one.coco.ap)
    assert sum(size.labels for size in one.sizes) == 3 + sum(area in (32**2, 96**2) for area in (400, 1200, 700))
    assert [image.name for image in one.worst] == ["b.jpg"]
    assert one.settings["evaluator"].startswith("hotcoco ")
    json.dumps(one.to_dict())
    assert one.curves is not None
    json.dumps(one.curves.to_dict(), allow_nan=False)


def test_figures_can_be_read_at_another_confidence() -> None:
    one = judge_objects(SAMPLES, FOUND, dataset(SAMPLES), ValOptions(confidence=0.85))
    assert one.confidence == 0.85
    assert one.confusion is not None
    assert one.confusion.diagonal().sum() == 1
    assert [item.precision for item in one.classes] == [1, None]
    assert one.precision == 1


def test_all_classes_as_one() -> None:
    one = judge_objects(SAMPLES, FOUND, dataset(SAMPLES), ValOptions(single_class=True))
    assert one.class_names == ("object",)
    assert one.confusion is not None
    assert one.confusion.shape == (2, 2)
    assert [item.name for item in one.classes] == ["object"]


def test_nothing_found_is_zero_and_not_an_error() -> None:
    nothing = [found([], [], [])] * 3
    one = judge_objects(SAMPLES, nothing, dataset(SAMPLES), ValOptions())
    assert (one.map50, one.map50_95, one.precision, one.recall, one.confidence) == (0, 0, 0, 0, None)
    assert one.calibration == ()
    assert sum(image.missed for image in one.worst) == 3


def test_a_dataset_without_objects_is_refused() -> None:
    empty = [sample("a.jpg", [], [])]
    with pytest.raises(InputError, match="no image has an object"):
        judge_objects(empty, [found([BOX], [0.9], [0])], dataset(empty), ValOptions())


def test_what_the_truth_knows_of_crowds_and_areas_reaches_the_evaluator() -> None:
    assert SAMPLES[0].truth is not None
    known = replace(SAMPLES[0].truth, crowd=np.array([False, True]), areas_px=np.array([5000.0, 10.0]))
    one = replace(SAMPLES[0], truth=known)
    truth = truth_of(one, single_class=False)
    assert truth.crowd is not None
    assert truth.crowd.tolist() == [False, True]
    judged = judge_objects([one], FOUND[:1], dataset([one], NAMES), ValOptions())
    assert judged.labels == 1
    assert [size.labels for size in judged.sizes] == [0, 1, 0]


def test_faults_of_the_dataset_are_kept() -> None:
    fault = Fault(SAMPLES[0].path, 3, "repeats line 1", "row dropped")
    one = judge_objects(SAMPLES, FOUND, dataset(SAMPLES, faults=(fault,)), ValOptions())
    assert one.faults == (fault,)
