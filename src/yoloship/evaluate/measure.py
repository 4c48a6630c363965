"""How the answers of a task are compared with each other and with the truth: `Measure`, which each task has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from yoloship.detect.detector import Detector, Source
    from yoloship.detect.options import DetectOptions
    from yoloship.evaluate.coco import Truth
    from yoloship.evaluate.matching import Agreement
    from yoloship.model import ModelInfo, NmsConfig

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


def difference(name: str, unit: str, values: Sequence[Floats]) -> Detail:
    """The mean and the largest of some differences, (n,) each; 1 or more in all."""
    every = np.concatenate(values)
    return Detail(name, unit, float(every.mean()), float(every.max()))
