"""Checks whether two files of one model give the same detections: `verify`."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.text import tracked
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.detect.preprocess import as_image, feed_of, host_session
from yoloship.errors import InputError
from yoloship.evaluate.coco import mean_average_precision
from yoloship.evaluate.matching import LOWERED_SHARE, Agreement, LevelDifference, agree, compare_levels, match
from yoloship.kinds import kind_of
from yoloship.models.gpu_loading import load_network_on_gpu
from yoloship.models.loading import load
from yoloship.models.releases import resolve
from yoloship.models.vetting import vetted
from yoloship.runtime import RunOptions, Session, choose_runtime, open_session
from yoloship.tasks import form_of, info_of, refuse_other_results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from yoloship._util.text import OnProgress
    from yoloship.detect.detector import Source
    from yoloship.evaluate.coco import Truth
    from yoloship.model import NmsConfig, Precision
    from yoloship.results.detections import Detections
    from yoloship.runtime.session import RuntimePrecision
    from yoloship.tasks.task import Cells
    from yoloship.transforms import Transform


class EmulatedSession(Session):
    """A session on a graph whose half precision is emulated; see `yoloship.graph.passes.half`.

    Args:
        session: Runs the emulating graph; closed with this one.
        precision: What the graph computes in that is emulated.
    """

    def __init__(self, session: Session, precision: Precision) -> None:
        super().__init__(session.inputs, session.outputs, session.metadata)
        self._session = session
        self._precision = precision

    @property
    def name(self) -> str:
        """What runs it, and that half precision is emulated."""
        return f"{self._session.name}, half precision emulated"

    @property
    def precision(self) -> Precision:
        """What the graph computes in that is emulated."""
        return self._precision

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Run once; many threads may at the same time. `Session.run` says what is taken and given."""
        return self._session.run(feeds)

    def close(self) -> None:
        """Close the session that runs the graph. Closing twice is not an error."""
        self._session.close()


def open_artefact(
    model: str | Path,
    *,
    imgsz: tuple[int, int] | None = None,
    runtime: str | None = None,
    runtime_precision: RuntimePrecision | None = None,
    transform: Transform | str | None = None,
) -> Detector:
    """Load a model; a graph in half precision rounds where the graph says, which ONNX Runtime alone does not do.

    An engine runs on the first GPU, between the steps of the CPU's pipeline: so a comparison sees the network alone.

    Args:
        model: A checkpoint, an ONNX file, an engine, or the name of a release.
        imgsz: (height, width) in model pixels; None takes the graph's own, else 640.
        runtime: What runs the network; None takes the default, and emulates half precision.
        runtime_precision: What the runtime computes float32 layers in; None takes float32.
        transform: For classification models: how an image becomes the input; None takes what the file says.

    Raises:
        YoloshipError: as `yoloship.models.loading.load`.
    """
    path = resolve(model)
    kind = kind_of(path)
    if kind == "engine":
        choose_runtime(runtime, kind, "cuda", runtime_precision, model_name=str(path))
        return load_network_on_gpu(path, 0, imgsz=imgsz, model_name=str(path), transform=transform)
    if kind == "checkpoint" or runtime is not None or runtime_precision is not None:
        return load(
            path, imgsz=imgsz, device="cpu", runtime=runtime, runtime_precision=runtime_precision, transform=transform
        )

    from yoloship.graph import graph_bytes
    from yoloship.graph.body import body_precision
    from yoloship.graph.onnx_file import parse_onnx, read_file
    from yoloship.graph.passes.half import emulate, is_half

    graph = parse_onnx(read_file(path), str(path))
    if not is_half(graph):
        return load(path, imgsz=imgsz, device="cpu", transform=transform)
    checked = vetted(graph_bytes(emulate(graph)), str(path), imgsz)
    plain = open_session(checked.source, RunOptions(model_name=str(path), limit_s=checked.limit_s))
    session = EmulatedSession(plain, body_precision(graph))
    try:
        info = info_of(session, str(path), canvas_hw=imgsz)
        if transform is not None:
            info = info.with_transform(transform, subject=str(path))
        return Detector(session, info, imgsz=imgsz, model_name=str(path))
    except BaseException:
        session.close()
        raise


MAP_THRESHOLD: Final = 0.001
"""Precision is averaged over all scores, so detections are taken from here on; a graph of the form ``nms`` gives those
above its own threshold only, and a smaller mAP for that."""
LEVEL_IMAGES: Final = 32
"""Cells are compared on this many images, the first; all of each are held, 25,200 at 640×640."""
MAX_CELLS: Final = 1 << 22
"""Held of each model at most, but for the last image's: 84 MB, however large the model's input is."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How much two files of one model may differ.

    Attributes:
        agreement: Least share of detections that both see.
        iou: Least overlap of two that are one object, in the mean over all pairs.
        score: Largest difference of their scores, in the mean over all pairs.
        drop: Largest loss of mAP from the first to the second, where there are labels.
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
        detections: How many it found, at the threshold.
        run_ms: Median time of the model alone, an image.
        total_ms: Median time from the decoded image to the boxes.
        map50_95: Mean average precision over IoU 0.5 to 0.95; None without labels.
    """

    name: str
    session: str
    precision: str
    output_form: str
    detections: int
    run_ms: float
    total_ms: float
    map50_95: float | None = None


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
        ious: Overlaps of the pairs.
        scores: Scores of the pairs, of the first and of the second.
        checks: The verdicts.
    """

    sides: tuple[Side, Side]
    images: int
    score_threshold: float
    levels: tuple[LevelDifference, ...]
    agreement: Agreement
    ious: tuple[float, ...]
    scores: tuple[tuple[float, float], ...]
    checks: tuple[Check, ...] = ()

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
    """Run two files of one model on the same images and compare their detections.

    Args:
        first: A name and the model that is taken as right.
        second: The one to be judged.
        sources: Images, as `Detector.__call__` takes them; one at a time is held.
        truths: The objects in each image, for mAP; None if they are not known.
        score_threshold: From which on detections count; None takes what a graph that suppresses has inside, else 0.25.
        tolerances: What is allowed.
        on_progress: Called before each image.

    Raises:
        InputError: there are no images, a model does not give boxes, the models have other classes, or a graph has
            thresholds of its own that hide what is compared.
        ImageError: an image cannot be read.
        SessionError: a runtime failed.
        DependencyError: there are truths, and what computes mAP is not installed.
    """
    if not sources:
        raise InputError("no images to compare on", expected="at least one")
    for name, detector in (first, second):
        refuse_other_results(detector.info, name, "compared")
    refuse_other_classes(first, second)
    inside = [detector.info.nms for _, detector in (first, second) if detector.info.nms is not None]
    if score_threshold is None:
        score_threshold = max((nms.score_threshold for nms in inside), default=DetectOptions().score_threshold)
    runs = tuple(
        _Run(detector, score_threshold, inside[0] if inside else None, has_truths=truths is not None)
        for _, detector in (first, second)
    )
    for source in tracked(sources, "comparing", on_progress):
        image = as_image(source, count=first[1].info.channels)
        for run in runs:
            run.add(image)
    one, other = runs
    pairs = [match(a, b) for a, b in zip(one.found, other.found, strict=True)]
    agreement = agree(one.found, other.found, score_threshold)
    ious, scores = [], []
    for pair, a, b in zip(pairs, one.found, other.found, strict=True):
        for (row, column), iou in zip(pair.pairs.tolist(), pair.ious.tolist(), strict=True):
            if max(a.scores[row], b.scores[column]) >= score_threshold:
                ious.append(iou)
                scores.append((float(a.scores[row]), float(b.scores[column])))
    verification = Verification(
        sides=(_side(first, one, score_threshold, truths), _side(second, other, score_threshold, truths)),
        images=len(sources),
        score_threshold=score_threshold,
        levels=_levels(one, other),
        agreement=agreement,
        ious=tuple(ious),
        scores=tuple(scores),
    )
    return judge(verification, tolerances or Tolerances())


def refuse_other_classes(first: tuple[str, Detector], second: tuple[str, Detector]) -> None:
    """Refuse to compare models of different classes.

    Raises:
        InputError: they have different classes.
    """
    if not _same_classes(first[1].class_names, second[1].class_names):
        raise InputError(
            "the two models have different classes, so they cannot be compared",
            subject=second[0],
            expected=f"{len(first[1].class_names)} classes: {_listed(first[1].class_names)}",
            got=f"{len(second[1].class_names)}: {_listed(second[1].class_names)}",
        )


def judge(verification: Verification, tolerances: Tolerances) -> Verification:
    """The verification with a verdict for each tolerance."""
    share = verification.agreement.share
    compared = verification.agreement.first_count + verification.agreement.second_count
    checks = [
        Check("detections compared", compared, 1, is_floor=True),  # two that see nothing prove nothing
        Check("agreement", share, tolerances.agreement, is_floor=True),
    ]
    if verification.ious:
        iou = statistics.fmean(verification.ious)
        score = statistics.fmean(abs(a - b) for a, b in verification.scores)
        checks.append(Check("mean IoU of pairs", iou, tolerances.iou, is_floor=True))
        checks.append(Check("mean score difference", score, tolerances.score, is_floor=False))
    right, judged = (side.map50_95 for side in verification.sides)
    if right is not None and judged is not None:
        checks.append(Check("mAP lost", right - judged, tolerances.drop, is_floor=False))
    return replace(verification, checks=tuple(checks))


def options_below(
    detector: Detector, score_threshold: float, *, other: NmsConfig | None = None, lowest: bool = False
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


class _Run:
    """One model's answers, gathered image by image."""

    def __init__(
        self, detector: Detector, score_threshold: float, inside: NmsConfig | None, *, has_truths: bool
    ) -> None:
        self._detector = detector
        self._session = host_session(detector)
        self._options = options_below(detector, score_threshold, other=inside)
        lowest = MAP_THRESHOLD / LOWERED_SHARE
        self._all_options = options_below(detector, lowest, other=inside, lowest=True) if has_truths else None
        self.everything: list[Detections] = []
        self.found: list[Detections] = []
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
            (array,) = feed.values()
            self.input_hws.append(array.shape[1:3] if detector.info.input_form == "image" else array.shape[2:4])
            form = form_of(detector.info, detector.model_name)
            cells = form.cells(form.select(outputs, self._session.outputs, detector.info), detector.info)
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
    return Side(
        name=name,
        session=session.name,
        precision=detector.info.precision if session.precision in {None, "float32"} else session.precision,
        output_form=detector.info.output_form,
        detections=sum(int(np.count_nonzero(found.scores >= score_threshold)) for found in run.found),
        run_ms=1e3 * statistics.median(run.run_s),
        total_ms=1e3 * statistics.median(run.total_s),
        map50_95=None
        if truths is None
        else mean_average_precision(run.everything, truths, detector.class_names).map50_95,
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
