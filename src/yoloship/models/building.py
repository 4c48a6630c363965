"""From a checkpoint or an ONNX file to a TensorRT engine: where the graph's side and the engine's side meet.

The engine room knows nothing of checkpoints, and the graph room nothing of TensorRT. Here one hands a file to the
other, with what is known about the model.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from yoloship._util.cache import cache_folder
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


@dataclass(frozen=True, slots=True)
class BuildSource:
    """An ONNX file that is ready to be built, and what is known about it.

    Attributes:
        file: The file, parsed; TensorRT forgets the names of its outputs' dynamic axes.
        name: What messages call it: the file that the user gave, even if the ONNX file was made from it on the way.
        info: What the pipeline must know; None for a graph of a form that it cannot use.
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
    """Make a model ready for TensorRT: a checkpoint becomes a graph, an ONNX file is checked.

    Args:
        path: A checkpoint or an ONNX file.
        graph: Which graph a checkpoint shall become; None takes `GraphConfig`'s defaults. Not for ONNX files.
        refine: Brings the graph to another precision, for one; it gets a graph with its weights inside.
        class_names: One for each class, in place of the names in the file.
        aliases: Class paths of a fork, each with the official one that it is the same as. Not for ONNX files.

    Yields:
        An ONNX file, for as long as the context lasts.

    Raises:
        CheckpointError: the checkpoint cannot be read safely.
        GraphError: it cannot become the graph wanted, or the ONNX file is none that TensorRT takes faithfully.
    """
    from yoloship.graph import OnnxFile, graph_bytes, read_onnx

    from_checkpoint = kind_of(path) == "checkpoint"
    if not from_checkpoint and refine is None:
        yield _foreign_source(read_onnx(path), str(path), class_names)
        return
    model = _graph_of(path, graph, class_names, aliases) if from_checkpoint else _whole_model(path)
    if refine is not None:
        with _naming(str(path), "ONNX model in memory", model.graph.name[:60] or "graph"):
            model = refine(model)
    data = graph_bytes(model)
    with _temporary_file("model.onnx", data) as onnx, _naming(str(path), str(onnx)):
        if from_checkpoint:  # we have just written it, so there is nothing to find out about it
            file = OnnxFile.of(model, data, onnx)
            yield BuildSource(file, str(path), file.info)
        else:
            yield _foreign_source(read_onnx(onnx), str(path), class_names)


@contextmanager
def _temporary_file(name: str, data: bytes) -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="yoloship-")
    except OSError as error:
        raise _no_temporary(tempfile.gettempdir(), error) from error
    with folder:
        path = Path(folder.name) / name
        try:
            path.write_bytes(data)
        except OSError as error:
            raise _no_temporary(folder.name, error) from error
        yield path


def _no_temporary(place: str, error: OSError) -> OutputError:
    return OutputError(
        f"a temporary file cannot be written: {error.strerror or error}",
        subject=place,
        hint="free some space there, or set TMPDIR to another folder",
    )


@contextmanager
def _naming(name: str, *others: str) -> Iterator[None]:
    """Let errors speak of the file that the user gave.

    Args:
        name: That file.
        others: What it is called inside: a temporary file, which is gone when the error is read, or a graph's name.
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
    """Build an engine from what `build_source` gave; see `build`."""
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
        config: How to build.
        graph: Which graph a checkpoint shall become.
        flavour: Which TensorRT; None takes the first that is installed and builds.
        on_progress: Called for each step; what it raises cancels the build.

    Returns:
        The engine, and what the pipeline must know about it: None for an ONNX graph of a form that it cannot use.

    Raises:
        CheckpointError: the checkpoint cannot be read safely.
        GraphError: it cannot become the graph wanted, or the ONNX file is none that TensorRT takes faithfully.
        EngineError: TensorRT cannot build it, or not as ordered.
        DependencyError: no TensorRT is installed.
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
    """The engine of a model from the user's cache; built first where it is not there.

    Args:
        path: A checkpoint or an ONNX file.
        config: How to build.
        graph: Which graph a checkpoint shall become.
        flavour: Which TensorRT; None takes the first that is installed and builds.
        on_progress: Called for each step of a build, and while another process that builds the same engine is waited
            for.

    Raises:
        YoloshipError: as `build`, and as `cached_engine`.
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
            "keeps its weights in other files, and its graph cannot be changed that way",
            subject=str(path),
            hint="save it with its weights inside",
        )
    vetted(path, str(path), None)  # what changes a graph may run it, to calibrate or to judge it
    return file.model


def _foreign_source(file: OnnxFile, name: str, class_names: Sequence[str] | None) -> BuildSource:
    """A file that somebody else wrote, checked for what TensorRT would get wrong."""
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
    """Put suppression behind a detector's graph, whoever wrote it.

    Args:
        model: Of its family's standard form, weights inside. Not changed.
        nms: Thresholds and limits.
        subject: The file, for messages.
        class_names: One for each class, in place of the names in the file.

    Returns:
        A graph with suppression inside; the model itself if it suppresses already, in the way wanted.

    Raises:
        GraphError: it is of another form, or suppresses in another way.
    """
    from yoloship.graph.onnx_file import read_metadata, read_model_info
    from yoloship.graph.passes.suppression import append_suppression

    info = read_model_info(read_metadata(model), subject) or _recognised(model, subject, class_names=class_names)
    if info is None:
        raise GraphError("has no output that suppression can follow", subject=subject, expected=STANDARD_FORM)
    if info.nms is None:
        return append_suppression(model, info, nms)
    for name in ("score_threshold", "iou_threshold", "max_detections"):
        have, want = getattr(info.nms, name), getattr(nms, name)
        if have != want:
            raise GraphError(
                f"suppresses already, with another {name}", subject=subject, expected=str(want), got=str(have)
            )
    return model


def _recognised(
    model: Model, subject: str, path: Path | None = None, *, class_names: Sequence[str] | None = None
) -> ModelInfo | None:
    """What the pipeline makes of a foreign graph, by running it once on the CPU; None where it cannot use it.

    Args:
        model: The graph.
        subject: The file, for messages.
        path: Of the file, where weights lie beside it.
        class_names: One for each class, in place of the names in the file.
    """
    from yoloship.graph import graph_bytes
    from yoloship.graph.body import body_precision
    from yoloship.graph.passes.half import emulate, is_half
    from yoloship.runtime import RunOptions, open_session
    from yoloship.tasks.recognise import recognise

    # ONNX Runtime has no bfloat16 on a CPU
    runnable = path or graph_bytes(emulate(model) if is_half(model) else model)
    try:
        checked = vetted(runnable, subject, None)
    except UnsizedError:  # of another kind than a detector: TensorRT may build it, and it is not run here
        return None
    try:
        with open_session(checked.source, RunOptions(model_name=subject, limit_s=checked.limit_s)) as session:
            batch, _, height, width = session.inputs[0].shape
            return replace(
                recognise(session, subject, class_names),
                precision=body_precision(model),
                batch=batch if isinstance(batch, int) else None,  # as declared, for an engine is built with profiles
                input_hw=(height if isinstance(height, int) else None, width if isinstance(width, int) else None),
            )
    except UnreadableNamesError:
        raise
    except (SessionError, InputError):
        if class_names is not None:
            raise
        return None
