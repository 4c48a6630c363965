"""Builds TensorRT engines from checkpoints and ONNX files.

The package `engine` does not know checkpoints, and `graph` does not know TensorRT. This module connects them: it passes
an ONNX file and the description of its model from one to the other.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship._util.cache import cache_folder
from yoloship._util.writing import create_part, remove_stale
from yoloship.bounds import UnsizedError, refuse_unbounded
from yoloship.cuda.device import find_gpu
from yoloship.engine import (
    BuildConfig,
    EngineFile,
    EngineKey,
    build_engine,
    cached_engine,
    check_build,
    check_targets,
    open_flavour,
)
from yoloship.errors import GraphError, InputError, OutputError, SessionError, YoloshipError
from yoloship.kinds import kind_of
from yoloship.model import images_first
from yoloship.models.vetting import vetted
from yoloship.tasks.decode import STANDARD_FORM
from yoloship.tasks.recognise import UnreadableNamesError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from yoloship._util.text import OnProgress
    from yoloship.engine import BuiltEngine, Flavour
    from yoloship.graph import GraphConfig, OnnxFile
    from yoloship.graph.onnx_file import Model
    from yoloship.model import ModelInfo, NmsConfig, TensorSpec


_TEMPORARY: Final = "yoloship-build-"


@dataclass(frozen=True, slots=True)
class BuildSource:
    """An ONNX file that is ready to be built, and what is known about it.

    Attributes:
        file: The parsed file. It is kept because TensorRT loses the names of the outputs' dynamic axes.
        name: The file's name for messages: the file that the user gave, even if the ONNX file was made from it.
        info: The model's description; None if the graph has a form that a detector cannot use.
    """

    file: OnnxFile
    name: str
    info: ModelInfo | None


@contextmanager
def build_source(
    path: Path,
    graph: GraphConfig | None = None,
    *,
    refine: Callable[[Model], Model] | None = None,
    class_names: Sequence[str] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Iterator[BuildSource]:
    """Make a model ready for TensorRT: make the graph of a checkpoint, or check an ONNX file.

    Args:
        path: A checkpoint or an ONNX file.
        graph: Settings of the graph of a checkpoint; None takes `GraphConfig`'s defaults. Not for ONNX files.
        refine: Changes the graph, for example to another precision; the graph that it gets contains its weights.
        class_names: One name for each class, to use instead of the names in the file.
        aliases: Class paths of a fork, each with the official class path that it is equal to. Not for ONNX files.

    Yields:
        The ONNX file; it exists as long as the context lasts.

    Raises:
        CheckpointError: the checkpoint cannot be read safely.
        GraphError: the checkpoint cannot become the requested graph, or TensorRT would not compute the ONNX file
            correctly.
    """
    from yoloship.graph import OnnxFile, graph_bytes, read_onnx

    from_checkpoint = kind_of(path) == "checkpoint"
    if not from_checkpoint and refine is None:
        yield _foreign_source(read_onnx(path), str(path), class_names)
        return
    model = _graph_of(path, graph, class_names, aliases) if from_checkpoint else _whole_model(path)
    if class_names is not None and not from_checkpoint:
        _say_names(model, class_names)
    if refine is not None:
        with _naming(str(path), "ONNX model in memory", model.graph.name[:60] or "graph"):
            model = refine(model)
    data = graph_bytes(model)
    with _temporary_file(data) as onnx, _naming(str(path), str(onnx)):
        if from_checkpoint:  # we have just written it, so its description is known
            file = OnnxFile.of(model, data, onnx)
            yield BuildSource(file, str(path), file.info)
        else:
            yield _foreign_source(read_onnx(onnx), str(path), class_names)


def _say_names(model: Model, class_names: Sequence[str]) -> None:
    """Write class names into the metadata of a graph that has none: code that refines it may run it, to compare it."""
    if all(entry.key != "names" for entry in model.metadata_props):
        model.metadata_props.add(key="names", value=json.dumps(list(class_names), ensure_ascii=False))


@contextmanager
def _temporary_file(data: bytes) -> Iterator[Path]:
    """A file with these bytes, as long as the context lasts. The next build removes one that a killed build left."""
    place = Path(tempfile.gettempdir())
    for left in place.glob(f"{_TEMPORARY}*"):
        if remove_stale(left):
            with suppress(OSError):
                left.rmdir()
    with ExitStack() as stack:
        try:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_TEMPORARY)))
            path = place / f".{os.urandom(6).hex()}.part"  # as `PART_PATTERN` says; its lock says that it is in use
            file = stack.enter_context(os.fdopen(create_part(path, None), "wb"))
            file.write(data)
            file.flush()
        except OSError as error:
            raise _no_temporary(str(place), error) from error
        yield path


def _no_temporary(place: str, error: OSError) -> OutputError:
    return OutputError(
        f"a temporary file cannot be written: {error.strerror or error}",
        subject=place,
        hint="free some space there, or set TMPDIR to another folder",
    )


@contextmanager
def _naming(name: str, *others: str) -> Iterator[None]:
    """Make errors name the file that the user gave.

    Args:
        name: That file's name.
        others: Internal names to replace: a temporary file, which is deleted before the user reads the error, or a
            graph's name.
    """
    try:
        yield
    except YoloshipError as error:
        if error.subject in others:
            error.subject = name
        for field in ("subject", "problem", "expected", "got", "hint"):
            text = getattr(error, field)
            for path in others:
                if text is not None and path in text and Path(path).is_absolute():
                    setattr(error, field, text := text.replace(path, name))
        error.args = (error.problem,)
        raise


def build_prepared(
    source: BuildSource, config: BuildConfig | None, flavour: Flavour, on_progress: OnProgress | None = None
) -> BuiltEngine:
    """Build an engine from what `build_source` yielded; `build` explains the arguments."""
    if config is not None:
        check_targets(config.targets, frozenset(source.file.parameters), subject=source.name)
    onnx = source.file.path
    sha256 = source.file.sha256
    built = build_engine(onnx, config, flavour=flavour, info=source.info, on_progress=on_progress, onnx_sha256=sha256)
    named = {spec.name: spec for spec in source.file.outputs}
    return replace(
        built,
        outputs=tuple(_with_names(spec, named.get(spec.name)) for spec in built.outputs),
        warnings=tuple(text.replace(str(onnx), source.name) for text in built.warnings),
    )


def build(
    path: Path,
    config: BuildConfig | None = None,
    *,
    graph: GraphConfig | None = None,
    flavour: Flavour | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[BuiltEngine, ModelInfo | None]:
    """Build an engine from a checkpoint or an ONNX file; write it with `yoloship.engine.write_engine`.

    Args:
        path: A checkpoint or an ONNX file.
        config: Settings of TensorRT.
        graph: Settings of the graph of a checkpoint.
        flavour: Which TensorRT builds it; None takes the first that is installed and can build.
        on_progress: Called for each step. An exception that it raises cancels the build.

    Returns:
        The engine and the model's description, which is None if the graph has a form that a detector cannot use.

    Raises:
        CheckpointError: the checkpoint cannot be read safely.
        GraphError: the checkpoint cannot become the requested graph, or TensorRT would not compute the ONNX file
            correctly.
        EngineError: TensorRT cannot build the engine, or not as requested.
        DependencyError: TensorRT is not installed.
    """
    flavour = flavour or open_flavour()
    check_build(flavour, config or BuildConfig(), graph.precision if graph else "float32", find_gpu())
    with build_source(path, graph) as source:
        return build_prepared(source, config, flavour, on_progress), source.info


def engine_for(
    path: Path,
    config: BuildConfig | None = None,
    *,
    graph: GraphConfig | None = None,
    flavour: Flavour | None = None,
    on_progress: OnProgress | None = None,
) -> EngineFile:
    """The engine of a model from the user's cache; it is built if it is not there.

    Args:
        path: A checkpoint or an ONNX file.
        config: Settings of TensorRT.
        graph: Settings of the graph of a checkpoint.
        flavour: Which TensorRT builds it; None takes the first that is installed and can build.
        on_progress: Called for each step of a build, and while waiting for another process that builds the same
            engine.

    Raises:
        YoloshipError: what `build` and `cached_engine` raise.
    """
    flavour, config = flavour or open_flavour(), config or BuildConfig()
    device = find_gpu()
    check_build(flavour, config, graph.precision if graph else "float32", device)
    with build_source(path, graph) as source:
        key = EngineKey.of(source.file.sha256, config, flavour, device.sm if device else None)

        def make() -> tuple[BuiltEngine, ModelInfo | None]:
            return build_prepared(source, config, flavour, on_progress), source.info

        return cached_engine(cache_folder() / "engines", key, make, source_name=path.name, on_progress=on_progress)


def _graph_of(
    path: Path,
    graph: GraphConfig | None,
    class_names: Sequence[str] | None,
    aliases: Mapping[str, str] | None,
) -> Model:
    from yoloship.checkpoint import read_checkpoint
    from yoloship.graph import GraphConfig, build_graph

    checkpoint = read_checkpoint(path, aliases=aliases)
    if class_names is not None:
        checkpoint = checkpoint.with_class_names(class_names)
    return build_graph(checkpoint, graph or GraphConfig())


def _whole_model(path: Path) -> Model:
    from yoloship.graph import read_onnx

    file = read_onnx(path)
    if file.external_files:
        raise GraphError(
            "keeps its weights in other files, so its graph cannot be changed",
            subject=str(path),
            hint="save it with its weights inside",
        )
    vetted(path, str(path), None)  # code that changes a graph may run it, to calibrate or to compare it
    return file.model


def _foreign_source(file: OnnxFile, name: str, class_names: Sequence[str] | None) -> BuildSource:
    """A file from another exporter, checked for operators that TensorRT would compute incorrectly."""
    from yoloship.graph.check import refuse_for_tensorrt

    refuse_for_tensorrt(file)
    info, subject = file.info, str(file.path)
    refuse_unbounded(file.model, subject)
    if info is None:
        beside = file.path if file.external_files else None
        info = _recognised(file.model, subject, beside, class_names=class_names)
    elif class_names is not None:
        info = info.with_class_names(class_names, subject=subject)
    return BuildSource(file, name, info)


def _with_names(spec: TensorSpec, named: TensorSpec | None) -> TensorSpec:
    """TensorRT's shape, with the file's names on dynamic axes."""
    if named is None or len(named.shape) != len(spec.shape):
        return spec
    pairs = zip(spec.shape, named.shape, strict=True)
    return replace(spec, shape=tuple(b if isinstance(a, str) and isinstance(b, str) else a for a, b in pairs))


def suppressing(model: Model, nms: NmsConfig, *, subject: str, class_names: Sequence[str] | None = None) -> Model:
    """Append NMS to a detector's graph, whoever wrote the graph.

    Args:
        model: A graph whose output has its family's standard form, with its weights inside. It is not changed.
        nms: Thresholds and limits.
        subject: The file's name, for messages.
        class_names: One name for each class, to use instead of the names in the file.

    Returns:
        A graph with NMS inside; the model itself if it already has NMS with these settings.

    Raises:
        GraphError: the output has another form, or the graph has NMS with other settings.
    """
    from yoloship.graph.onnx_file import read_metadata, read_model_info
    from yoloship.graph.passes.suppression import append_suppression
    from yoloship.model import UsualNms, usual_iou

    info = read_model_info(read_metadata(model), subject) or _recognised(model, subject, class_names=class_names)
    if info is None:
        raise GraphError("has no output that NMS can be appended to", subject=subject, expected=STANDARD_FORM)
    if isinstance(nms, UsualNms):
        nms = nms.at(usual_iou(info.family))
    if info.nms is None:
        return append_suppression(model, info, nms)
    for name in ("score_threshold", "iou_threshold", "max_detections"):
        have, want = getattr(info.nms, name), getattr(nms, name)
        if have != want:
            raise GraphError(
                f"already contains NMS with another {name}", subject=subject, expected=str(want), got=str(have)
            )
    return model


def _recognised(
    model: Model, subject: str, path: Path | None = None, *, class_names: Sequence[str] | None = None
) -> ModelInfo | None:
    """The description of a foreign graph, found by running it once on the CPU; None if a detector cannot use it.

    Args:
        model: The graph.
        subject: The file's name, for messages.
        path: The file, if its weights are in other files beside it.
        class_names: One name for each class, to use instead of the names in the file.
    """
    from yoloship.graph import graph_bytes
    from yoloship.graph.body import body_precision
    from yoloship.graph.passes.half import emulate, is_half
    from yoloship.runtime import RunOptions, open_session
    from yoloship.tasks import info_of

    # ONNX Runtime has no bfloat16 on a CPU
    runnable = path or graph_bytes(emulate(model) if is_half(model) else model)
    try:
        checked = vetted(runnable, subject, None)
    except UnsizedError:  # it is not a detector: TensorRT may build it, but it is not run here
        return None
    try:
        with open_session(checked.source, RunOptions(model_name=subject, limit_s=checked.limit_s)) as session:
            batch, _, height, width = images_first(session.inputs)[0].shape
            return replace(
                info_of(session, subject, class_names),
                precision=body_precision(model),
                batch=batch
                if isinstance(batch, int)
                else None,  # as declared, because an engine is built with profiles
                input_hw=(height if isinstance(height, int) else None, width if isinstance(width, int) else None),
            )
    except UnreadableNamesError:
        raise
    except (SessionError, InputError):
        if class_names is not None:
            raise
        return None
