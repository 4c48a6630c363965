"""Checks whether two files of one model give the same answers: `verify`."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.text import tracked
from yoloship.detect.feeds import feed_of, host_session
from yoloship.detect.options import DetectOptions
from yoloship.detect.preprocess import as_image
from yoloship.errors import InputError
from yoloship.evaluate.matching import LOWERED_SHARE, Agreement, LevelDifference, compare_levels
from yoloship.evaluate.measure import MAP_THRESHOLD, Detail
from yoloship.evaluate.measures import BOXES, MEASURES, measure_of
from yoloship.model import images_first
from yoloship.tasks import form_of, task_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship._util.text import OnProgress
    from yoloship.detect.detector import Detector, Source
    from yoloship.evaluate.coco import Truth
    from yoloship.evaluate.measure import Measure
    from yoloship.model import HeadChoice, NmsConfig
    from yoloship.tasks.task import Cells


LEVEL_IMAGES: Final = 32
"""Cells are compared on this many images, the first; all of each are held, 25,200 at 640×640."""
MAX_CELLS: Final = 1 << 22
"""Held of each model at most, but for the last image's: 84 MB, however large the model's input is."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How much two files of one model may differ.

    Attributes:
        agreement: Least share of detections that both see; of images with the same class, for classification.
        iou: Least overlap of two that are one object, in the mean over all pairs. What overlaps is what the task is
            about: boxes, masks, keypoints (OKS) or oriented boxes (probabilistic IoU).
        score: Largest difference of their scores, in the mean over all pairs.
        drop: Largest loss of the task's own measure from the first to the second, where there are labels.
    """

    agreement: float = 0.99
    iou: float = 0.97
    score: float = 0.02
    drop: float = 0.01

    def __post_init__(self) -> None:
        for name in ("agreement", "iou", "score", "drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError("out of range", subject=name, expected="0 to 1", got=str(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict.

    Attributes:
        name: What was looked at.
        value: What was found.
        limit: What is allowed.
        is_floor: Whether the limit is the least that is allowed; else it is the most.
    """

    name: str
    value: float
    limit: float
    is_floor: bool

    @property
    def passed(self) -> bool:
        """Whether the value is within the limit."""
        return self.value >= self.limit if self.is_floor else self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two artefacts.

    Attributes:
        name: The file.
        session: What ran it.
        precision: Of its body.
        output_form: Of its graph.
        detections: How many it found, at the threshold; for classification the number of images.
        run_ms: Median time of the model alone, an image.
        total_ms: Median time from the decoded image to the result.
        map50_95: Mean average precision over the task's overlap, 0.5 to 0.95; None without labels.
        top1: Share of images whose class is the most probable one; None without labels, or for other tasks.
        top5: Share of images whose class is one of the five most probable.
        head: Which head answered, of a network that has or had two; None for any other.
        input_hw: (height, width) of its input in model pixels.
    """

    name: str
    session: str
    precision: str
    output_form: str
    detections: int
    run_ms: float
    total_ms: float
    map50_95: float | None = None
    top1: float | None = None
    top5: float | None = None
    head: HeadChoice | None = None
    input_hw: tuple[int, int] | None = None

    @property
    def accuracy(self) -> float | None:
        """The number that is judged; None without labels."""
        return self.top1 if self.map50_95 is None else self.map50_95


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out.

    Attributes:
        sides: The two artefacts.
        images: How many were compared.
        score_threshold: Above which detections count.
        levels: Differences before any threshold, finest level first; empty where a graph gives final detections
            only. On the first images.
        agreement: How many detections either shares with the other.
        ious: Overlaps of the pairs, by what the task is about; empty for classification.
        scores: Scores of the pairs, of the first and of the second; for classification of the first's class.
        checks: The verdicts.
        task: Of both.
        details: What else was compared of the pairs.
    """

    sides: tuple[Side, Side]
    images: int
    score_threshold: float
    levels: tuple[LevelDifference, ...]
    agreement: Agreement
    ious: tuple[float, ...]
    scores: tuple[tuple[float, float], ...]
    checks: tuple[Check, ...] = ()
    task: str = "detect"
    details: tuple[Detail, ...] = ()

    @property
    def measure(self) -> Measure:
        """What was compared."""
        return MEASURES.get(self.task, BOXES)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = {**asdict(self), "passed": self.passed}
        data["agreement"]["share"] = self.agreement.share
        data["checks"] = [{**asdict(check), "passed": check.passed} for check in self.checks]
        return data


def verify(  # noqa: PLR0913 - all but the first three have defaults
    first: tuple[str, Detector],
    second: tuple[str, Detector],
    sources: Sequence[Source],
    *,
    truths: Sequence[Truth] | None = None,
    score_threshold: float | None = None,
    tolerances: Tolerances | None = None,
    on_progress: OnProgress | None = None,
) -> Verification:
    """Run two files of one model on the same images and compare their answers.

    Args:
        first: A name and the model that is taken as right.
        second: The one to be judged.
        sources: Images, as `Detector.__call__` takes them; one at a time is held.
        truths: What is in each image, for the task's own measure; None if it is not known. For classification, None
            takes the folders of the images, if they have the names of classes.
        score_threshold: From which on detections count; None takes what a graph that suppresses has inside, else 0.25.
        tolerances: What is allowed.
        on_progress: Called before each image.

    Raises:
        InputError: there are no images, the models have other tasks, classes or keypoints, or a graph has thresholds of
            its own that hide what is compared, or a threshold is given for classification.
        ImageError: an image cannot be read.
        SessionError: a runtime failed.
        DependencyError: there are truths, and what computes mAP is not installed.
    """
    if not sources:
        raise InputError("no images to compare on", expected="at least one")
    measure = _common_measure(first, second)
    inside = [detector.info.nms for _, detector in (first, second) if detector.info.nms is not None]
    if score_threshold is None:
        score_threshold = max((nms.score_threshold for nms in inside), default=DetectOptions().score_threshold)
    elif not measure.overlap_title:
        raise InputError(
            "has no effect for a classification model", subject="score_threshold (--conf)", hint="leave it out"
        )
    if truths is None:
        truths = measure.known_truths(sources, first[1].class_names)
    one, other = (
        _Run(detector, measure, score_threshold, inside[0] if inside else None, has_truths=truths is not None)
        for _, detector in (first, second)
    )
    for source in tracked(sources, "comparing", on_progress):
        image = as_image(source, count=first[1].info.channels)
        for run in (one, other):
            run.add(image)
    compared = measure.compare(one.found, other.found, score_threshold)
    verification = Verification(
        sides=(_side(first, one, score_threshold, truths), _side(second, other, score_threshold, truths)),
        images=len(sources),
        score_threshold=score_threshold,
        levels=_levels(one, other),
        agreement=compared.agreement,
        ious=compared.ious,
        scores=compared.scores,
        task=first[1].info.task,
        details=compared.details,
    )
    return judge(verification, tolerances or Tolerances())


def _common_measure(first: tuple[str, Detector], second: tuple[str, Detector]) -> Measure:
    """How both models are judged.

    Raises:
        InputError: they cannot be compared.
    """
    (name, one), (other_name, other) = first, second
    measure = measure_of(one.info, name)
    measure_of(other.info, other_name)
    if one.info.task != other.info.task:
        raise InputError(
            "the two models have different tasks, so they cannot be compared", subject=other_name,
            expected=f"a {task_of(one.info, name).title}", got=f"a {task_of(other.info, other_name).title}",
        )  # fmt: skip
    if not _same_classes(one.class_names, other.class_names):
        raise InputError(
            "the two models have different classes, so they cannot be compared",
            subject=other_name,
            expected=f"{len(one.class_names)} classes: {_listed(one.class_names)}",
            got=f"{len(other.class_names)}: {_listed(other.class_names)}",
        )
    if one.info.keypoint_shape != other.info.keypoint_shape:
        raise InputError(
            "the two models find different keypoints, so they cannot be compared", subject=other_name,
            expected=str(one.info.keypoint_shape), got=str(other.info.keypoint_shape),
        )  # fmt: skip
    if one.info.transform != other.info.transform:
        raise InputError(
            "the two models see different parts of an image, so they cannot be compared", subject=other_name,
            expected=str(one.info.transform), got=str(other.info.transform), hint="give the same transform to both",
        )  # fmt: skip
    return measure


def judge(verification: Verification, tolerances: Tolerances) -> Verification:
    """The verification with a verdict for each tolerance."""
    measure, share = verification.measure, verification.agreement.share
    compared = verification.agreement.first_count + verification.agreement.second_count
    checks = [Check("agreement", share, tolerances.agreement, is_floor=True)]
    if measure.overlap_title:  # two that see nothing prove nothing; a class is always given
        checks.insert(0, Check(f"{measure.counted[1]} compared", compared, 1, is_floor=True))
    if verification.ious:
        iou = statistics.fmean(verification.ious)
        checks.append(Check(f"mean {measure.overlap_title} of pairs", iou, tolerances.iou, is_floor=True))
        score = statistics.fmean(abs(a - b) for a, b in verification.scores)
        checks.append(Check("mean score difference", score, tolerances.score, is_floor=False))
    for detail in verification.details:
        if detail.limit == "iou":
            checks.append(Check(f"mean {detail.name} of pairs", detail.mean, tolerances.iou, is_floor=True))
        elif detail.limit == "score":
            checks.append(Check(f"mean {detail.name}", detail.mean, tolerances.score, is_floor=False))
    right, judged = (side.accuracy for side in verification.sides)
    if right is not None and judged is not None:
        checks.append(Check(f"{measure.title} lost", right - judged, tolerances.drop, is_floor=False))
    return replace(verification, checks=tuple(checks))


class _Run:
    """One model's answers, gathered image by image."""

    def __init__(
        self,
        detector: Detector,
        measure: Measure,
        score_threshold: float,
        inside: NmsConfig | None,
        *,
        has_truths: bool,
    ) -> None:
        self._detector = detector
        self.measure = measure
        self._session = host_session(detector)
        self._options = measure.options(detector, score_threshold, other=inside)
        lowest = MAP_THRESHOLD / LOWERED_SHARE
        self._all_options = measure.options(detector, lowest, other=inside, lowest=True) if has_truths else None
        self.everything: list[Any] = []
        self.found: list[Any] = []
        self.cells: list[Cells | None] = []
        self._cells_held = 0
        self.input_hws: list[tuple[int, int]] = []
        self.run_s: list[float] = []
        self.total_s: list[float] = []

    @property
    def strides(self) -> tuple[int, ...]:
        return self._detector.info.strides

    def add(self, image: Source) -> None:
        detector = self._detector
        feed = feed_of(detector, image)
        if not self.found:
            self._session.run(feed)  # the first run is slower: memory is laid out
        start = time.perf_counter()
        outputs = self._session.run(feed)
        self.run_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        self.found.append(detector(image, options=self._options, channels="bgr"))  # as `verify` has read it
        self.total_s.append(time.perf_counter() - start)
        if self._all_options is not None:
            self.everything.append(detector(image, options=self._all_options, channels="bgr"))
        if len(self.cells) < LEVEL_IMAGES and self._cells_held < MAX_CELLS:
            array = feed[images_first(self._session.inputs)[0].name]
            self.input_hws.append(array.shape[1:3] if detector.info.input_form == "image" else array.shape[2:4])
            form = form_of(detector.info, detector.model_name)
            places = form.places(self._session.outputs, detector.info)
            cells = form.cells([outputs[place] for place in places], detector.info)
            self._cells_held += 0 if cells is None else len(cells[1])
            self.cells.append(cells)


def _same_classes(first: Sequence[str], second: Sequence[str]) -> bool:
    """A file without class names has their numbers instead, and contradicts no names."""
    numbers = tuple(map(str, range(len(first))))
    return len(first) == len(second) and (tuple(first) == tuple(second) or numbers in {tuple(first), tuple(second)})


def _listed(names: Sequence[str], count: int = 6) -> str:
    return ", ".join(name[:40] for name in names[:count]) + (", …" if len(names) > count else "")


def _side(named: tuple[str, Detector], run: _Run, score_threshold: float, truths: Sequence[Truth] | None) -> Side:
    name, detector = named
    session = detector.session
    figures: Mapping[str, float] = (
        {} if truths is None else run.measure.figures(run.everything, truths, detector.class_names)
    )
    return Side(
        name=name,
        session=session.name,
        precision=detector.info.precision if session.precision in {None, "float32"} else session.precision,
        output_form=detector.info.output_form,
        detections=sum(run.measure.sees(found, score_threshold) for found in run.found),
        run_ms=1e3 * statistics.median(run.run_s),
        total_ms=1e3 * statistics.median(run.total_s),
        **figures,
        head=detector.info.head,
        input_hw=detector.input_hw,
    )


def _levels(one: _Run, other: _Run) -> tuple[LevelDifference, ...]:
    first = [cells for cells in one.cells if cells is not None]
    second = [cells for cells in other.cells if cells is not None]
    comparable = (
        len(first) == len(second) == len(one.cells)
        and one.input_hws == other.input_hws
        and one.strides == other.strides
    )
    return compare_levels(first, second, one.strides, one.input_hws) if comparable else ()
