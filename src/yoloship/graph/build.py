"""From a checkpoint to a graph: the family writes the network's layers, the head its outputs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING

from yoloship._util.fields import is_int
from yoloship._version import __version__
from yoloship.graph.builder import Builder, InFile
from yoloship.graph.config import COLOURS, GraphConfig, emit_input
from yoloship.graph.families import family_of
from yoloship.graph.heads.head import MAX_STRIDE
from yoloship.graph.known_transform import CLASSIFY, OPEN, settled_transform, trained_side
from yoloship.graph.module_view import ModuleView, check_consumed
from yoloship.graph.onnx_file import graph_bytes
from yoloship.graph.passes.half import convert_precision
from yoloship.graph.serialize import to_onnx, write_onnx
from yoloship.model import ALIASES_KEY, MAX_SIDE, METADATA_KEY, ModelInfo, size_multiple
from yoloship.transforms import Transform

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from yoloship.checkpoint import Checkpoint
    from yoloship.graph.builder import Constants, Graph
    from yoloship.graph.families.family import Family
    from yoloship.graph.heads.head import Head
    from yoloship.model import HeadChoice, KeypointShape, OutputForm

_USUAL_SIDE = 640
_SPOOL_BYTES = 64 << 20
"""Weights up to this size stay in memory."""


def build_graph(checkpoint: Checkpoint, config: GraphConfig) -> onnx.ModelProto:
    """Write the ONNX graph of a trained network, with its metadata.

    Args:
        checkpoint: As read; its weights are folded in float64 and rounded to float32.
        config: Input and output form, sizes.

    Returns:
        A model that passes `onnx.checker`. The input is ``images``. For the outputs see the head of the network in
        `yoloship.graph.heads`.

    Raises:
        GraphError: a block or an option that cannot be written, named with its place; a size that does not fit.
        CheckpointError: a tensor's bytes are damaged, or the class names cannot be used.
    """
    info = model_info(checkpoint, config)
    model = to_onnx(trace(checkpoint, config), _metadata(checkpoint, info))
    return model if config.precision == "float32" else convert_precision(model, config.precision)


def write_graph(checkpoint: Checkpoint, config: GraphConfig, file: IO[bytes], *, folder: Path | None = None) -> int:
    """Write the ONNX graph of a trained network to a file: the bytes of `build_graph`, with less memory.

    The weights of a large float32 network go through a temporary file, so only one layer's are in memory at a time.

    Args:
        checkpoint: As read.
        config: Input and output form, sizes.
        file: Open for writing.
        folder: Where the temporary file may be; the system's own folder for them by default.

    Returns:
        How many bytes were written.

    Raises:
        GraphError: a block or an option that cannot be written, named with its place; a size that does not fit.
        CheckpointError: a tensor's bytes are damaged, or the class names cannot be used.
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
    network = _network(checkpoint, config)
    head, config = network.head, network.config
    multiple = size_multiple(head.strides)
    config.check_multiple(multiple)
    # The sides differ, and neither is a multiple of twice the multiple. So swapped axes or a mismatch cannot go unseen.
    unit = max(32, multiple)
    probe_hw = config.settled_hw or (3 * unit, 5 * unit)
    builder = Builder(dynamic_hw=config.input_hw is None, constants=constants, blocks=network.family.blocks)
    image = emit_input(builder, config, probe_hw, network.channels)
    head.emit(builder, config, network.family.write(builder, network.layers, image), probe_hw)
    check_consumed(network.root, checkpoint.aliases)
    return builder.build(checkpoint.name)


def usual_hw(checkpoint: Checkpoint, transform: Transform | str | None = None) -> tuple[int, int]:
    """The input size of a checkpoint's graph if the caller does not choose one, (height, width) in pixels.

    Args:
        checkpoint: As read.
        transform: The transform of a classification model, if it was chosen.

    Returns:
        The size of the transform or of the training, as far as they say one; else 640, or 224 for classification.
    """
    if checkpoint.task != CLASSIFY:
        return _trained_hw(checkpoint, size_multiple(checkpoint.strides)) or (_USUAL_SIDE, _USUAL_SIDE)
    if isinstance(transform, Transform):
        return transform.crop
    side = trained_side(checkpoint, ModuleView(checkpoint.module, "", checkpoint.name)) or 224
    return side, side


def model_info(checkpoint: Checkpoint, config: GraphConfig) -> ModelInfo:
    """The model record that `build_graph` embeds for the same arguments.

    Raises:
        GraphError: the checkpoint's network is of no family known here, or its head cannot be read.
    """
    network = _network(checkpoint, config)
    head, config = network.head, network.config
    assert not isinstance(config.transform, str), "the configuration is settled"
    return ModelInfo(
        task=head.task,
        family=network.family.name,
        class_names=checkpoint.names_for(head.classes),
        strides=tuple(sorted(head.strides)),
        anchors=head.anchors_finest_first,
        input_form=config.input_form,
        output_form=config.output_form,
        input_hw=config.settled_hw or (None, None),
        batch=config.batch,
        precision=config.precision,
        checkpoint_sha256=checkpoint.sha256,
        producer=f"yoloship {__version__}",
        nms=config.nms,
        channels=network.channels,
        extra_columns=head.extra_columns,
        mask_rule=head.mask_rule(checkpoint.metadata),
        head=config.head,
        keypoint_shape=head.keypoint_shape,
        keypoint_names=head.keypoint_names(network.root),
        transform=config.transform,
        class_scores=head.class_scores,
        usual_hw=None if head.task == CLASSIFY else _trained_hw(checkpoint, size_multiple(head.strides)),
    )


def _trained_hw(checkpoint: Checkpoint, multiple: int) -> tuple[int, int] | None:
    """The size of the training images in the options of Ultralytics' package, rounded up as its own tool does.

    It is a side, or height and width. Other values count as none.
    """
    options = checkpoint.metadata.get("train_args")
    value = options.get("imgsz") if isinstance(options, dict) else None
    sides = value if isinstance(value, list | tuple) else (value, value)
    fitting = tuple(side for side in sides if is_int(side, 1, MAX_SIDE - MAX_STRIDE))
    if len(sides) != 2 or len(fitting) != 2:
        return None
    height, width = (-(-side // multiple) * multiple for side in fitting)
    return height, width


def _metadata(checkpoint: Checkpoint, info: ModelInfo) -> dict[str, str]:
    """Our own entries, and those that Ultralytics' tools look for: names by id, largest stride, task, size, batch.

    If the user declared a fork's class equal to an official one, an entry says so, because the graph does not show it.
    """
    height, width = info.input_hw
    usual = (640, 640) if info.transform is None else info.transform.crop
    entries = {
        METADATA_KEY: info.to_json(),
        "names": repr(dict(enumerate(info.class_names))),
        "stride": str(max(info.strides, default=1)),
        "task": info.task,
        "imgsz": repr([height or usual[0], width or usual[1]]),
        "batch": str(info.batch or 1),
    }
    if info.keypoint_shape is not None:
        entries["kpt_shape"] = repr(list(info.keypoint_shape))
    if info.channels != COLOURS:
        entries["channels"] = str(info.channels)
    if checkpoint.aliases:
        entries[ALIASES_KEY] = json.dumps(dict(checkpoint.aliases), ensure_ascii=False, sort_keys=True)
    return entries


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What a checkpoint's network is.

    Attributes:
        family: A name in `yoloship.graph.families.FAMILIES`.
        design: What people call it: ``YOLOv8``.
        heads: The heads between which a caller can choose; empty if there is no choice.
        head: The one that answers by default; None if there is only one and it needs suppression.
        forms: Output forms that it can be written in, the default first.
        usual_hw: (height, width) in model pixels that a graph has by default.
        keypoint_shape: How many keypoints an object has, and how many numbers for each; None without them.
        keypoint_names: Their names, if they are known.
        mask_rule: How masks are made, a name in `yoloship.results.mask_rules.MASK_RULES`; None without masks.
    """

    family: str
    design: str
    heads: tuple[HeadChoice, ...]
    head: HeadChoice | None
    forms: tuple[OutputForm, ...]
    usual_hw: tuple[int, int]
    keypoint_shape: KeypointShape | None = None
    keypoint_names: tuple[str, ...] = ()
    mask_rule: str | None = None


def network_facts(checkpoint: Checkpoint) -> NetworkFacts:
    """Find out what a checkpoint's network is, without writing it.

    Raises:
        GraphError: it is of no family known here, or its head cannot be read.
    """
    network = _network(checkpoint, GraphConfig("usual", transform=OPEN if checkpoint.task == CLASSIFY else None))
    config = network.config
    heads = network.head.choices if len(network.head.choices) > 1 else ()
    forms = dict.fromkeys((config.output_form, *network.head.forms))
    hw = config.settled_hw or (_USUAL_SIDE, _USUAL_SIDE)
    return NetworkFacts(
        network.family.name, network.family.design(network.root.module), heads, config.head, tuple(forms), hw,
        network.head.keypoint_shape, network.head.keypoint_names(network.root),
        network.head.mask_rule(checkpoint.metadata),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Network:
    """A checkpoint's network with its family and its head, and the choices for its graph without open ends."""

    family: Family
    root: ModuleView
    layers: tuple[ModuleView, ...]
    head: Head
    channels: int
    config: GraphConfig


def _network(checkpoint: Checkpoint, config: GraphConfig) -> _Network:
    """Find the family and the head of a network, before any of it is written.

    Raises:
        GraphError: it is of no family known here, or its head cannot be read, or the configuration does not fit it.
        InputError: it is a classification model, and its transform is not known, or the one that was given does not
            fit.
    """
    family = family_of(checkpoint)
    root = ModuleView(checkpoint.module, "", checkpoint.name)
    layers = family.layers(root)
    head = family.read_head(layers[-1])
    channels = family.input_channels(root, layers)
    if config.input_hw == "usual":
        config = replace(config, input_hw=usual_hw(checkpoint, config.transform))
    config = settled_transform(
        head.settled(config, checkpoint.metadata), checkpoint, root, task=head.task, channels=channels
    )
    return _Network(family, root, layers, head, channels, config)
