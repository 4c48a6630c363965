"""COCO's evaluator: `evaluate` gives all its figures, and which detection finds which object.

The metric itself is never ours. `hotcoco` computes it for boxes, masks and keypoints, and gives what `pycocotools`
gives, the implementation that the field compares by. Oriented boxes, which COCO does not have, go through `pycocotools`
itself, because it takes our probabilistic IoU in place of its own IoU.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.errors import DependencyError, InputError
from yoloship.evaluate.coco import FIRST_ID, areas_of, check_ids, coco_dataset, coco_results
from yoloship.evaluate.overlaps import oriented_ious, point_sigmas

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.evaluate.coco import OverlapKind, Scored, Truth

ALL: Final = 0
"""The place of all sizes among the ranges of areas."""
AT_50, AT_75 = 0, 5
"""The places of these IoU thresholds among the ten."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """How the evaluator is to compare.

    Attributes:
        name: The evaluator's name for it.
        limits: Numbers of detections for which recall is computed. The last counts everywhere else: at most so many
            of an image and a class, COCO's number, and for oriented boxes the 300 of the field.
        areas: The ranges of areas, all sizes first.
        package: What computes it.
    """

    name: str
    limits: tuple[int, ...]
    areas: tuple[str, ...] = ("all", "small", "medium", "large")
    package: str = "hotcoco"


_RULES: Final = MappingProxyType(
    {
        "boxes": _Rules("bbox", (1, 10, 100)),
        "masks": _Rules("segm", (1, 10, 100)),
        "keypoints": _Rules("keypoints", (20,), ("all", "medium", "large")),
        "oriented": _Rules("bbox", (1, 10, 300), package="pycocotools"),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """Which detections of an image are right at IoU 0.5, by the evaluator's own matching.

    The best detection takes the object that it overlaps most, and so on; classes are never mixed. So a detection is
    right or not at any score threshold alike.

    Attributes:
        finds: (n,) int64: the object that each detection finds; -1 if it is wrong; -2 if it does not count, because it
            is beyond the evaluator's limit or on an object that does not count.
        found_by: (m,) int64: the detection that finds each object; -1 if none does.
        counts: (m,) bool: whether the object counts. A crowd, or an object without a labelled keypoint, does not.
    """

    finds: npt.NDArray[np.int64]
    found_by: npt.NDArray[np.int64]
    counts: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What the evaluator found out.

    Attributes:
        evaluator: Its name and version.
        areas: The ranges of areas: ``all`` first.
        limits: The numbers of detections for which there is recall.
        objects: (C,) int64: the objects of each class that count.
        precision: (10, 101, C, A) float64: at each IoU threshold, recall and range, with the last limit; -1 without
            objects.
        recall: (10, C, A, M) float64: at each IoU threshold, range and limit; -1 without objects.
    """

    evaluator: str
    areas: tuple[str, ...]
    limits: tuple[int, ...]
    objects: npt.NDArray[np.int64]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    _judge: Any
    _sizes: tuple[tuple[int, int], ...]

    def matches(self) -> list[Match]:
        """Which detections of each image are right. It takes longer than all the figures."""
        with contextlib.redirect_stdout(io.StringIO()):
            params = self._judge.params
            params.iouThrs = [0.5] if self.evaluator.startswith("hotcoco") else np.array([0.5])
            params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
            params.maxDets = [self.limits[-1]]
            self._judge.evaluate()
        return _matches(self._judge.evalImgs, self._sizes)


def evaluate(
    scored: Sequence[Scored], truths: Sequence[Truth], class_names: Sequence[str], overlap: OverlapKind = "boxes"
) -> Evaluation:
    """Run COCO's evaluator.

    Args:
        scored: What was found in each image.
        truths: What is in each, in the same order.
        class_names: By class id.
        overlap: What decides whether an object is found.

    Raises:
        DependencyError: the evaluator is not installed.
        InputError: the two differ in number, no image has any object that counts, or a class id has no name.
    """
    if len(scored) != len(truths):
        raise InputError("detections and truths differ in number", got=f"{len(scored)} and {len(truths)}")
    for found, truth in zip(scored, truths, strict=True):
        check_ids(found.class_ids, class_names)
        check_ids(truth.class_ids, class_names, truth.source)
    objects = np.zeros(len(class_names), np.int64)
    for truth in truths:
        np.add.at(objects, np.asarray(truth.class_ids, np.int64)[countable(truth, overlap)], 1)
    if not objects.any():
        labelled = overlap == "keypoints" and any(len(truth.class_ids) for truth in truths)
        what = " with labelled keypoints" if labelled else ""
        raise InputError(f"no image has an object{what}, so precision cannot be computed")
    rules = _RULES[overlap]
    coco, evaluation, evaluator = _evaluator(rules.package)
    with contextlib.redirect_stdout(io.StringIO()):  # one of them reports its steps there
        if overlap == "boxes":
            judge = _judge_of_boxes(coco, evaluation, scored, truths, class_names)
        else:
            judge = _judge_of_rows(coco, evaluation, scored, truths, class_names, overlap)
        judge.params.maxDets = list(rules.limits)
        if overlap == "keypoints":
            points = next(truth.keypoints for truth in truths if truth.keypoints is not None and len(truth.keypoints))
            judge.params.kpt_oks_sigmas = point_sigmas(points.shape[1]).tolist()
        elif overlap == "oriented":
            judge.computeIoU = partial(_oriented_overlaps, judge)
        judge.evaluate()
        judge.accumulate()
    record = judge.eval
    return Evaluation(
        evaluator,
        rules.areas,
        rules.limits,
        objects,
        # IoU thresholds, recalls, classes, areas, limits
        record["precision"][..., -1],
        record["recall"],
        judge,
        tuple((len(found), len(truth.class_ids)) for found, truth in zip(scored, truths, strict=True)),
    )


def countable(truth: Truth, overlap: OverlapKind) -> npt.NDArray[np.bool_]:
    """(n,) bool: which objects the evaluator counts. The caller owns it.

    Args:
        truth: What is in an image.
        overlap: What decides whether an object is found.
    """
    counts: npt.NDArray[np.bool_] = np.ones(len(truth.class_ids), bool)
    if truth.crowd is not None:
        counts &= ~np.asarray(truth.crowd, bool)
    if overlap == "keypoints" and truth.keypoints is not None:
        counts &= (truth.keypoints[..., 2] > 0).any(axis=1)
    return counts


def _judge_of_boxes(
    coco: Any, evaluation: Any, scored: Sequence[Scored], truths: Sequence[Truth], class_names: Sequence[str]
) -> Any:
    """The evaluator of boxes, which takes arrays: many times faster than a record for each box."""
    images = [
        {"id": index, "file_name": "", "height": found.image_hw[0], "width": found.image_hw[1]}
        for index, found in enumerate(scored, FIRST_ID)
    ]
    crowd = [np.zeros(len(one.class_ids)) if one.crowd is None else one.crowd for one in truths]
    truth = coco.from_arrays(
        images,
        [{"id": index, "name": name} for index, name in enumerate(class_names, FIRST_ID)],
        _image_ids([len(one.class_ids) for one in truths]),
        np.concatenate([one.class_ids for one in truths]).astype(np.int64) + FIRST_ID,
        np.concatenate([_xywh(one.boxes_xyxy) for one in truths]),
        area=np.concatenate([areas_of(one) for one in truths]),
        iscrowd=np.concatenate(crowd).astype(np.int64),
    )
    rows = np.empty((sum(map(len, scored)), 7))
    rows[:, 0] = _image_ids([len(found) for found in scored])
    rows[:, 1:5] = np.concatenate([_xywh(found.boxes_xyxy) for found in scored])
    rows[:, 5] = np.concatenate([found.scores for found in scored])
    rows[:, 6] = np.concatenate([found.class_ids for found in scored]) + FIRST_ID
    return evaluation(truth, truth.loadRes(rows), "bbox")


def _image_ids(counts: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)) + FIRST_ID, counts)


def _xywh(boxes_xyxy: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    boxes: npt.NDArray[np.float64] = np.array(boxes_xyxy, np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def _judge_of_rows(
    coco: Any,
    evaluation: Any,
    scored: Sequence[Scored],
    truths: Sequence[Truth],
    class_names: Sequence[str],
    overlap: OverlapKind,
) -> Any:
    """The evaluator of everything else, which takes a record for each object."""
    names = [f"{index:06d}" for index in range(len(truths))]
    dataset = coco_dataset(names, [found.image_hw for found in scored], truths, class_names)
    truth, found = coco(), coco()
    truth.dataset = dataset
    truth.createIndex()
    if results := _results(scored, overlap):
        found = truth.loadRes(results)
    else:  # one of them takes no empty list
        found.dataset = {**dataset, "annotations": []}
        found.createIndex()
    return evaluation(truth, found, _RULES[overlap].name)


def _oriented_overlaps(judge: Any, image_id: int, category_id: int) -> Any:
    """What the evaluator's `computeIoU` gives, of oriented boxes: (detections, objects), the best detection first."""
    truths, found = judge._gts[image_id, category_id], judge._dts[image_id, category_id]
    if not truths or not found:
        return []
    order = np.argsort([-one["score"] for one in found], kind="stable")[: judge.params.maxDets[-1]]
    boxes = np.array([found[place]["xywhr"] for place in order.tolist()])
    return oriented_ious(boxes, np.array([one["xywhr"] for one in truths]))


def _results(scored: Sequence[Scored], overlap: OverlapKind) -> list[dict[str, Any]]:
    """Detections as the evaluator takes them. It takes a result that has a box for a box, so masks come without."""
    rows = coco_results(scored)
    for row in rows:
        if overlap != "oriented":
            del row["bbox"]
    places = iter(rows)
    for found in filter(len, scored):
        for extra in _extras(found, overlap):
            next(places).update(extra)
    return rows


def _extras(found: Scored, overlap: OverlapKind) -> list[dict[str, Any]]:
    if overlap == "masks":
        assert found.masks is not None  # of such a model
        return [{"segmentation": mask} for mask in found.masks]
    if overlap == "oriented":
        assert found.boxes_xywhr is not None
        return [{"xywhr": box} for box in found.boxes_xywhr.astype(np.float64)]
    assert found.keypoints is not None
    points = np.ones((*found.keypoints.shape[:2], 3))
    points[..., :2] = found.keypoints[..., :2]
    return [{"keypoints": one.ravel().tolist()} for one in points]


def _matches(cells: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> list[Match]:
    """The evaluator's records, one for each image and class, as one for each image."""
    found_starts, truth_starts = (np.cumsum([0, *(size[side] for size in sizes)]) for side in (0, 1))
    finds = np.full(found_starts[-1], -2, np.int64)
    found_by, counts = np.full(truth_starts[-1], -1, np.int64), np.zeros(truth_starts[-1], bool)
    for cell in cells:
        if cell is None:
            continue
        image = cell["image_id"] - FIRST_ID
        rows = np.asarray(cell["dtIds"], np.int64) - FIRST_ID
        objects = np.asarray(cell["gtIds"], np.int64) - FIRST_ID
        counts[objects] = ~np.asarray(cell["gtIgnore"], bool)
        if not len(rows):
            continue
        taken = np.asarray(cell["dtMatches"][0], np.int64) - FIRST_ID - truth_starts[image]  # below 0 without
        right = np.where(taken >= 0, taken, -1)
        finds[rows] = np.where(np.asarray(cell["dtIgnore"][0], bool), -2, right)
        found_by[objects] = np.asarray(cell["gtMatches"][0], np.int64) - FIRST_ID - found_starts[image]
    return [
        Match(finds[a:b], np.where(counts[c:d], np.maximum(found_by[c:d], -1), -1), counts[c:d])
        for (a, b), (c, d) in zip(pairwise(found_starts), pairwise(truth_starts), strict=True)
    ]


def require_evaluator(overlap: OverlapKind = "boxes") -> None:
    """Find what computes mAP, before hours of work end without it.

    Args:
        overlap: What will decide whether an object is found.

    Raises:
        DependencyError: it is not installed.
    """
    _evaluator(_RULES[overlap].package)


def _evaluator(package: str) -> tuple[Any, Any, str]:
    """The classes of truth and evaluation, and who made them."""
    from importlib import import_module
    from importlib.metadata import version

    try:
        if package == "hotcoco":
            module = import_module(package)
            return module.COCO, module.COCOeval, f"hotcoco {version(package)}"
        coco, evaluation = import_module("pycocotools.coco"), import_module("pycocotools.cocoeval")
    except ImportError as error:
        raise DependencyError("is not installed", subject=package, hint="pip install 'yoloship[eval]'") from error
    return coco.COCO, evaluation.COCOeval, f"pycocotools {version(package)}"
