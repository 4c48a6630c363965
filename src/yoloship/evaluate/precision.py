"""Any precision for any graph: `in_precision` joins conversion, calibration and the trial that each needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np

from yoloship.errors import InputError
from yoloship.evaluate.half import convert_and_try
from yoloship.evaluate.quantization import QuantizeOrder, quantize_with_pictures
from yoloship.graph import graph_bytes
from yoloship.model import Precision
from yoloship.pipeline import Detector
from yoloship.pipeline.feeds import feed_of
from yoloship.runtime import OnnxRuntimeSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.evaluate.coco import Truth
    from yoloship.graph.precision import HalfPrecision
    from yoloship.graph.sensitivity import Model, Search, Told
    from yoloship.pipeline.detector import Source


def in_precision(
    model: Model,
    precision: Precision,
    sources: Sequence[Source] = (),
    *,
    order: QuantizeOrder | None = None,
    truths: Sequence[Truth] | None = None,
    told: Told | None = None,
) -> tuple[Model, str]:
    """Bring a float32 graph to a precision, and try it.

    Args:
        model: A float32 detector that the pipeline can use. Not changed.
        precision: What its body shall compute in.
        sources: Pictures like those in use. INT8 and FP8 are calibrated with them and need them; half precision is
            tried on the first few, and without any on noise.
        order: For INT8 and FP8: how. Its precision must be `precision`.
        truths: What is in each picture: then INT8's and FP8's budget is of mAP.
        told: Told of the progress.

    Returns:
        The graph, and in a few words what became of it.

    Raises:
        InputError: INT8 or FP8 without pictures; truths that do not fit them.
        ImageError: a picture cannot be read.
        GraphError: it cannot be brought there, or not within the budget.
        SessionError: it is no detector that the pipeline knows.
    """
    if precision not in get_args(Precision):
        raise InputError(
            "no such precision", subject="precision", expected=", ".join(get_args(Precision)), got=repr(precision)
        )
    if precision == "float32":
        return model, "float32"
    if precision in {"int8", "float8"}:
        order = order or QuantizeOrder(precision="int8" if precision == "int8" else "float8")
        if order.precision != precision:
            raise InputError("the order is for another precision", expected=precision, got=order.precision)
        if not sources:
            raise InputError(
                f"{precision} needs pictures to calibrate with", subject="calibrate", hint="give a folder of pictures"
            )
        found = quantize_with_pictures(model, sources, order, truths=truths, told=told)
        return found.model, _words(found, order, truths)
    half: HalfPrecision = "float16" if precision == "float16" else "bfloat16"
    converted, layers = convert_and_try(model, half, _trial(model, sources, order))
    kept = f"; float32 in {len(layers)} layers that overflow" if layers else ""
    return converted, f"{half}{kept}"


def _words(found: Search, order: QuantizeOrder, truths: Sequence[Truth] | None) -> str:
    """What became of it, for a line of output."""
    remainder = f" with {order.between}" if order.between != "float32" else ""
    if truths is None:
        seen = f"detections agree with float32 to {1 - found.drop:.1%} over IoU 0.5 to 0.95"
    else:
        seen = f"mAP is {abs(found.drop):.4f} {'below' if found.drop >= 0 else 'above'} float32's"
    kept = f"; {order.between} in {', '.join(found.kept)}" if found.kept else ""
    return f"{order.precision}{remainder}, {seen}{kept}"


def _trial(
    model: Model, sources: Sequence[Source], order: QuantizeOrder | None
) -> list[dict[str, npt.NDArray[np.generic]]]:
    with OnnxRuntimeSession.open(graph_bytes(model)) as session:
        detector = Detector(session, imgsz=order.imgsz if order else None, subject=model.graph.name[:60] or "graph")
        noise = np.random.default_rng(0).integers(0, 256, (*detector.input_hw, 3), np.uint8)
        return [feed_of(detector, source) for source in (*sources[:3], noise)]
