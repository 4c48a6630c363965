"""Our validation by YOLOv5's rules against the 28 official runs in ../shared/val.

All of them are held to their figures from the official detections, and to their input images. A few go all the way from
the files here; `bench/val_yolov5.py` takes all of them there.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from helpers.official_val import (
    REFUSED,
    REWRITTEN,
    VAL,
    WITHOUT_DETECTIONS,
    Difference,
    OfficialRun,
    pictures,
    run_names,
)
from helpers.shared import require
from yoloship.datasets.dataset import Dataset
from yoloship.datasets.opening import open_dataset
from yoloship.errors import InputError
from yoloship.images import read_image
from yoloship.models.loading import load
from yoloship.validate.objects import ONE_CLASS
from yoloship.validate.record import Validation
from yoloship.validate.yolov5.figures import Subject, figures_of
from yoloship.validate.yolov5.matching import correct
from yoloship.validate.yolov5.pixels import Placed
from yoloship.validate.yolov5.precision import Judged
from yoloship.validate.yolov5.seeing import Seen, labels_of
from yoloship.validate.yolov5.undoing import labels_to_source

TIED = "codes-crowded.pt-b8-iou0.9"
"""Two labels overlap a detection exactly alike there, and an unstable sort chooses one in the official code."""
ALL_THE_WAY = (
    "codes-crowded.pt-b8-iou0.6",
    "codes-faulty.onnx",
    "codes-list.pt-b8",
    "codes.onnx-maxdet10",
    "codes.pt-b8-img320",
    "photos.onnx-conf0.25-iou0.45",
)
FOLDER = Path()
"""Of sets that are made; none of those that are judged here is."""
each_run = pytest.mark.parametrize("name", sorted(set(run_names()) - REFUSED))


@cache
def dataset_at(yaml: Path, weights: Path) -> Dataset:
    with load(weights) as detector:
        return open_dataset(yaml, info=detector.info)


def dataset_of(run: OfficialRun) -> Dataset:
    return dataset_at(run.yaml(FOLDER), run.weights)


@cache
def input_of(path: Path, imgsz: int, input_hw: tuple[int, int]) -> tuple[list[float], str]:
    """The padding and the SHA-1 of an input, planes of RGB."""
    image = read_image(path)
    placed = Placed.of(image.shape[:2], imgsz, input_hw)
    planes = np.ascontiguousarray(placed.draw(image)[..., ::-1].transpose(2, 0, 1))
    return list(placed.pad_xy), hashlib.sha1(planes.tobytes()).hexdigest()


@each_run
def test_the_same_images_are_left_out_and_every_input_is_equal_to_the_last_bit(name: str) -> None:
    run = OfficialRun(name)
    dataset, imgsz = dataset_of(run), run.imgsz
    plan = run.official_plan(dataset)
    assert [dataset.samples[planned.index].name for planned in plan] == [one["path"] for one in run.pictures]
    assert len(plan) == len(dataset.samples)
    for planned, official in zip(plan, run.pictures, strict=True):
        sample = dataset.samples[planned.index]
        assert [sample.object_count, list(planned.input_hw)] == [official["labels"], official["input_hw"]]
        if official["path"] != REWRITTEN:
            expected = official["pad_xy"], official["sha1_chw_rgb_uint8"]
            assert input_of(sample.path, imgsz, planned.input_hw) == expected, official["path"]


def from_official_detections(run: OfficialRun) -> Validation:
    file = np.load(require(VAL / "runs" / f"{run.name}.dets.npz"))
    by_path = {str(path): file["det"][file["picture"] == place] for place, path in enumerate(file["paths"])}
    dataset, imgsz, single = dataset_of(run), run.imgsz, run.options.single_class
    seen = []
    for planned in run.official_plan(dataset):
        sample = dataset.samples[planned.index]
        found = by_path.get(sample.name, np.zeros((0, 6), np.float32)).astype(np.float32)
        boxes, scores, class_ids = found[:, :4], found[:, 4], found[:, 5].astype(np.int32)
        shares, label_ids = labels_of(sample)
        label_ids = np.zeros_like(label_ids) if single else label_ids
        labels = labels_to_source(shares, Placed.of(sample.image_hw, imgsz, planned.input_hw))
        judged = Judged(correct(boxes, class_ids, labels, label_ids), scores, class_ids, label_ids)
        seen.append(Seen(planned.index, boxes, scores, class_ids, labels, judged, (0, 0, 0)))
    names = ONE_CLASS if single else dataset.class_names
    return figures_of(Subject("m", "", "d", "detect", names, (), 0, {}), seen, {})


@pytest.mark.parametrize("name", sorted(set(run_names()) - WITHOUT_DETECTIONS))
def test_the_figures_of_the_official_detections_are_equal(name: str) -> None:
    run = OfficialRun(name)
    own = from_official_detections(run)
    off = Difference.of(own, run)
    assert max(off.precision, off.recall, off.map50) <= 1e-6
    assert off.map50_95 <= (1e-4 if name == TIED else 1e-6)
    assert off.class_ap <= (1e-3 if name == TIED else 3e-6)
    assert off.confusion == 4 * name.startswith("photos.onnx") * ("single" not in name)
    assert off.detections == 0
    assert own.best_confidence == pytest.approx(run.said["best_confidence"]["confidence"], abs=1e-9)
    curves = np.load(VAL / "runs" / f"{name}.curves.npz")
    assert own.curves is not None
    assert own.curves.class_ids == tuple(curves["classes"].tolist())
    for key, curve in (("Precision", own.curves.precision), ("Recall", own.curves.recall), ("F1", own.curves.f1)):
        np.testing.assert_allclose(curve, curves[key], atol=1e-6)


@pytest.mark.parametrize("name", ALL_THE_WAY if run_names() != ["absent"] else run_names())
def test_a_run_all_the_way_is_within_the_tolerances(name: str, tmp_path: Path) -> None:
    run = OfficialRun(name)
    off = Difference.of(run.validated(tmp_path), run)
    is_ordered = not run.is_checkpoint or "single" in name or "list" in name or "crowded" in name
    limit = 1e-4 if is_ordered else 2e-3
    assert off.map <= limit
    assert max(off.precision, off.recall) <= (1e-3 if is_ordered else 5e-3)
    assert off.confusion <= 4
    if is_ordered:
        assert off.class_ap <= 1e-4
        assert off.detections == 0


def test_in_the_official_order_rectangles_are_as_exact_as_squares(tmp_path: Path) -> None:
    run = OfficialRun("codes.pt-b8-img320" if run_names() != ["absent"] else "absent")
    off = Difference.of(run.validated_in_official_order(tmp_path), run)
    assert max(off.map, off.class_ap) <= 1e-6
    assert max(off.precision, off.recall) <= 1e-5


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("codes-class1.5.onnx", "class 1.5 is not a whole number"),
        ("codes-class3.onnx", "class 3 has no name"),
        ("codes-class7.onnx", "class 7 has no name"),
    ],
)
def test_a_class_that_ends_the_official_run_is_refused_with_file_and_line(
    name: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"labels/val/119\.txt, line 7: {problem}"):
        OfficialRun(name).dataset(tmp_path)


def further_runs() -> list[str]:
    """Runs of which only the input images are kept."""
    return sorted(set(pictures()) - set(run_names())) if run_names() != ["absent"] else ["absent"]


@pytest.mark.parametrize("name", further_runs())
def test_inputs_of_runs_without_figures_are_equal_too(name: str) -> None:
    imgsz = 320 if name.endswith("img320") else 640
    folder = require(VAL / "sets" / name.partition(".")[0])
    for official in pictures()[name]:
        if official["path"] != REWRITTEN:
            expected = official["pad_xy"], official["sha1_chw_rgb_uint8"]
            high, wide = official["input_hw"]
            assert input_of(folder / official["path"], imgsz, (high, wide)) == expected, official["path"]
