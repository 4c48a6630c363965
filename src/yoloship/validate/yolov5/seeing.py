"""What a model sees in each image of a dataset, and which of it is right: `see`.

Each image is read, drawn on its canvas, run and judged by one thread, so that the next ones are read while the network
is busy. The batches of the plan give the canvases their sizes; how many images run at once is the session's choice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.threads import in_threads
from yoloship.datasets.dataset import Fault
from yoloship.detect.stream import ImageBudget
from yoloship.errors import ImageError
from yoloship.images import read_image
from yoloship.validate.yolov5.matching import correct
from yoloship.validate.yolov5.pixels import Placed
from yoloship.validate.yolov5.plan import whole_strides
from yoloship.validate.yolov5.precision import Judged
from yoloship.validate.yolov5.suppression import candidates, suppressed
from yoloship.validate.yolov5.undoing import labels_to_source, shares_of, to_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from yoloship._util.text import OnProgress
    from yoloship.datasets.dataset import Sample
    from yoloship.validate.yolov5.network import Network
    from yoloship.validate.yolov5.plan import Planned
    from yoloship.validate.yolov5.val_options import Yolov5Options

    Floats = npt.NDArray[np.float32]


_AHEAD: Final = 2
_EVERY: Final = 10


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What was found in one image. The holder owns the arrays.

    Attributes:
        index: Its place among the samples.
        boxes_xyxy: (n, 4) float32, source pixels, best first.
        scores: (n,) float32.
        class_ids: (n,) int32.
        labels_xyxy: (m, 4) float32, source pixels, as they come back from the canvas.
        judged: Which detections are right.
        stages_ms: Milliseconds of reading, of the network, and of the rest.
    """

    index: int
    boxes_xyxy: Floats
    scores: Floats
    class_ids: npt.NDArray[np.int32]
    labels_xyxy: Floats
    judged: Judged
    stages_ms: tuple[float, float, float]


def see(
    network: Network,
    samples: Sequence[Sample],
    plan: Sequence[Planned],
    options: Yolov5Options,
    on_progress: OnProgress | None = None,
) -> Iterator[Seen | Fault]:
    """Run a model over a dataset.

    Args:
        network: The model.
        samples: The images.
        plan: Their order and canvases.
        options: Thresholds.
        on_progress: Called now and then.

    Yields:
        One value for each image, in the order of the plan: what was found, or why the image cannot be decoded.

    Raises:
        YoloshipError: the runtime failed.
    """
    budget, failures = ImageBudget(), list[Exception]()
    imgsz = whole_strides(options.imgsz, network.info.size_multiple)
    threads = network.runs + 1 if network.runs == 1 else network.runs

    def work(turn: tuple[int, object]) -> Seen | Fault:
        number, _ = turn
        planned = plan[number]
        sample = samples[planned.index]
        try:
            drawn = _drawn(sample, planned, imgsz, partial(budget.reserve, number))
            return _seen(network, sample, drawn, options)
        except ImageError as error:
            return Fault(sample.path, None, error.problem, "image left out")
        finally:
            budget.release(number)

    turns = in_threads(budget.draw(plan, failures), work, threads=threads, ahead=threads * (1 + _AHEAD))
    try:
        for done, seen in enumerate(turns):
            if on_progress is not None and done % _EVERY == 0:
                on_progress("validating", done, len(plan))
            yield seen
    finally:
        budget.close()


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """An image on its canvas.

    Attributes:
        index: Its place among the samples.
        canvas: (H, W, 3) uint8 BGR.
        placed: Where it lies.
        read_ms: Milliseconds that reading and drawing took.
    """

    index: int
    canvas: npt.NDArray[np.uint8]
    placed: Placed
    read_ms: float


def _drawn(sample: Sample, planned: Planned, imgsz: int, reserve: Callable[[int], None]) -> _Drawn:
    started = time.perf_counter()
    image = read_image(sample.path, reserve=reserve)
    if image.shape[:2] != sample.image_hw:
        raise ImageError("was changed while the dataset was read", subject=str(sample.path))
    placed = Placed.of(sample.image_hw, imgsz, planned.input_hw)
    canvas = placed.draw(image)
    return _Drawn(planned.index, canvas, placed, (time.perf_counter() - started) * 1e3)


def _seen(network: Network, sample: Sample, drawn: _Drawn, options: Yolov5Options) -> Seen:
    started = time.perf_counter()
    rows = network.rows(drawn.canvas, options.score_threshold)
    answered = time.perf_counter()
    boxes, scores, class_ids = candidates(rows, len(network.info.class_names), options.score_threshold)
    kept = suppressed(
        (boxes, scores, class_ids), iou_threshold=options.iou_threshold, max_detections=options.max_detections,
        per_class=not options.single_class,
    )  # fmt: skip
    boxes, scores, class_ids = to_source(boxes[kept], drawn.placed), scores[kept], class_ids[kept]
    shares, label_ids = labels_of(sample)
    if options.single_class:
        class_ids, label_ids = np.zeros_like(class_ids), np.zeros_like(label_ids)
    labels = labels_to_source(shares, drawn.placed)
    judged = Judged(correct(boxes, class_ids, labels, label_ids), scores, class_ids, label_ids)
    ended = time.perf_counter()
    stages_ms = (drawn.read_ms, (answered - started) * 1e3, (ended - answered) * 1e3)
    return Seen(drawn.index, boxes, scores, class_ids, labels, judged, stages_ms)


def labels_of(sample: Sample) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The boxes (m, 4) float32 of an image's labels as shares, and their classes (m,) int64; crowds do not count."""
    truth = sample.truth
    assert truth is not None  # of a dataset with boxes
    boxes, class_ids = truth.boxes_xyxy, truth.class_ids
    if truth.crowd is not None:
        boxes, class_ids = boxes[~truth.crowd], class_ids[~truth.crowd]
    return shares_of(boxes, sample.image_hw), class_ids.astype(np.int64)
