"""Quantizes a float32 graph to INT8 or FP8 with a folder of images, and keeps the loss within a budget.

With labels, the budget is a loss of the task's own measure: mAP of boxes, masks, keypoints or oriented boxes, or top-1
accuracy. Without labels it is a loss of agreement with the float32 graph, which falls if objects are lost or fit less
tightly, or if the most probable class is another. `yoloship.evaluate.measures` has both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.text import tracked
from yoloship.detect.detector import Detector
from yoloship.detect.feeds import feed_of
from yoloship.errors import GraphError, ImageError, InputError
from yoloship.evaluate.matching import LOWERED_SHARE
from yoloship.evaluate.measure import MAP_THRESHOLD
from yoloship.evaluate.measures import measure_of
from yoloship.graph import graph_bytes
from yoloship.graph.passes.half import convert_precision, emulate
from yoloship.graph.passes.quantize import QuantizedPrecision, layers, values_to_watch
from yoloship.precision.calibrate import calibrate
from yoloship.precision.sensitivity import Quantizer, Search, channel_means, convert_and_try, finite, run_model, search
from yoloship.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from yoloship._util.text import OnProgress
    from yoloship.detect.detector import Source
    from yoloship.detect.options import DetectOptions
    from yoloship.evaluate.coco import Truth
    from yoloship.model import Calibrator, OtherLayers, Placement
    from yoloship.precision.sensitivity import Feeds, Measure, Model
    from yoloship.results import Result

    Open = Callable[[Model], Detector]


HELD_BACK_FROM: Final = 16
"""With at least this many images, every fourth is not used for calibration, and the budget is measured on those. With
fewer, all images are used for both."""
MEASURE_IMAGES: Final = 64
"""The most images on which the budget is measured, because each is run in every step of the search."""
RANKING_IMAGES: Final = 4
"""The number of images for ranking modules. It is enough to rank them, and each image is run once for each module."""


def split(count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Choose the images for calibration, and the images for measuring.

    Args:
        count: Number of images.

    Returns:
        The indices of both groups, in order.
    """
    held_back = range(3, count, 4) if count >= HELD_BACK_FROM else range(count)
    rest = [place for place in range(count) if place not in held_back] if count >= HELD_BACK_FROM else range(count)
    return tuple(rest), tuple(spread(held_back, MEASURE_IMAGES))


def spread(things: Sequence[int], count: int) -> list[int]:
    """At most `count` of the things, spread evenly over all."""
    places = np.unique(np.linspace(0, len(things) - 1, count).round().astype(int)).tolist()
    return [things[place] for place in places]


def opener(imgsz: tuple[int, int] | None) -> Open:
    """A function that opens graphs as detectors on the CPU, with this size if they leave it open."""

    def opened(model: Model) -> Detector:
        session = open_session(graph_bytes(model))
        try:
            return Detector(session, imgsz=imgsz, model_name=model.graph.name[:60] or "graph")
        except BaseException:
            session.close()
            raise

    return opened


class Disagreement:
    """How far the answers on some images lie from those of a float32 model: 1 − `Measure.agreement`.

    Args:
        right: The float32 model. It is run here, and not later.
        sources: Images.
        config: Its score threshold says which detections count.
        opened: Opens a graph.

    Raises:
        ImageError: an image cannot be read, or nothing is detected on any image although there is a budget to measure.
    """

    def __init__(self, right: Detector, sources: Sequence[Source], config: QuantizeConfig, opened: Open) -> None:
        self._score_threshold = config.score_threshold
        self._measure = measure_of(right.info, right.model_name)
        self._options = self._measure.options(right, config.score_threshold)
        self._want = _found(right, sources, self._options)
        self._sources = sources
        self._opened = opened
        self.is_empty = not any(self._measure.sees(found, config.score_threshold) for found in self._want)
        """Whether float32 detects nothing at all, so that agreement says nothing."""
        if config.max_drop < 1 and self.is_empty:
            raise ImageError(
                "nothing is detected on any of the images, so agreement cannot be measured",
                subject="calibration images",
                expected=f"detections of at least {config.score_threshold:g}",
                hint="give images like those in production, or 1 as max_drop (--max-drop) to quantize blindly",
            )

    def __call__(self, model: Model) -> float:
        """1 minus the agreement of a graph's answers with those of float32."""
        with self._opened(model) as changed:
            found = _found(changed, self._sources, self._options)
            return 1 - self._measure.agreement(self._want, found, self._score_threshold)


class PrecisionLoss:
    """The loss of the task's own measure, such as mAP, against a float32 model; negative if it rises.

    Args:
        right: The float32 model. It is run here, and not later.
        sources: Images.
        truths: The objects in each image.
        config: Its budget must be less than the measure of float32.
        opened: Opens a graph.

    Raises:
        ImageError: an image cannot be read.
        InputError: no image has any object, a class id has no name, or float32 finds so few of the labelled objects
            that any graph would be within the budget.
        DependencyError: the package that computes mAP is not installed.
    """

    def __init__(
        self, right: Detector, sources: Sequence[Source], truths: Sequence[Truth], config: QuantizeConfig, opened: Open
    ) -> None:
        self._measure = measure_of(right.info, right.model_name)
        self._options = self._measure.options(right, MAP_THRESHOLD / LOWERED_SHARE, lowest=True)
        self._names = right.class_names
        self._sources = sources
        self._truths = truths
        self._opened = opened
        self._want = self._figure(right)
        self.is_empty = self._want <= 0
        """Whether float32 finds nothing of what the labels name, so that it has nothing to lose."""
        if self._want <= config.max_drop < 1:
            raise InputError(
                "the float32 model finds hardly anything that is labelled, so every loss would be within the budget",
                subject="labels",
                expected=f"a {self._measure.title} above {config.max_drop:g} in float32",
                got=f"{self._want:.4f}",
                hint="check that the labels belong to these images and that their class ids are the model's; "
                "1 as max_drop (--max-drop) quantizes blindly",
            )

    def __call__(self, model: Model) -> float:
        """The measure of float32 minus that of a graph."""
        with self._opened(model) as changed:
            return self._want - self._figure(changed)

    def _figure(self, detector: Detector) -> float:
        found = _found(detector, self._sources, self._options)
        return self._measure.figures(found, self._truths, self._names)[self._measure.figure]


def _found(detector: Detector, sources: Sequence[Source], options: DetectOptions) -> list[Result]:
    return [detector(source, options=options) for source in sources]


@dataclass(frozen=True, slots=True)
class QuantizeConfig:
    """How a graph should be quantized.

    Attributes:
        precision: Type of the codes in which convolutions compute.
        calibrator: How the ranges of activations are found.
        placement: Where quantization goes; see `yoloship.model.Placement`.
        max_drop: The budget: how much worse than float32 the result may be, in [0, 1]. 1 quantizes everything.
        score_threshold: The least score of detections that should agree.
        imgsz: (height, width) in model pixels if the graph leaves them open.
        other_layers: Precision between the codes and in layers that are not quantized. None takes float16 with the
            placement ``inputs``, because TensorRT keeps float32 layers in float32. With ``inputs_and_outputs``, which
            is for ONNX Runtime, None takes float32, because ONNX Runtime has no float16 kernels on a CPU.

    Raises:
        InputError: a value outside its range; float16 with ``inputs_and_outputs``.
    """

    precision: QuantizedPrecision = "int8"
    calibrator: Calibrator = "percentile"
    placement: Placement = "inputs"
    max_drop: float = 0.005
    score_threshold: float = 0.25
    imgsz: tuple[int, int] | None = None
    other_layers: OtherLayers | None = None

    @property
    def between(self) -> OtherLayers:
        """The precision of the other layers, with None resolved."""
        return self.other_layers or ("float16" if self.placement == "inputs" else "float32")

    def __post_init__(self) -> None:
        if self.other_layers not in {None, "float32", "float16"}:
            raise InputError(
                "no such choice", subject="other_layers", expected="float32 or float16", got=self.other_layers
            )
        if self.other_layers == "float16" and self.placement == "inputs_and_outputs":
            raise InputError(
                "float16 does not go with the placement inputs_and_outputs",
                subject="other_layers",
                expected="float32",
                hint="use the placement inputs for TensorRT",
            )
        for name in ("max_drop", "score_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError("out of range", subject=name, expected="0 to 1", got=str(getattr(self, name)))


def quantize_with_images(
    model: Model,
    sources: Sequence[Source],
    config: QuantizeConfig,
    *,
    truths: Sequence[Truth] | None = None,
    measure: Measure | None = None,
    on_progress: OnProgress | None = None,
) -> Search:
    """Calibrate and quantize, and leave the modules unquantized that lose most, until the budget holds.

    Args:
        model: A float32 detector that the pipeline can use: ours, or one with the standard output. It is not changed.
        sources: Images like those in use. They go through the pipeline's own pre-processing. Some are not used for
            calibration, and the budget is measured on those; see `split`.
        config: Settings.
        truths: What is in each image. If they are given, the budget is a loss of the task's own measure.
        measure: Measures how much worse a graph is, in place of the two measures of this module. It gets graphs whose
            half precision is emulated.
        on_progress: Called before each step.

    Returns:
        The quantized graph and the result of the search.

    Raises:
        InputError: there are no images, or truths that do not fit them.
        ImageError: an image cannot be read, or nothing is detected on any.
        GraphError: the graph cannot be quantized, or not within the budget.
        SessionError: it is not a detector that the pipeline knows.
        DependencyError: ONNX Runtime lacks its quantization tools, or truths are given and the package that computes
            mAP is missing.
    """
    if not sources:
        raise InputError("no images to calibrate with", expected="at least one")
    if truths is not None and len(truths) != len(sources):
        raise InputError("images and truths differ in number", got=f"{len(sources)} and {len(truths)}")
    all_layers = layers(model)
    calibrating, measuring = split(len(sources))
    opened = opener(config.imgsz)
    with opened(model) as detector:
        ranked = [feed_of(detector, sources[place]) for place in spread(calibrating, RANKING_IMAGES)]
        means = channel_means(model, values_to_watch(all_layers, "inputs"), ranked)
        _check_finite(model, means, ranked)
        watched = [sources[place] for place in measuring]
        if measure is None and truths is not None:
            measure = PrecisionLoss(detector, watched, [truths[place] for place in measuring], config, opened)
        elif measure is None:
            measure = Disagreement(detector, watched, config, opened)
        feeds = _tracked_feeds(detector, [sources[place] for place in calibrating], on_progress)
        ranges = calibrate(model, values_to_watch(all_layers, config.placement), feeds, config.calibrator)
    quantizer = Quantizer(model, ranges, config.precision, config.placement, means)
    if config.between == "float32":
        found = search(quantizer, ranked, run_model, measure, config.max_drop, on_progress)
    else:
        found = _with_float16_layers(quantizer, ranked, measure, config, on_progress)
    return replace(found, is_measured=not (isinstance(measure, Disagreement | PrecisionLoss) and measure.is_empty))


def _with_float16_layers(
    quantizer: Quantizer,
    feeds: Sequence[Feeds],
    measure: Measure,
    config: QuantizeConfig,
    on_progress: OnProgress | None,
) -> Search:
    """A search over graphs that are float16 between their codes, except in layers that overflow."""
    _, overflowing = convert_and_try(quantizer.model, "float16", feeds)

    def narrowed(model: Model) -> Model:
        return convert_precision(model, "float16", keep=overflowing)

    def measured(model: Model) -> float:
        return measure(emulate(narrowed(model)))

    found = search(quantizer, feeds, run_model, measured, config.max_drop, on_progress)
    model = narrowed(found.model)
    if not all(finite(outputs) for outputs in run_model(emulate(model), feeds[:1])):
        raise GraphError(
            f"{config.precision} overflows in float16 between its layers",
            subject=model.graph.name[:60],
            hint="use float32 for the other layers",
        )
    return replace(found, model=model)


def _check_finite(model: Model, means: Mapping[str, npt.NDArray[np.float64]], feeds: Sequence[Feeds]) -> None:
    """Refuse a network that gives NaN or infinity in float32 already, because calibrators ignore such values."""
    wild = next((name for name, values in means.items() if not np.isfinite(values).all()), None)
    if wild is None and all(finite(outputs) for outputs in run_model(model, feeds)):
        return
    raise GraphError(
        "gives numbers that are not finite, even in float32",
        subject=model.graph.name[:60],
        got=f"NaN or infinity in {wild[:80]}" if wild else "NaN or infinity at the end",
        hint="the training has diverged, or the file is damaged",
    )


def _tracked_feeds(detector: Detector, sources: Sequence[Source], on_progress: OnProgress | None) -> Iterator[Feeds]:
    for source in tracked(sources, "calibrating", on_progress):
        yield feed_of(detector, source)
