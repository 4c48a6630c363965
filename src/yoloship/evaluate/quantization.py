"""From a float32 graph and a folder of pictures to INT8 or FP8 that still sees: `quantize_with_pictures`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.errors import GraphError, InputError
from yoloship.evaluate.budget import Disagreement, PrecisionLoss, opener, split, spread
from yoloship.evaluate.half import convert_and_try, finite
from yoloship.evaluate.running import channel_means, run_model
from yoloship.graph.calibrate import calibrate
from yoloship.graph.emulate import emulate
from yoloship.graph.precision import convert_precision
from yoloship.graph.quantize import QuantizedPrecision, layers, values_to_watch
from yoloship.graph.sensitivity import Quantizer, Search, search
from yoloship.pipeline.feeds import feed_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from yoloship.evaluate.coco import Truth
    from yoloship.graph.sensitivity import Feeds, Measure, Model, Told
    from yoloship.model import Calibrator, Placement, Remainder
    from yoloship.pipeline import Detector
    from yoloship.pipeline.detector import Source

RANKING_PICTURES: Final = 4
"""Enough to tell which modules are sensitive; each costs a run for each module."""


@dataclass(frozen=True, slots=True)
class QuantizeOrder:
    """How a graph shall be quantized.

    Attributes:
        precision: What convolutions compute in.
        calibrator: How the ranges of activations are found.
        placement: Where quantization goes; see `yoloship.model.Placement`.
        max_drop: In [0, 1]: how much worse than float32 it may see, by whichever measure is taken; 1 quantizes
            everything.
        score_threshold: Of the detections that shall agree.
        imgsz: (height, width) in model pixels where the graph leaves them open.
        remainder: What is computed in between the codes, and in layers that are kept; None takes float16 with the
            placement ``inputs``, because TensorRT runs what a graph says is float32 in float32, and float32 with
            ``both_ends``, which is for ONNX Runtime: that has no float16 kernels on a CPU.

    Raises:
        InputError: a value outside its range; float16 with ``both_ends``.
    """

    precision: QuantizedPrecision = "int8"
    calibrator: Calibrator = "percentile"
    placement: Placement = "inputs"
    max_drop: float = 0.005
    score_threshold: float = 0.25
    imgsz: tuple[int, int] | None = None
    remainder: Remainder | None = None

    @property
    def between(self) -> Remainder:
        """The remainder, decided."""
        return self.remainder or ("float16" if self.placement == "inputs" else "float32")

    def __post_init__(self) -> None:
        if self.remainder not in {None, "float32", "float16"}:
            raise InputError("no such choice", subject="remainder", expected="float32 or float16", got=self.remainder)
        if self.remainder == "float16" and self.placement == "both_ends":
            raise InputError(
                "float16 does not go with the placement both_ends",
                subject="remainder",
                expected="float32",
                hint="take the placement inputs for TensorRT",
            )
        for name in ("max_drop", "score_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError("out of range", subject=name, expected="0 to 1", got=str(getattr(self, name)))


def quantize_with_pictures(
    model: Model,
    sources: Sequence[Source],
    order: QuantizeOrder,
    *,
    truths: Sequence[Truth] | None = None,
    measure: Measure | None = None,
    told: Told | None = None,
) -> Search:
    """Calibrate, quantize, and keep unquantized what loses most, until the budget holds.

    Args:
        model: A float32 detector that the pipeline can use: ours, or one of the standard form. Not changed.
        sources: Pictures like those in use; they go through the pipeline's own pre-processing. Some are held back
            from calibration, and the budget is measured on those, see `yoloship.evaluate.budget.split`.
        order: How.
        truths: What is in each picture: then the budget is of mAP.
        measure: How much worse a graph is, in place of the two measures of `yoloship.evaluate.budget`. It gets graphs
            whose half precision is emulated.
        told: Told of the progress.

    Returns:
        The quantized graph, and what the search found.

    Raises:
        InputError: there are no pictures, or truths that do not fit them.
        ImageError: a picture cannot be read, or nothing is seen on any.
        GraphError: the graph cannot be quantized, or not within the budget.
        SessionError: it is no detector that the pipeline knows.
        DependencyError: ONNX Runtime lacks its quantization tools; there are truths, and what computes mAP is missing.
    """
    if not sources:
        raise InputError("no images to calibrate with", expected="at least one")
    if truths is not None and len(truths) != len(sources):
        raise InputError("images and truths differ in number", got=f"{len(sources)} and {len(truths)}")
    every = layers(model)
    calibrating, measuring = split(len(sources))
    opened = opener(order.imgsz)
    with opened(model) as detector:
        ranked = [feed_of(detector, sources[place]) for place in spread(calibrating, RANKING_PICTURES)]
        means = channel_means(model, values_to_watch(every, "inputs"), ranked)
        _check_finite(model, means, ranked)
        watched = [sources[place] for place in measuring]
        if measure is None and truths is not None:
            measure = PrecisionLoss(detector, watched, [truths[place] for place in measuring], order, opened)
        elif measure is None:
            measure = Disagreement(detector, watched, order, opened)
        feeds = _told_feeds(detector, [sources[place] for place in calibrating], told)
        ranges = calibrate(model, values_to_watch(every, order.placement), feeds, order.calibrator)
    quantizer = Quantizer(model, ranges, order.precision, order.placement, means)
    if order.between == "float32":
        found = search(quantizer, ranked, run_model, measure, order.max_drop, told)
    else:
        found = _with_remainder(quantizer, ranked, measure, order, told)
    return replace(found, is_measured=not (isinstance(measure, Disagreement | PrecisionLoss) and measure.is_empty))


def _with_remainder(
    quantizer: Quantizer, feeds: Sequence[Feeds], measure: Measure, order: QuantizeOrder, told: Told | None
) -> Search:
    """A search over graphs that are float16 between their codes, but for the layers that overflow there."""
    _, overflowing = convert_and_try(quantizer.model, "float16", feeds)

    def narrowed(model: Model) -> Model:
        return convert_precision(model, "float16", keep=overflowing)

    def measured(model: Model) -> float:
        return measure(emulate(narrowed(model)))

    found = search(quantizer, feeds, run_model, measured, order.max_drop, told)
    model = narrowed(found.model)
    if not all(finite(outputs) for outputs in run_model(emulate(model), feeds[:1])):
        raise GraphError(
            f"{order.precision} overflows in float16 between its layers",
            subject=model.graph.name[:60],
            hint="take float32 for the remainder",
        )
    return replace(found, model=model)


def _check_finite(model: Model, means: Mapping[str, npt.NDArray[np.float64]], feeds: Sequence[Feeds]) -> None:
    """Refuse a network that is broken before anything is done to it; calibrators pass over numbers that are none."""
    wild = next((name for name, values in means.items() if not np.isfinite(values).all()), None)
    if wild is None and all(finite(outputs) for outputs in run_model(model, feeds)):
        return
    raise GraphError(
        "gives numbers that are not finite, in float32 already",
        subject=model.graph.name[:60],
        got=f"NaN or infinity in {wild[:80]}" if wild else "NaN or infinity at the end",
        hint="the training has diverged, or the file is damaged",
    )


def _told_feeds(detector: Detector, sources: Sequence[Source], told: Told | None) -> Iterator[Feeds]:
    for done, source in enumerate(sources):
        if told is not None:
            told("calibrating", done, len(sources))
        yield feed_of(detector, source)
