"""What is compared, and what is good, for each task: `Measure`, and `measure_of` to find a model's.

`verify` compares two models by it, and INT8 and FP8 keep their loss within a budget by it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np

from yoloship._util.text import counted
from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError
from yoloship.evaluate.coco import mean_average_precision, require_evaluator
from yoloship.evaluate.label_lines import BOXES as BOX_LINES
from yoloship.evaluate.label_lines import CornerLines, KeypointLines, OutlineLines
from yoloship.evaluate.labels import read_class_folders, read_labels, truths_in_folders
from yoloship.evaluate.matching import LOWERED_SHARE, Agreement, agree, agreement_over_ious, match
from yoloship.evaluate.overlaps import object_ious, seen_points
from yoloship.tasks import refuse_other_results

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from yoloship.detect.detector import Detector, Source
    from yoloship.evaluate.coco import OverlapKind, Truth
    from yoloship.evaluate.label_lines import LabelLines
    from yoloship.model import ModelInfo, NmsConfig
    from yoloship.results.classification import Classification
    from yoloship.results.detections import Detections

    Floats = npt.NDArray[np.floating[Any]]


MAP_THRESHOLD: Final = 0.001
"""Precision is averaged over all scores, so detections are taken from here on; a graph of the form ``nms`` gives those
above its own threshold only, and a smaller mAP for that."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One more thing that was compared, over all pairs.

    Attributes:
        name: What it is.
        unit: ``px``, ``°``, or empty.
        mean: In the mean.
        worst: The largest difference, or the smallest overlap.
        limit: Which of the tolerances of `yoloship.evaluate.verification` the mean must keep; None only reports it.
    """

    name: str
    unit: str
    mean: float
    worst: float
    limit: Literal["iou", "score"] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far the answers of two models lie apart.

    Attributes:
        agreement: How many answers of either the other has too.
        ious: How much each pair overlaps, by what the task is about; empty if there is nothing to overlap.
        scores: The scores of each pair, of the first and of the second.
        details: Whatever else was compared.
    """

    agreement: Agreement
    ious: tuple[float, ...]
    scores: tuple[tuple[float, float], ...]
    details: tuple[Detail, ...] = ()


class Measure(ABC):
    """How the answers of one task are compared with each other, and with the truth. It holds no state.

    Attributes:
        title: The number that says how good a model is, in short.
        figure: Its name in reports for programs.
        counted: What is counted: one, and several.
        overlap_title: What a pair's overlap is called; empty if there is none, and no threshold either.
        agreed: How a sentence begins that ends in a share and `over`: "detections agree with float32 to".
        over: How it ends: "over IoU 0.5 to 0.95".
    """

    title: ClassVar[str]
    figure: ClassVar[str]
    counted: ClassVar[tuple[str, str]]
    overlap_title: ClassVar[str]
    agreed: ClassVar[str]
    over: ClassVar[str]

    @abstractmethod
    def options(
        self, detector: Detector[Any], score_threshold: float, *, other: NmsConfig | None = None, lowest: bool = False
    ) -> DetectOptions:
        """Options that show what lies somewhat below a threshold too, as far as the graph still has it.

        Args:
            detector: Whose graph counts.
            score_threshold: The threshold.
            other: What the graph that this one is compared with has inside; this one is suppressed in the same way.
            lowest: Whether a graph that has dropped more than that is taken as it is.

        Raises:
            InputError: the graph has dropped what is above the threshold.
        """

    @abstractmethod
    def truths(self, folder: Path, images: Sequence[Path], info: ModelInfo) -> list[Truth]:
        """Read what is in each of some images.

        Args:
            folder: Holds the labels.
            images: In any order; read for their sizes only.
            info: The model, whose classes and keypoints the labels have.

        Raises:
            InputError: a label is not one of this task, or cannot be assigned without doubt.
            ImageError: an image cannot be read.
            DependencyError: what computes the measure is not installed.
        """

    def known_truths(self, sources: Sequence[Source], class_names: Sequence[str]) -> list[Truth] | None:  # noqa: ARG002
        """What is in each image, if the images themselves say it; None if they do not.

        Args:
            sources: As `Detector.__call__` takes them.
            class_names: By class id.
        """
        return None

    @abstractmethod
    def counts(self, agreement: Agreement, score_threshold: float) -> Iterator[tuple[str, str]]:
        """How many answers of either model the other has too, as name and value, line by line."""

    @abstractmethod
    def figures(self, found: Sequence[Any], truths: Sequence[Truth], class_names: Sequence[str]) -> Mapping[str, float]:
        """How good a model is, by the name of each number, in [0, 1]; `figure` is one of them.

        Args:
            found: Its results, image by image; objects from `MAP_THRESHOLD` on.
            truths: What is in each image.
            class_names: By class id.

        Raises:
            InputError: they differ in number, no image has any object, or a class id has no name.
            DependencyError: what computes it is not installed.
        """

    @abstractmethod
    def compare(self, first: Sequence[Any], second: Sequence[Any], score_threshold: float) -> Comparison:
        """Compare the results of two models, image by image.

        Args:
            first: Of one model, made with `options`.
            second: Of the other.
            score_threshold: Answers count if one of the models gives at least this.
        """

    @abstractmethod
    def agreement(self, first: Sequence[Any], second: Sequence[Any], score_threshold: float) -> float:
        """One number in [0, 1] for how much two models agree; the arguments are those of `compare`."""

    @abstractmethod
    def sees(self, found: Any, score_threshold: float) -> int:
        """How many answers of a result count."""


class ObjectMeasure(Measure):
    """Of models that find objects.

    Attributes:
        overlap: What decides whether two objects are one.
    """

    overlap: ClassVar[OverlapKind] = "boxes"
    title = "mAP"
    figure = "map50_95"
    counted = ("detection", "detections")
    overlap_title = "IoU"
    agreed = "detections agree with float32 to"
    over = "over IoU 0.5 to 0.95"

    def options(
        self, detector: Detector[Any], score_threshold: float, *, other: NmsConfig | None = None, lowest: bool = False
    ) -> DetectOptions:
        """Those with a share of the threshold, and else what is in the graph."""
        nms = detector.info.nms
        if nms is None:
            usual = DetectOptions.of(replace(detector.info, nms=other))
            return replace(usual, score_threshold=LOWERED_SHARE * score_threshold)
        if nms.score_threshold > score_threshold and not lowest:
            raise InputError(
                f"its graph has dropped detections that score less than {nms.score_threshold:g}",
                subject="score_threshold (--conf)",
                expected=f"{nms.score_threshold:g} or more",
                got=f"{score_threshold:g}",
            )
        return DetectOptions(
            max(nms.score_threshold, LOWERED_SHARE * score_threshold), nms.iou_threshold, nms.max_detections,
            class_agnostic=nms.class_agnostic,
        )  # fmt: skip

    def lines(self, info: ModelInfo) -> LabelLines:  # noqa: ARG002 - for keypoints
        """What a line of a label file holds."""
        return BOX_LINES

    def truths(self, folder: Path, images: Sequence[Path], info: ModelInfo) -> list[Truth]:
        """Label files, a line for each object."""
        require_evaluator()
        return read_labels(folder, images, self.lines(info))

    def counts(self, agreement: Agreement, score_threshold: float) -> Iterator[tuple[str, str]]:
        """A line for each model."""
        for letter, other, count, seen in (
            ("A", "B", agreement.first_count, agreement.first_seen),
            ("B", "A", agreement.second_count, agreement.second_seen),
        ):
            found = f"{count} with a score of {score_threshold:g} or more"
            yield (
                f"{letter}'s {self.counted[1]}",
                f"{found}; {other} finds {seen} of them, some perhaps with a lower score",
            )

    def figures(
        self, found: Sequence[Detections], truths: Sequence[Truth], class_names: Sequence[str]
    ) -> Mapping[str, float]:
        """Mean average precision over the overlaps 0.5 to 0.95."""
        return {self.figure: mean_average_precision(found, truths, class_names, self.overlap).map50_95}

    def compare(self, first: Sequence[Detections], second: Sequence[Detections], score_threshold: float) -> Comparison:
        """Pair the objects that overlap most, and compare each pair."""
        ious: list[float] = []
        scores: list[tuple[float, float]] = []
        pairs: list[tuple[Detections, Detections]] = []
        for a, b in zip(first, second, strict=True):
            found = match(a, b)
            rows, columns = found.pairs.T
            counts = np.maximum(a.scores[rows], b.scores[columns]) >= score_threshold
            rows, columns = rows[counts], columns[counts]
            ious += found.ious[counts].tolist()
            scores += zip(a.scores[rows].tolist(), b.scores[columns].tolist(), strict=True)
            if len(rows):
                pairs.append((a[rows], b[columns]))
        return Comparison(
            agree(first, second, score_threshold), tuple(ious), tuple(scores), self.details(pairs) if pairs else ()
        )

    def details(self, pairs: Sequence[tuple[Detections, Detections]]) -> tuple[Detail, ...]:  # noqa: ARG002 - for others
        """What else is compared of pairs.

        Args:
            pairs: For each image with any, the paired objects of either model, in the same order; 1 or more.
        """
        return ()

    def agreement(self, first: Sequence[Detections], second: Sequence[Detections], score_threshold: float) -> float:
        """The share of objects that both have, in the mean over the overlaps 0.5 to 0.95."""
        return agreement_over_ious(first, second, score_threshold)

    def sees(self, found: Detections, score_threshold: float) -> int:
        """Objects at the threshold or above."""
        return int(np.count_nonzero(found.scores >= score_threshold))


class MaskMeasure(ObjectMeasure):
    """Of segmentation models: by the IoU of masks."""

    overlap = "masks"
    title = "mask mAP"
    counted = ("segmented object", "segmented objects")
    overlap_title = "mask IoU"
    agreed = "masks agree with float32 to"

    def lines(self, info: ModelInfo) -> LabelLines:  # noqa: ARG002 - one signature
        """Outlines."""
        return OutlineLines()

    def details(self, pairs: Sequence[tuple[Detections, Detections]]) -> tuple[Detail, ...]:
        """The boxes."""
        return _box_ious(pairs)


class KeypointMeasure(ObjectMeasure):
    """Of pose models: by the similarity of keypoints (OKS)."""

    overlap = "keypoints"
    title = "OKS mAP"
    counted = ("posed object", "posed objects")
    overlap_title = "OKS"
    agreed = "keypoints agree with float32 to"
    over = "over OKS 0.5 to 0.95"

    def lines(self, info: ModelInfo) -> LabelLines:
        """Boxes with keypoints."""
        assert info.keypoint_shape is not None  # the task checks it
        return KeypointLines(info.keypoint_shape[0])

    def details(self, pairs: Sequence[tuple[Detections, Detections]]) -> tuple[Detail, ...]:
        """The distances of visible keypoints, their visibilities, and the boxes."""
        distances, visibilities = [], []
        for a, b in pairs:
            one, other = a.keypoints, b.keypoints
            assert one is not None  # of pose models
            assert other is not None
            apart = one.astype(np.float64) - other
            distances.append(np.hypot(apart[..., 0], apart[..., 1])[seen_points(one, other)])
            visibilities.append(np.abs(apart[..., 2:]).ravel())
        found = [_difference("keypoint distance", "px", distances)]
        if any(len(values) for values in visibilities):
            found.append(_difference("difference of visibility", "", visibilities))
        return (*found, *_box_ious(pairs))


class OrientedMeasure(ObjectMeasure):
    """Of models for oriented boxes: by their probabilistic IoU."""

    overlap = "oriented"
    title = "oriented mAP"
    counted = ("oriented box", "oriented boxes")
    overlap_title = "probabilistic IoU"
    agreed = "oriented boxes agree with float32 to"
    over = "over probabilistic IoU 0.5 to 0.95"

    def lines(self, info: ModelInfo) -> LabelLines:  # noqa: ARG002 - one signature
        """Four corners."""
        return CornerLines()

    def details(self, pairs: Sequence[tuple[Detections, Detections]]) -> tuple[Detail, ...]:
        """Centres, sides and angles. A box has two ways to be written, of which the nearer one is compared."""
        centres, sides, angles = [], [], []
        for a, b in pairs:
            one, other = a.boxes_xywhr, b.boxes_xywhr
            assert one is not None  # of such models
            assert other is not None
            apart = one.astype(np.float64) - other
            turn = (apart[:, 4] + np.pi / 2) % np.pi - np.pi / 2
            crossed = np.abs(turn) > np.pi / 4
            swapped = np.where(crossed[:, None], other[:, 3:1:-1], other[:, 2:4])
            centres.append(np.abs(apart[:, :2]).ravel())
            sides.append(np.abs(one[:, 2:4] - swapped).ravel())
            angles.append(np.degrees(np.where(crossed, np.pi / 2 - np.abs(turn), np.abs(turn))))
        return (
            _difference("difference of centres", "px", centres),
            _difference("difference of sides", "px", sides),
            _difference("difference of angles", "°", angles),
        )


class ClassMeasure(Measure):
    """Of classification models: whether the most probable class is the right one, or the same."""

    title = "top-1 accuracy"
    figure = "top1"
    counted = ("image", "images")
    overlap_title = ""
    agreed = "the most probable class is that of float32 on"
    over = "of the images"

    def options(
        self,
        detector: Detector[Any],  # noqa: ARG002 - one signature
        score_threshold: float,  # noqa: ARG002
        *,
        other: NmsConfig | None = None,  # noqa: ARG002
        lowest: bool = False,  # noqa: ARG002
    ) -> DetectOptions:
        """The defaults: there is no threshold."""
        return DetectOptions()

    def truths(self, folder: Path, images: Sequence[Path], info: ModelInfo) -> list[Truth]:
        """Folders of images, one for each class."""
        return read_class_folders(folder, images, info.class_names)

    def known_truths(self, sources: Sequence[Source], class_names: Sequence[str]) -> list[Truth] | None:
        """The folders of the images, if all have the names of classes."""
        return truths_in_folders(sources, class_names)

    def counts(self, agreement: Agreement, score_threshold: float) -> Iterator[tuple[str, str]]:  # noqa: ARG002
        """One line for both models."""
        images = counted(agreement.first_count, *self.counted)
        yield "classes", f"{agreement.first_seen} of {images} have the same top class"

    def figures(
        self, found: Sequence[Classification], truths: Sequence[Truth], class_names: Sequence[str]
    ) -> Mapping[str, float]:
        """The shares of images whose class is the most probable one, and one of the five most probable."""
        if len(found) != len(truths) or not found:
            raise InputError("results and truths differ in number", got=f"{len(found)} and {len(truths)}")
        ranks = []
        for result, truth in zip(found, truths, strict=True):
            (class_id,) = truth.class_ids.tolist()
            if not 0 <= class_id < len(class_names):
                raise InputError("has no name", subject=f"class {class_id}", expected=f"0 to {len(class_names) - 1}")
            best = [one.class_id for one in result.top(TOP)]
            ranks.append(best.index(class_id) if class_id in best else TOP)
        return {"top1": float(np.mean(np.array(ranks) < 1)), "top5": float(np.mean(np.array(ranks) < TOP))}

    def compare(
        self,
        first: Sequence[Classification],
        second: Sequence[Classification],
        score_threshold: float,  # noqa: ARG002 - one signature
    ) -> Comparison:
        """Count the images with the same most probable class; scores are of the class that the first gives.

        The difference is, of each image, the largest of any class's probability.
        """
        same = sum(a.class_id == b.class_id for a, b in zip(first, second, strict=True))
        scores = [(a.score, float(b.probabilities[a.class_id])) for a, b in zip(first, second, strict=True)]
        largest = [np.abs(a.probabilities - b.probabilities).max() for a, b in zip(first, second, strict=True)]
        return Comparison(
            Agreement(len(first), len(second), same, same),
            (),
            tuple(scores),
            (replace(_difference("probability difference", "", [np.array(largest, np.float64)]), limit="score"),),
        )

    def agreement(
        self, first: Sequence[Classification], second: Sequence[Classification], score_threshold: float
    ) -> float:
        """The share of images with the same most probable class."""
        return self.compare(first, second, score_threshold).agreement.share

    def sees(self, found: Classification, score_threshold: float) -> int:  # noqa: ARG002 - one signature
        """Every image has a class."""
        return 1


TOP: Final = 5
"""The field's other accuracy counts an image whose class is among this many."""

BOXES: Final = ObjectMeasure()
MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "detect": BOXES,
        "segment": MaskMeasure(),
        "pose": KeypointMeasure(),
        "obb": OrientedMeasure(),
        "classify": ClassMeasure(),
    }
)
"""By `ModelInfo.task`."""


def measure_of(info: ModelInfo, subject: str) -> Measure:
    """How a model is judged.

    Args:
        info: The model's record.
        subject: The model's name, for messages.

    Raises:
        InputError: its task is that of another package, and gives more than boxes.
        SessionError: no such task is known at all.
    """
    if info.task not in MEASURES:
        refuse_other_results(info, subject, "compared")
    return MEASURES.get(info.task, BOXES)


def _difference(name: str, unit: str, values: Sequence[Floats]) -> Detail:
    every = np.concatenate(values)
    return Detail(name, unit, float(every.mean()), float(every.max()))


def _box_ious(pairs: Sequence[tuple[Detections, Detections]]) -> tuple[Detail, ...]:
    """How much the boxes overlap; those outside the image are clipped to it, have no area, and cannot."""
    every = []
    for a, b in pairs:
        ious = object_ious(a.boxes_xyxy, b.boxes_xyxy).diagonal()
        every.append(ious[(a.area_px > 0) | (b.area_px > 0)])
    ious = np.concatenate(every)
    return (Detail("box IoU", "", float(ious.mean()), float(ious.min()), "iou"),) if len(ious) else ()
