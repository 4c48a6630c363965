"""Checks in about a second, without building, whether a build would work: `check_request`."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yoloship.cuda.device import find_gpu
from yoloship.engine import BuildConfig, check_build, check_targets, open_flavour, resolve_profiles
from yoloship.errors import OutputError, YoloshipError
from yoloship.models.building import build_source, suppressing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from yoloship.engine import FlavourName, InputProfile
    from yoloship.graph import GraphConfig
    from yoloship.graph.onnx_file import Model
    from yoloship.model import NmsConfig, Precision
    from yoloship.models.building import BuildSource


_PLAN_SHARE: Final = 1.5
"""Largest size of a plan relative to its ONNX file, as measured with our models."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A request to build an engine.

    Attributes:
        source: A checkpoint or an ONNX file.
        output: The file to write.
        config: Settings of TensorRT.
        graph: Settings of the graph of a checkpoint; None for an ONNX file.
        precision: The arithmetic of the network's body; float32 leaves the graph unchanged.
        nms: NMS to append to an ONNX file; None appends nothing.
        flavour: Which TensorRT builds it; None takes the first that is installed and can build.
        names: Class names to use instead of those in the source; None keeps those.
        aliases: Class paths of a fork, each with the official class path that it is equal to.
    """

    source: Path
    output: Path
    config: BuildConfig
    graph: GraphConfig | None = None
    precision: Precision = "float32"
    nms: NmsConfig | None = None
    flavour: FlavourName | None = None
    names: tuple[str, ...] | None = None
    aliases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a build needs.

    Attributes:
        name: What the build needs.
        passed: Whether the check passed.
        words: What was found, or what is wrong.
    """

    name: str
    passed: bool
    words: str


def check_request(request: BuildRequest) -> tuple[Finding, ...]:
    """Check everything that a build needs, in order; nothing is built or written.

    INT8 and FP8 are not calibrated, so this does not check whether they stay within their largest drop.
    """
    size_bytes = 0

    def look_at_source() -> str:
        nonlocal size_bytes
        words, size_bytes = check_source(request)
        return words

    return (
        look("TensorRT", lambda: _flavour(request)),
        look("model", look_at_source),
        look("output", lambda: _output(request.output, size_bytes)),
    )


def check_source(request: BuildRequest) -> tuple[str, int]:
    """Make the graph as a build does, without the slow steps, and check the requested shapes and targets against it.

    Returns:
        A description of the graph, and its size in bytes.

    Raises:
        YoloshipError: a build would fail with the same error, perhaps only after calibration.
    """
    with build_source(
        request.source,
        request.graph,
        refine=_refinement(request),
        class_names=request.names,
        aliases=dict(request.aliases),
    ) as source:
        return _describe(source, request.config), source.file.path.stat().st_size


def look(name: str, find: Callable[[], str]) -> Finding:
    """Run one check.

    Args:
        name: What is checked.
        find: Returns what was found, or raises the error.
    """
    try:
        return Finding(name, True, find())
    except YoloshipError as error:
        return Finding(name, False, str(error))


def _flavour(request: BuildRequest) -> str:
    flavour, device = open_flavour(request.flavour), find_gpu()
    check_build(flavour, request.config, request.precision, device)
    return f"{flavour.title}, {f'{device.name} ({device.sm})' if device else 'no GPU here'}"


def _refinement(request: BuildRequest) -> Callable[[Model], Model] | None:
    if request.precision == "float32" and (request.nms is None or request.graph is not None):
        return None

    def refine(model: Model) -> Model:
        model = _lowered(model, request.precision)
        if request.nms is not None and request.graph is None:
            model = suppressing(model, request.nms, subject=str(request.source), class_names=request.names)
        return model

    return refine


def _lowered(model: Model, precision: Precision) -> Model:
    """The graph in a precision as a build makes it, without the slow steps."""
    from yoloship.graph.passes.half import convert_precision
    from yoloship.graph.passes.quantize import layers

    if precision in {"int8", "float8"}:
        layers(model)  # refuses what cannot be quantized
    elif precision == "float16":
        return convert_precision(model, "float16")
    elif precision == "bfloat16":
        return convert_precision(model, "bfloat16")
    return model


def _describe(source: BuildSource, config: BuildConfig) -> str:
    from yoloship.graph import graph_costs

    check_targets(config.targets, frozenset(source.file.parameters), subject=source.name)
    profiles = resolve_profiles(source.file.inputs, config, source.info)
    costs = graph_costs(source.file.model, dynamic_hw=_largest_hw(config), subject=source.name)
    words = [f"{', '.join(map(str, source.file.inputs))}"]
    words += [_profile(profile) for profile in profiles]
    if source.info is None:
        words.append(
            "predict cannot run this engine, because its output has an unknown form; other TensorRT programs can run it"
        )
    if costs.activations is not None and costs.flops_hw is not None:
        batch = config.batch.maximum if config.batch else (source.info and source.info.batch) or 1
        size = "×".join(map(str, costs.flops_hw))
        memory = batch * costs.activations.peak_bytes / 1e6
        words.append(f"activations take about {memory:.0f} MB for a batch of {batch} at {size}, estimated")
    return "; ".join(words)


def _largest_hw(config: BuildConfig) -> tuple[int, int]:
    height, width = config.height, config.width
    return (height.maximum if height else 640, width.maximum if width else 640)


def _profile(profile: InputProfile) -> str:
    shapes = (profile.minimum, profile.optimum, profile.maximum)
    return f"{profile.name} " + " to ".join("×".join(map(str, shape)) for shape in shapes)


def _output(path: Path, source_bytes: int) -> str:
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(
            "there is no such folder", subject=str(folder), hint="create it, or give another output (--output-file)"
        )
    if not os.access(folder, os.W_OK):
        raise OutputError("cannot be written to", subject=str(folder), hint="check its permissions")
    needed, free = _PLAN_SHARE * source_bytes, shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            "has too little free space",
            subject=str(folder),
            expected=f"about {needed / 1e6:.0f} MB",
            got=f"{free / 1e6:.0f} MB",
            hint="free some space, or give another output (--output-file)",
        )
    return f"{path}, about {source_bytes / 1e6:.0f} MB; {free / 1e9:.0f} GB are free"
