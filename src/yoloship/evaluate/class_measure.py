"""How classification models are compared and judged: by the most probable class."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.text import counted
from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError
from yoloship.evaluate.labels import read_class_folders, truths_in_folders
from yoloship.evaluate.matching import Agreement
from yoloship.evaluate.measure import Comparison, Measure, difference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from yoloship.detect.detector import Detector, Source
    from yoloship.evaluate.coco import Truth
    from yoloship.model import ModelInfo, NmsConfig
    from yoloship.results.classification import Classification


TOP: Final = 5
"""The field's other accuracy counts an image whose class is among this many."""


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
            (replace(difference("probability difference", "", [np.array(largest, np.float64)]), limit="score"),),
        )

    def agreement(
        self, first: Sequence[Classification], second: Sequence[Classification], score_threshold: float
    ) -> float:
        """The share of images with the same most probable class."""
        return self.compare(first, second, score_threshold).agreement.share

    def sees(self, found: Classification, score_threshold: float) -> int:  # noqa: ARG002 - one signature
        """Every image has a class."""
        return 1
