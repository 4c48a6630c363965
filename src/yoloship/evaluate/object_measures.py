"""How models that find objects are compared and judged: by boxes, masks, keypoints or oriented boxes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError
from yoloship.evaluate.average_precision import mean_average_precision
from yoloship.evaluate.evaluator import require_evaluator
from yoloship.evaluate.label_lines import BOXES as BOX_LINES
from yoloship.evaluate.label_lines import CornerLines, KeypointLines, OutlineLines
from yoloship.evaluate.labels import read_labels
from yoloship.evaluate.matching import LOWERED_SHARE, Agreement, agree, agreement_over_ious, match
from yoloship.evaluate.measure import Comparison, Detail, Measure, difference
from yoloship.evaluate.overlaps import object_ious, seen_points

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from yoloship.detect.detector import Detector
    from yoloship.evaluate.coco import OverlapKind, Truth
    from yoloship.evaluate.label_lines import LabelLines
    from yoloship.model import ModelInfo, NmsConfig
    from yoloship.results.detections import Detections


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
                f"its graph has already dropped detections with a score below {nms.score_threshold:g}",
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
        require_evaluator(self.overlap)
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
        found = [difference("keypoint distance", "px", distances)]
        if any(len(values) for values in visibilities):
            found.append(difference("difference of visibility", "", visibilities))
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
            difference("difference of centres", "px", centres),
            difference("difference of sides", "px", sides),
            difference("difference of angles", "°", angles),
        )


def _box_ious(pairs: Sequence[tuple[Detections, Detections]]) -> tuple[Detail, ...]:
    """How much the boxes overlap; those outside the image are clipped to it, have no area, and cannot."""
    every = []
    for a, b in pairs:
        ious = object_ious(a.boxes_xyxy, b.boxes_xyxy).diagonal()
        every.append(ious[(a.area_px > 0) | (b.area_px > 0)])
    ious = np.concatenate(every)
    return (Detail("box IoU", "", float(ious.mean()), float(ious.min()), "iou"),) if len(ious) else ()
