"""`in_precision` converts any graph to any precision: conversion, calibration and a trial run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

import numpy as np

from yoloship.detect.detector import Detector
from yoloship.detect.feeds import feed_of
from yoloship.errors import GraphError, InputError, SessionError
from yoloship.evaluate.measures import measure_of
from yoloship.graph import graph_bytes
from yoloship.graph.body import body_precision, is_heavy
from yoloship.graph.describe import count_flops, infer_values, one_image
from yoloship.graph.onnx_file import tensor_spec
from yoloship.graph.passes.half import is_half, quantized_precision
from yoloship.model import Precision
from yoloship.models.vetting import refusal
from yoloship.precision.calibrate import survey
from yoloship.precision.quantization import HELD_BACK_FROM, QuantizeConfig, opener, quantize_with_images
from yoloship.precision.sensitivity import convert_and_try, finite, run_model
from yoloship.runtime import open_session
from yoloship.tasks import info_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    import onnx

    from yoloship._util.text import OnProgress
    from yoloship.detect.detector import Source
    from yoloship.evaluate.coco import Truth
    from yoloship.evaluate.measure import Measure
    from yoloship.graph.describe import Value
    from yoloship.graph.passes.half import HalfPrecision
    from yoloship.precision.sensitivity import Feeds, Model, Search


_OPEN_HW: Final = (640, 640)
"""(height, width) for counting operations, if the graph leaves them open. Shares hardly depend on it."""
MAX_NAMED: Final = 6
"""The most modules that the line of output names."""
_OF_NOISE: Final = "torchvision-v1"
"""The transform of noise, for a classifier whose own transform is left open: any does that normalises."""
USEFUL_SHARE: Final = 0.5
"""The least share of the arithmetic in codes. A graph with less is hardly faster than one without codes."""


@dataclass(frozen=True, slots=True)
class QuantizedShare:
    """How many of a network's weighted layers compute in codes.

    Attributes:
        quantized: Number of convolutions and matrix products whose data and weights are both quantized.
        layers: Number of all convolutions and matrix products.
        arithmetic: The share of operations in quantized layers, in [0, 1]; None if shapes are not known.
    """

    quantized: int
    layers: int
    arithmetic: float | None

    def __str__(self) -> str:
        text = f"{self.quantized} of {self.layers} convolutions"
        return text if self.arithmetic is None else f"{text}, {self.arithmetic:.0%} of the arithmetic"


def quantized_share(model: onnx.ModelProto) -> QuantizedShare:
    """Count the layers that compute in codes.

    Args:
        model: A graph, quantized or not. It is not changed.
    """
    decoded = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.output}
    heavy = [node for node in model.graph.node if is_heavy(node) and len(node.input) > 1 and node.output]
    quantized = [node for node in heavy if decoded.issuperset(node.input[:2])]
    values = _values(model)
    total, inside = count_flops(heavy, values), count_flops(quantized, values)
    return QuantizedShare(len(quantized), len(heavy), inside / total if total and inside is not None else None)


def _values(model: onnx.ModelProto) -> Mapping[str, Value]:
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(tensor_spec(value, "graph") for value in model.graph.input if value.name not in stored)
    input_hw, fixed = one_image(inputs, _OPEN_HW)
    return (infer_values(model, inputs[0].name, fixed) if input_hw is not None else None) or {}


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """A graph that was converted to another precision, and tried.

    Attributes:
        model: The graph.
        words: A summary of the result, for a line of output.
        warnings: Warnings for the user about the result, a sentence each.
        not_on_cpu: Why the installed ONNX Runtime cannot run the graph on a CPU; None if it can.
    """

    model: Model
    words: str
    warnings: tuple[str, ...] = ()
    not_on_cpu: str | None = None


def in_precision(
    model: Model,
    precision: Precision,
    sources: Sequence[Source] = (),
    *,
    config: QuantizeConfig | None = None,
    truths: Sequence[Truth] | None = None,
    on_progress: OnProgress | None = None,
) -> Lowered:
    """Convert a float32 graph to another precision, and try it.

    Args:
        model: A float32 detector that the pipeline can use. It is not changed.
        precision: Element type in which its body should compute.
        sources: Images like those in use. INT8 and FP8 need them for calibration. Half precision is tried on the first
            few of them, or on noise if there are none.
        config: Settings for INT8 and FP8. Its precision must be `precision`.
        truths: What is in each image. If they are given, the budget of INT8 and FP8 is a loss of the task's own
            measure. For classification, None takes the folders of the images, if they have the names of classes.
        on_progress: Called before each step.

    Returns:
        The graph, a summary, and warnings for the user.

    Raises:
        InputError: INT8 or FP8 without images, or with images of a single colour; truths that do not fit them.
        ImageError: an image cannot be read.
        GraphError: the graph cannot be converted, or not within the budget.
        SessionError: it is not a detector that the pipeline knows.
    """
    if precision not in get_args(Precision):
        raise InputError(
            "no such precision", subject="precision", expected=", ".join(get_args(Precision)), got=repr(precision)
        )
    if precision == "float32":
        return Lowered(model, "float32")
    if is_half(model) or quantized_precision(model) is not None:
        raise GraphError(
            "is in lower precision already", subject=model.graph.name[:60], expected="a float32 graph",
            got=quantized_precision(model) or body_precision(model), hint="start from the checkpoint",
        )  # fmt: skip
    if precision in {"int8", "float8"}:
        config = config or QuantizeConfig(precision="int8" if precision == "int8" else "float8")
        if config.precision != precision:
            raise InputError("the config is for another precision", expected=precision, got=config.precision)
        return _quantized(model, sources, config, truths, on_progress)
    half: HalfPrecision = "float16" if precision == "float16" else "bfloat16"
    feeds = _trial(model, sources, config)
    converted, layers = convert_and_try(model, half, feeds)
    kept = f"; float32 in {len(layers)} layers that overflow" if layers else ""
    return Lowered(converted, f"{half}{kept}", not_on_cpu=_run_here(converted, feeds[:1]))


def _quantized(
    model: Model,
    sources: Sequence[Source],
    config: QuantizeConfig,
    truths: Sequence[Truth] | None,
    on_progress: OnProgress | None,
) -> Lowered:
    if not sources:
        raise InputError(
            f"{config.precision} needs images to calibrate with", subject="calibrate", hint="give a folder of images"
        )
    with opener(config.imgsz)(model) as detector:
        measure = measure_of(detector.info, detector.model_name)
        if truths is None:
            truths = measure.known_truths(sources, detector.class_names)
    warnings = [*survey(sources, on_progress).warnings(), *_truth_warnings(truths)]
    found = quantize_with_images(model, sources, config, truths=truths, on_progress=on_progress)
    if len(sources) < HELD_BACK_FROM:
        warnings.append(
            f"with fewer than {HELD_BACK_FROM} images the loss is measured on the images that were used for calibration"
        )
    share = quantized_share(found.model)
    if share.arithmetic is not None and share.arithmetic < USEFUL_SHARE:
        warnings.append(
            f"only {share.arithmetic:.0%} of the arithmetic could be {config.precision} within the budget, which is "
            f"hardly faster than {config.between}; allow a larger max_drop (--max-drop), or calibrate with more images"
        )
    not_on_cpu = _run_here(found.model, _trial(model, sources[:1], config))
    return Lowered(found.model, _words(found, config, truths, measure), tuple(warnings), not_on_cpu)


def _run_here(model: Model, feeds: Sequence[Feeds]) -> str | None:
    """Run the converted graph itself, not an emulation of it.

    Returns:
        Why the runtime refuses it; None if it runs.

    Raises:
        GraphError: it gives numbers that are not finite.
    """
    try:
        outputs = run_model(model, feeds)
    except SessionError as error:
        return (refusal(model, model.graph.name[:60]) or error).problem
    if not all(map(finite, outputs)):
        raise GraphError(
            "gives numbers that are not finite in lower precision",
            subject=model.graph.name[:60],
            hint="use float32 for other_layers (--other-layers), or another calibrator (--calibrator)",
        )
    return None


def _truth_warnings(truths: Sequence[Truth] | None) -> Iterator[str]:
    """Warn if most images have no label, because the measurement then means little."""
    if truths is not None and (empty := sum(not len(truth.class_ids) for truth in truths)) * 2 > len(truths):
        yield f"{empty} of {len(truths)} images have no label, and count as images without objects"


def _words(found: Search, config: QuantizeConfig, truths: Sequence[Truth] | None, measure: Measure) -> str:
    """A summary of the result, for a line of output."""
    others = f" with {config.between}" if config.between != "float32" else ""
    if not found.is_measured:
        nothing = "nothing was detected on the images" if truths is None else "float32 finds nothing that is labelled"
        seen = f"{nothing}, so its loss is not known"
    elif truths is None:
        seen = f"{measure.agreed} {1 - found.drop:.1%} {measure.over}"
    else:
        seen = f"{measure.title} is {abs(found.drop):.4f} {'below' if found.drop >= 0 else 'above'} float32's"
    more = f" and {len(found.kept) - MAX_NAMED} more" if len(found.kept) > MAX_NAMED else ""
    kept = f"; {config.between} in {', '.join(found.kept[:MAX_NAMED])}{more}" if found.kept else ""
    return f"{config.precision}{others} in {quantized_share(found.model)}; {seen}{kept}"


def _trial(
    model: Model, sources: Sequence[Source], config: QuantizeConfig | None
) -> list[dict[str, npt.NDArray[np.generic]]]:
    imgsz, name = config.imgsz if config else None, model.graph.name[:60] or "graph"
    with open_session(graph_bytes(model)) as session:
        info = info_of(session, name, canvas_hw=imgsz)
        if not sources and info.class_scores is not None and info.transform is None:
            info = info.with_transform(_OF_NOISE, subject=name)
        detector = Detector(session, info, imgsz=imgsz, model_name=name)
        noise = np.random.default_rng(0).integers(0, 256, (*detector.input_hw, detector.info.channels), np.uint8)
        return [feed_of(detector, source) for source in (*sources[:3], noise)]
