"""From a float32 graph and a folder of pictures to INT8 or FP8 that still sees: `quantize_with_pictures`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.errors import ImageError, InputError
from yoloship.evaluate.matching import agree
from yoloship.evaluate.verification import faint_options
from yoloship.graph import graph_bytes
from yoloship.graph.calibrate import Calibrator, calibrate
from yoloship.graph.quantize import Placement, QuantizedPrecision, layers, values_to_watch
from yoloship.graph.sensitivity import Quantizer, Search, ending_at, search
from yoloship.pipeline import Detector
from yoloship.pipeline.feeds import feed_of
from yoloship.runtime import OnnxRuntimeSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from yoloship.graph.sensitivity import Feeds, Measure, Model, Told
    from yoloship.pipeline.detector import Source
    from yoloship.results import Detections

RANKING_PICTURES: Final = 4
"""Enough to tell which modules are sensitive; each costs a run for each module."""
MEASURE_PICTURES: Final = 64
"""Of those given, on how many agreement is measured: each costs a run for each step of the search."""


@dataclass(frozen=True, slots=True)
class QuantizeOrder:
    """How a graph shall be quantized.

    Attributes:
        precision: What convolutions compute in.
        calibrator: How the ranges of activations are found.
        placement: Where quantization goes; see `yoloship.graph.quantize.Placement`.
        max_drop: In [0, 1]: how much less than all the detections may agree with those of float32, or what else
            `measure` measures; 1 quantizes everything.
        score_threshold: Of the detections that shall agree.
        imgsz: (height, width) in model pixels where the graph leaves them open.
    """

    precision: QuantizedPrecision = "int8"
    calibrator: Calibrator = "percentile"
    placement: Placement = "inputs"
    max_drop: float = 0.005
    score_threshold: float = 0.25
    imgsz: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("max_drop", "score_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError("out of range", subject=name, expected="0 to 1", got=str(getattr(self, name)))


def quantize_with_pictures(
    model: Model,
    sources: Sequence[Source],
    order: QuantizeOrder,
    *,
    measure: Measure | None = None,
    told: Told | None = None,
) -> Search:
    """Calibrate, quantize, and keep in float32 what loses most, until the budget holds.

    Args:
        model: A float32 detector that the pipeline can use: ours, or one of the standard form. Not changed.
        sources: Pictures like those in use; they go through the pipeline's own pre-processing.
        order: How.
        measure: How much worse a graph is; None takes 1 − agreement of detections on the pictures.
        told: Told of the progress.

    Returns:
        The quantized graph, and what the search found.

    Raises:
        InputError: there are no pictures.
        ImageError: a picture cannot be read.
        GraphError: the graph cannot be quantized, or not within the budget.
        SessionError: it is no detector that the pipeline knows.
        DependencyError: ONNX Runtime lacks its quantization tools.
    """
    if not sources:
        raise InputError("no pictures to calibrate with", expected="at least one")
    every = layers(model)
    with _detector(model, order) as detector:
        feeds: Iterator[Feeds] = _told_feeds(detector, sources, told)
        ranges = calibrate(model, values_to_watch(every, order.placement), feeds, order.calibrator)
        ranked = [feed_of(detector, source) for source in _spread(sources, RANKING_PICTURES)]
        means = channel_means(model, values_to_watch(every, "inputs"), ranked)
        quantizer = Quantizer(model, ranges, order.precision, order.placement, means)
        measure = measure or _disagreement(detector, _spread(sources, MEASURE_PICTURES), order)
        return search(quantizer, ranked, run_model, measure, order.max_drop, told)


def run_model(model: Model, feeds: Sequence[Feeds]) -> list[tuple[npt.NDArray[np.generic], ...]]:
    """Run a graph over feeds on the CPU."""
    with OnnxRuntimeSession.open(graph_bytes(model)) as session:
        return [session.run(feed) for feed in feeds]


def channel_means(model: Model, names: Sequence[str], feeds: Sequence[Feeds]) -> dict[str, npt.NDArray[np.float64]]:
    """The mean of each channel, (channels,), of these (B, C, H, W) float32 values over some runs."""
    sums = {name: np.zeros(()) for name in names}
    with OnnxRuntimeSession.open(graph_bytes(ending_at(model, names))) as session:
        for feed in feeds:  # one at a time: all these values are held
            for name, value in zip(names, session.run(feed), strict=True):
                sums[name] = sums[name] + value.mean(axis=(0, 2, 3), dtype=np.float64)
    return {name: total / len(feeds) for name, total in sums.items()}


def _told_feeds(detector: Detector, sources: Sequence[Source], told: Told | None) -> Iterator[Feeds]:
    for done, source in enumerate(sources):
        if told is not None:
            told("calibrating", done, len(sources))
        yield feed_of(detector, source)


def _disagreement(detector: Detector, sources: Sequence[Source], order: QuantizeOrder) -> Measure:
    options = faint_options(detector, order.score_threshold)
    want = [detector(source, options=options) for source in sources]
    if order.max_drop < 1 and not any(found.filter(min_score=order.score_threshold) for found in want):
        raise ImageError(
            "nothing is detected on any of the pictures, so agreement cannot be measured",
            subject="calibration pictures",
            expected=f"detections of at least {order.score_threshold:g}",
            hint="give pictures like those in use, or --max-drop 1 to quantize blindly",
        )

    def measure(model: Model) -> float:
        have: list[Detections] = []
        with _detector(model, order) as changed:
            have.extend(changed(source, options=options) for source in sources)
        return 1 - agree(want, have, order.score_threshold).share

    return measure


def _detector(model: Model, order: QuantizeOrder) -> Detector:
    with ExitStack() as stack:
        session = stack.enter_context(OnnxRuntimeSession.open(graph_bytes(model)))
        detector = Detector(session, imgsz=order.imgsz, subject=model.graph.name[:60] or "graph")
        stack.pop_all()
        return detector


def _spread(sources: Sequence[Source], count: int) -> Sequence[Source]:
    """At most so many, evenly from all."""
    return [sources[place] for place in np.unique(np.linspace(0, len(sources) - 1, count).round().astype(int)).tolist()]
