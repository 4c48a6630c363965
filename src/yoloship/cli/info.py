"""``yoloship info``: what a checkpoint or an ONNX file holds."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from yoloship.cli.command import argument, command
from yoloship.cli.output import print_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from yoloship.checkpoint import Checkpoint


GFLOPS_SIDE = 640
"""The field quotes arithmetic at this input size."""

MAX_VALUE_CHARS = 200
MAX_KEY_CHARS = 60
MAX_METADATA_ROWS = 100
"""The table pads every row to its widest key, so both are bounded."""


@command("yoloship info best.pt", "yoloship info best.onnx")
@argument("file", metavar="FILE", help="A checkpoint (.pt), an ONNX file, or a release name.")
def info(file: str) -> None:
    """Show a file's task, classes, strides, parameters, arithmetic, inputs, outputs and metadata."""
    from yoloship.errors import InputError
    from yoloship.kinds import MODEL_KINDS, refuse_others, wrong_kind
    from yoloship.pipeline.releases import resolve
    from yoloship.sinks import facts_table

    path = resolve(file)
    kind = refuse_others(path, MODEL_KINDS | {"unknown"}, "model", subject=str(path), error=InputError)
    if kind == "engine":
        raise wrong_kind(kind, "onnx", subject=str(path), error=InputError)
    facts = _of_checkpoint(path) if kind == "checkpoint" else _of_graph(path)
    rows = [("file", f"{path} ({path.stat().st_size / 1e6:.1f} MB)"), *facts]
    print_text(facts_table(rows, shutil.get_terminal_size((100, 24)).columns))


def _of_checkpoint(path: Path) -> Iterator[tuple[str, str]]:
    from yoloship.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path)
    yield "kind", f"YOLOv5 checkpoint, {checkpoint.task}; weights of '{checkpoint.source_key}'"
    yield "sha256", checkpoint.sha256
    problem = checkpoint.class_names_problem
    yield "classes", _classes(checkpoint.class_names) if problem is None else f"{problem}; give them with --names"
    if checkpoint.strides:
        yield "strides", ", ".join(map(str, checkpoint.strides))
    yield "parameters", f"{checkpoint.module.parameter_count():,}"
    yield from _arithmetic(checkpoint)
    yield from _metadata({key: value for key, value in checkpoint.metadata.items() if _is_short(value)})
    yield from _ignored(checkpoint.ignored)


def _ignored(keys: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """What the file holds beside the network and nobody reads: its keys, with the unknown classes below each."""
    shown = [f"{_short(key)} ({', '.join(names)})" if names else _short(key) for key, names in keys.items()]
    if len(shown) > MAX_METADATA_ROWS:
        shown[MAX_METADATA_ROWS:] = [f"{len(shown) - MAX_METADATA_ROWS} more"]
    if shown:
        yield "not read", ", ".join(shown)


def _arithmetic(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    """What its graph would cost; a checkpoint that cannot become one still has all the other facts."""
    from yoloship.errors import GraphError
    from yoloship.graph import checkpoint_flops
    from yoloship.model import size_multiple

    try:
        multiple = size_multiple(checkpoint.strides or (32,))
        side = -(-GFLOPS_SIDE // multiple) * multiple
        flops = checkpoint_flops(checkpoint, (side, side))
    except GraphError as error:
        yield "export", str(error)
        return
    yield "arithmetic", f"{flops / 1e9:.1f} GFLOPs at {side}×{side}"


def _of_graph(path: Path) -> Iterator[tuple[str, str]]:
    from yoloship.graph import describe_onnx
    from yoloship.model import METADATA_KEY

    summary = describe_onnx(path)
    written = f", written by {summary.producer}" if summary.producer else ""
    yield "kind", f"ONNX, opset {summary.opset}, {summary.operator_count} nodes{written}"
    model = summary.info
    if model is not None:
        yield "task", model.task
        yield "classes", _classes(model.class_names)
        yield "strides", ", ".join(map(str, model.strides))
        yield "form", f"input {model.input_form}, output {model.output_form}, {model.precision}"
        yield "made from", f"checkpoint with SHA-256 {model.checkpoint_sha256 or 'unknown'}"
    yield "parameters", f"{summary.parameter_count:,}"
    if summary.flops is not None and summary.flops_hw is not None:
        yield "arithmetic", f"{summary.flops / 1e9:.1f} GFLOPs at {'×'.join(map(str, summary.flops_hw))}"
    for name, tensors in (("input", summary.inputs), ("output", summary.outputs)):
        for tensor in tensors:
            yield name, str(tensor)
    yield from _metadata({key: value for key, value in summary.metadata.items() if key != METADATA_KEY})


def _metadata(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for index, (key, value) in enumerate(values.items()):
        if index == MAX_METADATA_ROWS:
            yield "…", f"{len(values) - index} more entries"
            return
        yield _short(str(key), MAX_KEY_CHARS), _short(str(value), MAX_VALUE_CHARS)


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def _is_short(value: object) -> bool:
    """Whether a metadata value says something on one line."""
    return isinstance(value, str | int | float)


def _classes(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else "unnamed"
