"""Checks whether two files of one classification model give the same classes: `compare_classes`."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship._util.text import tracked
from yoloship.detect.preprocess import as_image, feed_of, host_session
from yoloship.errors import InputError
from yoloship.evaluate.verification import Check, Tolerances, refuse_other_classes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from yoloship._util.text import OnProgress
    from yoloship.detect.detector import Detector, Source
    from yoloship.results.classification import Classification


@dataclass(frozen=True, slots=True)
class ClassSide:
    """One of the two files.

    Attributes:
        name: The file.
        session: What ran it.
        precision: Of its body.
        run_ms: Median time of the model alone, for one image.
        total_ms: Median time from the decoded image to the classes.
        accuracy: Share of images whose most probable class is the name of their folder; None if the folders are not
            named after classes.
    """

    name: str
    session: str
    precision: str
    run_ms: float
    total_ms: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class ClassComparison:
    """What came out.

    Attributes:
        sides: The two files.
        images: How many images were compared.
        agreement: Share of images for which both have the same most probable class.
        mean_difference: Mean over the images of the largest difference of one class's probability.
        largest_difference: The largest of these.
        checks: The verdicts.
    """

    sides: tuple[ClassSide, ClassSide]
    images: int
    agreement: float
    mean_difference: float
    largest_difference: float
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = {**asdict(self), "passed": self.passed}
        data["checks"] = [{**asdict(check), "passed": check.passed} for check in self.checks]
        return data

    def facts(self) -> Iterator[tuple[str, str]]:
        """Name and value, line by line."""
        for letter, side in zip("AB", self.sides, strict=True):
            right = "" if side.accuracy is None else f", top-1 accuracy {side.accuracy:.4f}"
            yield (
                letter,
                (
                    f"{side.name}: {side.session}, {side.precision}, network {side.run_ms:.2f} ms of "
                    f"{side.total_ms:.2f} ms{right}"
                ),
            )
        yield "images", str(self.images)
        yield "same class", f"{self.agreement:.4f} of the images"
        yield (
            "probabilities",
            (f"differ by {self.mean_difference:.2g} in the mean, {self.largest_difference:.2g} at most"),
        )
        for check in self.checks:
            bound = "at least" if check.is_floor else "at most"
            word = "pass" if check.passed else "FAIL"
            yield word, f"{check.name} {check.value:.4g}, allowed {bound} {check.limit:g}"


def compare_classes(
    first: tuple[str, Detector[Classification]],
    second: tuple[str, Detector[Classification]],
    sources: Sequence[Source],
    *,
    tolerances: Tolerances | None = None,
    on_progress: OnProgress | None = None,
) -> ClassComparison:
    """Run two files of one classification model on the same images and compare their classes.

    Args:
        first: A name and the model that is taken as right.
        second: The model to be judged.
        sources: Images, as `Detector.__call__` takes them; one at a time is held. If all of them are files in folders
            that have the names of classes, the accuracy of both models is measured too.
        tolerances: What is allowed: the least agreement, the largest mean difference of probabilities, and the largest
            loss of accuracy.
        on_progress: Called before each image.

    Raises:
        InputError: there are no images, or the models have other classes or another transform.
        ImageError: an image cannot be read.
        SessionError: a runtime failed.
    """
    if not sources:
        raise InputError("no images to compare on", expected="at least one")
    refuse_other_classes(first, second)
    transforms = [str(detector.info.transform) for _, detector in (first, second)]
    if transforms[0] != transforms[1]:
        raise InputError(
            "the two models see other parts of an image, so they cannot be compared", subject=second[0],
            expected=transforms[0], got=transforms[1], hint="give the same transform to both",
        )  # fmt: skip
    allowed = tolerances or Tolerances()
    truths = folder_classes(sources, first[1].class_names)
    runs = tuple(_Run(detector) for _, detector in (first, second))
    for source in tracked(sources, "comparing", on_progress):
        image = as_image(source, count=first[1].info.channels)
        for run in runs:
            run.add(image)
    one, other = runs
    differences = [
        float(np.abs(a.probabilities - b.probabilities).max()) for a, b in zip(one.found, other.found, strict=True)
    ]
    same = [a.class_id == b.class_id for a, b in zip(one.found, other.found, strict=True)]
    sides = (_side(first, one, truths), _side(second, other, truths))
    agreement, mean = statistics.fmean(same), statistics.fmean(differences)
    checks = [
        Check("same class", agreement, allowed.agreement, is_floor=True),
        Check("mean probability difference", mean, allowed.score, is_floor=False),
    ]
    if sides[0].accuracy is not None and sides[1].accuracy is not None:
        checks.append(Check("accuracy lost", sides[0].accuracy - sides[1].accuracy, allowed.drop, is_floor=False))
    return ClassComparison(sides, len(sources), agreement, mean, max(differences), tuple(checks))


class _Run:
    """One model's answers, gathered image by image."""

    def __init__(self, detector: Detector[Classification]) -> None:
        self._detector = detector
        self._session = host_session(detector)
        self.found: list[Classification] = []
        self.run_s: list[float] = []
        self.total_s: list[float] = []

    def add(self, image: Source) -> None:
        feed = feed_of(self._detector, image)
        if not self.found:
            self._session.run(feed)  # the first run is slower: memory is laid out
        start = time.perf_counter()
        self._session.run(feed)
        self.run_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        self.found.append(self._detector(image, channels="bgr"))
        self.total_s.append(time.perf_counter() - start)


def folder_classes(sources: Sequence[Source], names: tuple[str, ...]) -> list[int] | None:
    """The class of each image by the name of its folder; None if a folder is not named after a class.

    Args:
        sources: Images, as `Detector.__call__` takes them.
        names: Class names by class id.
    """
    ids = {name: class_id for class_id, name in enumerate(names)}
    folders = [Path(source).parent.name if isinstance(source, str | Path) else "" for source in sources]
    found = [ids[folder] for folder in folders if folder in ids]
    return found if len(found) == len(folders) else None


def _side(named: tuple[str, Detector[Classification]], run: _Run, truths: list[int] | None) -> ClassSide:
    name, detector = named
    session = detector.session
    right = None
    if truths is not None:
        right = statistics.fmean(found.class_id == truth for found, truth in zip(run.found, truths, strict=True))
    return ClassSide(
        name,
        session.name,
        detector.info.precision if session.precision in {None, "float32"} else str(session.precision),
        1e3 * statistics.median(run.run_s),
        1e3 * statistics.median(run.total_s),
        right,
    )
