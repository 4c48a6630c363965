"""How much worse than in float32 a graph sees: what a budget such as ``--max-drop 0.005`` is held against.

Where the truth is known it is the loss of mAP. Where it is not, it is what `tight_share` of detections lacks to 1: that
falls with boxes that are lost, and with boxes that fit less tightly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.errors import ImageError, InputError
from yoloship.evaluate.coco import mean_average_precision
from yoloship.evaluate.matching import FAINT_SHARE, tight_share
from yoloship.evaluate.verification import MAP_THRESHOLD, faint_options
from yoloship.graph import graph_bytes
from yoloship.pipeline import Detector
from yoloship.runtime import OnnxRuntimeSession

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yoloship.evaluate.coco import Truth
    from yoloship.evaluate.quantization import QuantizeOrder
    from yoloship.graph.sensitivity import Model
    from yoloship.pipeline import DetectOptions
    from yoloship.pipeline.detector import Source
    from yoloship.results import Detections

    Open = Callable[[Model], Detector]

HELD_BACK_FROM: Final = 16
"""With at least this many pictures every fourth is held back from calibration, and the budget is measured on those; of
fewer none can be spared, and all serve both."""
MEASURE_PICTURES: Final = 64
"""On at most this many: each costs a run for each step of a search."""


def split(count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which pictures calibrate, and which measure.

    Args:
        count: How many there are.

    Returns:
        Their places, in order.
    """
    held_back = range(3, count, 4) if count >= HELD_BACK_FROM else range(count)
    rest = [place for place in range(count) if place not in held_back] if count >= HELD_BACK_FROM else range(count)
    return tuple(rest), tuple(spread(held_back, MEASURE_PICTURES))


def spread(things: Sequence[int], count: int) -> list[int]:
    """At most so many, evenly from all."""
    places = np.unique(np.linspace(0, len(things) - 1, count).round().astype(int)).tolist()
    return [things[place] for place in places]


def opener(imgsz: tuple[int, int] | None) -> Open:
    """Opens graphs as detectors on the CPU, with this size where they leave it open."""

    def opened(model: Model) -> Detector:
        session = OnnxRuntimeSession.open(graph_bytes(model))
        try:
            return Detector(session, imgsz=imgsz, subject=model.graph.name[:60] or "graph")
        except BaseException:
            session.close()
            raise

    return opened


class Disagreement:
    """How far detections on some pictures lie from those of a float32 model: 1 − `tight_share`.

    Args:
        right: The float32 model; it is run here, and not later.
        sources: Pictures.
        order: Its score threshold says which detections count.
        opened: Opens a graph.

    Raises:
        ImageError: a picture cannot be read; or nothing is detected on any, and the budget wants it to be.
    """

    def __init__(self, right: Detector, sources: Sequence[Source], order: QuantizeOrder, opened: Open) -> None:
        self._score_threshold = order.score_threshold
        self._options = faint_options(right, order.score_threshold)
        self._want = _found(right, sources, self._options)
        self._sources = sources
        self._opened = opened
        self.is_empty = not any(found.filter(min_score=order.score_threshold) for found in self._want)
        """Whether float32 detects nothing at all, so that agreement says nothing."""
        if order.max_drop < 1 and self.is_empty:
            raise ImageError(
                "nothing is detected on any of the images, so agreement cannot be measured",
                subject="calibration images",
                expected=f"detections of at least {order.score_threshold:g}",
                hint="give images like those in use, or --max-drop 1 to quantize blindly",
            )

    def __call__(self, model: Model) -> float:
        """What agreement of a graph's detections with float32's lacks to 1."""
        with self._opened(model) as changed:
            return 1 - tight_share(self._want, _found(changed, self._sources, self._options), self._score_threshold)


class PrecisionLoss:
    """How much mAP over IoU 0.5 to 0.95 is lost against a float32 model; below 0 where it is gained.

    Args:
        right: The float32 model; it is run here, and not later.
        sources: Pictures.
        truths: What is in each.
        order: Its budget, which must be less than what float32 has to lose.
        opened: Opens a graph.

    Raises:
        ImageError: a picture cannot be read.
        InputError: no picture has any object, a class id has no name, or float32 finds so little of what the labels
            name that any graph would be within the budget.
        DependencyError: what computes mAP is not installed.
    """

    def __init__(
        self, right: Detector, sources: Sequence[Source], truths: Sequence[Truth], order: QuantizeOrder, opened: Open
    ) -> None:
        self._options = faint_options(right, MAP_THRESHOLD / FAINT_SHARE, lowest=True)
        self._names = right.names
        self._sources = sources
        self._truths = truths
        self._opened = opened
        self._want = self._measure(right)
        self.is_empty = self._want <= 0
        """Whether float32 finds nothing of what the labels name, so that it has nothing to lose."""
        if self._want <= order.max_drop < 1:
            raise InputError(
                "the float32 model finds hardly anything of what the labels name, so every loss would be within the "
                "budget",
                subject="labels",
                expected=f"a mAP above {order.max_drop:g} in float32",
                got=f"{self._want:.4f}",
                hint="check that the labels belong to these images and that their class ids are the model's; "
                "--max-drop 1 quantizes blindly",
            )

    def __call__(self, model: Model) -> float:
        """What a graph's mAP lacks to float32's."""
        with self._opened(model) as changed:
            return self._want - self._measure(changed)

    def _measure(self, detector: Detector) -> float:
        found = _found(detector, self._sources, self._options)
        return mean_average_precision(found, self._truths, self._names).map50_95


def _found(detector: Detector, sources: Sequence[Source], options: DetectOptions) -> list[Detections]:
    return [detector(source, options=options) for source in sources]
