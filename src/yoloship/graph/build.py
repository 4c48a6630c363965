"""From a checkpoint to a graph: walking the network's layers in order, each fed from those before it."""

from __future__ import annotations

import json
import re
from tempfile import SpooledTemporaryFile
from types import MappingProxyType
from typing import IO, TYPE_CHECKING

from yoloship._version import __version__
from yoloship.checkpoint.traits import other_head
from yoloship.errors import GraphError
from yoloship.graph.blocks import emit
from yoloship.graph.builder import Builder, InFile
from yoloship.graph.config import COLOURS, emit_input, input_channels
from yoloship.graph.heads import Head, emit_maps, emit_outputs, read_head
from yoloship.graph.module_view import Part, check_consumed
from yoloship.graph.onnx_file import graph_bytes
from yoloship.graph.passes.half import convert_precision
from yoloship.graph.serialize import to_onnx, write_onnx
from yoloship.model import ALIASES_KEY, METADATA_KEY, ModelInfo, size_multiple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx

    from yoloship.checkpoint import Checkpoint
    from yoloship.graph.builder import Constants, Graph, Wire
    from yoloship.graph.config import GraphConfig

FAMILY = "yolov5"
_SPOOL_BYTES = 64 << 20
"""Weights up to this size stay in memory."""
_TASKS = MappingProxyType({"segment": "segmentation", "classify": "classification"})
"""Of tasks whose names are not what people call their models."""
_MODEL_PATH = re.compile(r"(?:[A-Za-z_]\w*\.)*models\.yolo\.(?:Model|DetectionModel)")
_DETECT_PATH = re.compile(r"(?:[A-Za-z_]\w*\.)*models\.yolo\.Detect")


def build_graph(checkpoint: Checkpoint, config: GraphConfig) -> onnx.ModelProto:
    """Write the ONNX graph of a trained detector, with its metadata.

    Args:
        checkpoint: As read; its weights are folded in float64 and rounded to float32.
        config: Input and output form, sizes.

    Returns:
        A model that passes `onnx.checker`. The input is ``images``. Outputs: ``output0`` for `raw`; ``head0``,
        ``head1``, … finest first for `heads`; ``boxes_xyxy``, ``scores``, ``class_ids`` for `compact`; for `nms` those
        of `yoloship.graph.passes.suppression`.

    Raises:
        GraphError: a block or an option that cannot be written, named with its place; a size that does not fit.
        CheckpointError: a tensor's bytes are damaged, or the class names cannot be used.
    """
    info = model_info(checkpoint, config)
    model = to_onnx(trace(checkpoint, config), _metadata(checkpoint, info))
    return model if config.precision == "float32" else convert_precision(model, config.precision)


def write_graph(checkpoint: Checkpoint, config: GraphConfig, file: IO[bytes], *, folder: Path | None = None) -> int:
    """Write the ONNX graph of a trained detector to a file: the bytes of `build_graph`, with less memory.

    The weights of a large float32 network go through a temporary file, so that only one layer's are in memory at once.

    Args:
        checkpoint: See `build_graph`.
        config: See there.
        file: Open for writing.
        folder: Where the temporary file may be; the system's own folder for them by default.

    Returns:
        How many bytes were written.

    Raises:
        GraphError: as there.
        CheckpointError: as there.
        OSError: of one of the two files.
    """
    if config.precision != "float32":
        return file.write(graph_bytes(build_graph(checkpoint, config)))
    info = model_info(checkpoint, config)
    with SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=None if folder is None else str(folder)) as weights:
        return write_onnx(trace(checkpoint, config, InFile(weights)), _metadata(checkpoint, info), file)


def trace(checkpoint: Checkpoint, config: GraphConfig, constants: Constants | None = None) -> Graph:
    """Write the network as records, before any library's format; see `build_graph`.

    Args:
        checkpoint: As read.
        config: Input and output form, sizes.
        constants: Where the weights go; into memory by default.
    """
    root = _root(checkpoint)
    layers = _layers(root)
    head = _head(layers)
    multiple = size_multiple(head.strides)
    config.check_multiple(multiple)
    # Sides that differ, and are no multiples of twice the multiple, so that a mix-up or a mismatch cannot hide.
    probe_hw = config.input_hw or (3 * multiple, 5 * multiple)
    builder = Builder(dynamic_hw=config.input_hw is None, constants=constants)
    picture = emit_input(builder, config, probe_hw, input_channels(root, layers))
    values: list[Wire] = []
    for layer in layers[:-1]:
        values.append(emit(builder, layer, _inputs(layer, values, picture)))
    maps = emit_maps(builder, head, _inputs(layers[-1], values, picture), probe_hw)
    emit_outputs(builder, config, head, maps)
    check_consumed(root, checkpoint.aliases)
    return builder.finish(checkpoint.name)


def model_info(checkpoint: Checkpoint, config: GraphConfig) -> ModelInfo:
    """What `build_graph` with the same arguments embeds.

    Raises:
        GraphError: the checkpoint is not a detector whose head can be read.
    """
    root = _root(checkpoint)
    layers = _layers(root)
    head = _head(layers)
    return ModelInfo(
        task="detect",
        family=FAMILY,
        class_names=checkpoint.names_for(head.classes),
        strides=tuple(sorted(head.strides)),
        anchors=head.anchors_finest_first,
        input_form=config.input_form,
        output_form=config.output_form,
        input_hw=config.input_hw or (None, None),
        batch=config.batch,
        precision=config.precision,
        checkpoint_sha256=checkpoint.sha256,
        producer=f"yoloship {__version__}",
        nms=config.nms,
        channels=input_channels(root, layers),
    )


def _metadata(checkpoint: Checkpoint, info: ModelInfo) -> dict[str, str]:
    """Ours, and what Ultralytics' tools look for: names by id, the largest stride, task, size, batch.

    A class of a fork that the user said is an official one is noted as well, because the file alone does not show it.
    """
    height, width = info.input_hw
    entries = {
        METADATA_KEY: info.to_json(),
        "names": repr(dict(enumerate(info.class_names))),
        "stride": str(max(info.strides)),
        "task": info.task,
        "imgsz": repr([height or 640, width or 640]),
        "batch": str(info.batch or 1),
    }
    if info.channels != COLOURS:
        entries["channels"] = str(info.channels)
    if checkpoint.aliases:
        entries[ALIASES_KEY] = json.dumps(dict(checkpoint.aliases), ensure_ascii=False, sort_keys=True)
    return entries


def _root(checkpoint: Checkpoint) -> Part:
    """The model, if it is one whose head and layers are official.

    Raises:
        GraphError: it is another model, named as what it is as far as that shows.
    """
    if checkpoint.task != "detect":
        raise GraphError(
            f"is a {_TASKS.get(checkpoint.task, checkpoint.task)} model, which this version does not write yet",
            subject=checkpoint.name,
            hint="it writes detection models; export this one with the project that trained it",
        )
    root = Part(checkpoint.module, "", checkpoint.name)
    head = root.child("model").last() if "model" in checkpoint.module.children else root
    other = other_head(head.module)
    if other is not None:
        raise head.error(other.problem, hint=other.hint)
    if _MODEL_PATH.fullmatch(checkpoint.module.class_path) is None:
        raise root.error(
            "is not the model of an official YOLOv5 training",
            expected="models.yolo.Model or models.yolo.DetectionModel",
            hint="another model may connect its layers in another way; if it does not, say so with "
            f"--alias {checkpoint.module.class_path[:80]}=models.yolo.DetectionModel",
        )
    return root


def _layers(root: Part) -> tuple[Part, ...]:
    """The network's layers in order, the head last."""
    layers = root.child("model").parts()
    if not layers:
        raise root.error("has no layers")
    return layers


def _head(layers: Sequence[Part]) -> Head:
    part = layers[-1]
    if _DETECT_PATH.fullmatch(part.module.class_path) is None:
        raise part.error(
            "is not a head that this version can write",
            expected="models.yolo.Detect",
            hint="if it is the official head under another name, say so with "
            f"--alias {part.module.class_path[:80]}=models.yolo.Detect",
        )
    return read_head(part)


def _inputs(layer: Part, values: Sequence[Wire], picture: Wire) -> tuple[Wire, ...]:
    """What a layer takes, by its attribute `f`: −1 is the layer before, others count from the first or the last."""
    given = layer.value("f")
    sources = given if isinstance(given, list | tuple) else [given]
    wires = []
    for source in sources:
        if isinstance(source, bool) or not isinstance(source, int):
            raise layer.error("bad 'f'", expected="numbers of layers", got=given)
        if source == -1 and not values:
            wires.append(picture)
        elif -len(values) <= source < len(values):
            wires.append(values[source])
        else:
            raise layer.error("takes from a layer that is not before it", expected=f"below {len(values)}", got=given)
    if not wires:
        raise layer.error("takes nothing", expected="at least one layer in 'f'")
    return tuple(wires)
