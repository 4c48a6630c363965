"""``yoloship info``, also called ``inspect``: show what a model file contains, as a table or as JSON."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import click

from yoloship._util.writing import write_bytes
from yoloship.cli.command import FILE, argument, command, flag, option
from yoloship.cli.layer_times import time_rows, times_svg
from yoloship.cli.options import outputs_for
from yoloship.cli.options import overwrite as overwrite_option
from yoloship.cli.output import facts_table, print_err, print_json, print_text
from yoloship.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from yoloship.checkpoint import Checkpoint
    from yoloship.engine import EngineFacts
    from yoloship.runtime.layer_times import LayerTimes

    Rows = Iterator[tuple[str, str]]


def require_netron() -> Any:
    """The viewer's module.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        return import_module("netron")
    except ModuleNotFoundError as error:
        raise DependencyError("is not installed", subject="netron", hint="pip install netron") from error


def view(netron: Any, path: Path) -> None:
    """Serve a graph on this machine only and open it in the browser, until Ctrl-C."""
    host, port = netron.start(str(path))
    print_err(f"Netron shows {path} at http://{host}:{port}; Ctrl-C ends it")
    netron.wait()


_CROPPED: Final = frozenset({"classify"})
"""Tasks whose images are cropped by a transform."""
MAX_VALUE_CHARS: Final = 200
MAX_KEY_CHARS: Final = 60
MAX_METADATA_ROWS: Final = 100
"""Limits of the metadata that is shown; the table pads every row to its widest key."""
KEYS_OF_THE_RECORD: Final = frozenset({"names", "stride", "task", "imgsz", "batch"})
"""Metadata that we write for other tools; it repeats what our own metadata says."""
_FINISHED: Final = ("epoch", -1)
"""The entry that a training writes into a checkpoint when it is finished."""


def checkpoint_facts(path: Path) -> dict[str, Any]:
    """What a checkpoint contains, and how much its graph would compute."""
    from yoloship.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path)
    return {
        "kind": "checkpoint",
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "sha256": checkpoint.sha256,
        "task": checkpoint.task,
        "weights of": checkpoint.source_key,
        "classes": list(checkpoint.class_names),
        "classes unusable": checkpoint.class_names_problem,
        "strides": list(checkpoint.strides),
        "parameters": checkpoint.module.parameter_count(),
        **_network(checkpoint),
        **_arithmetic(checkpoint),
        **_transform(checkpoint),
        "metadata": {
            str(key): value for key, value in checkpoint.metadata.items() if isinstance(value, str | int | float)
        },
        "not read": {key: list(names) for key, names in checkpoint.ignored.items()},
    }


def checkpoint_rows(data: Mapping[str, Any]) -> Rows:
    """The rows of the table for a checkpoint, from `checkpoint_facts`."""
    yield "file", _file(data)
    design = f"{data['design']} checkpoint" if data["design"] else "checkpoint"
    yield "kind", f"{design}, {data['task']}; weights of '{data['weights of']}'"
    yield "sha256", data["sha256"]
    problem = data["classes unusable"]
    yield "classes", f"{problem}; give them with --names" if problem else _classes(data["classes"])
    if data["strides"]:
        yield "strides", ", ".join(map(str, data["strides"]))
    if data["head choices"]:
        others = ", ".join(head for head in data["head choices"] if head != data["head"])
        yield "head", f"{data['head']} by default; {others} with --head"
    elif data["head"]:
        yield "head", f"{data['head']} only"
    yield from _beside_boxes(data)
    if data["usual size"]:
        yield "size", "×".join(map(str, data["usual size"])) + " by default"
    yield "parameters", f"{data['parameters']:,}"
    if data["gflops"] is not None:
        yield "arithmetic", _gflops(data)
    if data["transform"] is not None:
        yield "transform", data["transform"]
    if data["not exportable"]:
        yield "export", data["not exportable"]
    yield from _metadata(data["metadata"])
    if data["not read"]:
        yield "not read", _not_read(data["not read"])


def onnx_facts(path: Path) -> dict[str, Any]:
    """What an ONNX file contains, and how much it computes for one image."""
    from yoloship.graph import graph_costs, read_onnx
    from yoloship.graph.body import layer_precisions

    file = read_onnx(path)
    costs = graph_costs(file.model, subject=str(path))
    layers = layer_precisions(file.model)
    return {
        "kind": "onnx",
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "sha256": file.sha256,
        "producer": file.producer,
        "opset": file.opset,
        "model": json.loads(file.info.to_json()) if file.info else None,
        "inputs": [str(spec) for spec in file.inputs],
        "outputs": [str(spec) for spec in file.outputs],
        "parameters": costs.parameter_count,
        "figures_hw": costs.flops_hw,
        "gflops": None if costs.flops is None else round(costs.flops / 1e9, 3),
        "activation_bytes_at_once": costs.activations.peak_bytes if costs.activations else None,
        "activations_of_unknown_size": costs.activations.unsized if costs.activations else None,
        "operators": dict(file.operators),
        "stored elements by type": dict(file.parameters),
        "weighted layers": dict(Counter(f"{layer.operator} in {layer.precision}" for layer in layers)),
        "layers": [asdict(layer) for layer in layers],
        "files beside it": [str(file) for file in file.external_files],
        "aliases": _aliases(file.metadata),
        "metadata": {key: value for key, value in file.metadata.items() if not key.startswith("yoloship.")},
    }


def _aliases(metadata: Mapping[str, str]) -> dict[str, str]:
    """Classes of a fork that were read as official ones; empty if the metadata is missing or cannot be read."""
    from yoloship.model import ALIASES_KEY

    try:
        noted = json.loads(metadata.get(ALIASES_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(noted, dict):
        return {}
    return {old: new for old, new in noted.items() if isinstance(new, str)}


def onnx_rows(data: Mapping[str, Any]) -> Rows:
    """The rows of the table for an ONNX file, from `onnx_facts`."""
    model, metadata = data["model"], data["metadata"]
    written = f", written by {data['producer']}" if data["producer"] else ""
    yield "file", _file(data)
    yield "kind", f"ONNX, opset {data['opset']}, {sum(data['operators'].values())} nodes{written}"
    yield "sha256", data["sha256"]
    if model is not None:
        yield from model_rows(model)
        metadata = {key: value for key, value in metadata.items() if key not in KEYS_OF_THE_RECORD}
    if data["aliases"]:
        listed = ", ".join(f"{old} as {new}" for old, new in list(data["aliases"].items())[:MAX_METADATA_ROWS])
        yield "read by --alias", listed
    for name in ("input", "output"):
        for spec in data[f"{name}s"]:
            yield name, spec
    yield "parameters", f"{data['parameters']:,}"
    if data["gflops"] is not None and data["figures_hw"] is not None:
        yield "arithmetic", _gflops(data)
    if data["activation_bytes_at_once"] is not None:
        unsized = data["activations_of_unknown_size"]
        beside = f", and {unsized} values whose size is not known" if unsized else ""
        yield "activations", f"about {data['activation_bytes_at_once'] / 1e6:.1f} MB at once, estimated{beside}"
    for name in ("operators", "stored elements by type", "weighted layers"):
        if data[name]:
            yield name, ", ".join(f"{key} {count}" for key, count in data[name].items())
    if data["files beside it"]:
        yield "files beside it", ", ".join(data["files beside it"])
    yield from _metadata(metadata)


def model_rows(model: Mapping[str, Any]) -> Rows:
    """The rows of the table for a `ModelInfo`, whatever file contains it."""
    yield "task", f"{model['task']} ({model['family']})"
    yield "classes", _classes(model["class_names"])
    if model["strides"]:
        yield "strides", ", ".join(map(str, model["strides"]))
    yield from _beside_boxes(model)
    if model.get("head"):
        yield "head", f"{model['head']}, {'final boxes' if model['head'] == 'one2one' else 'which needs NMS'}"
    scores = f" ({model['class_scores']})" if model.get("class_scores") else ""
    yield "form", f"input {model['input_form']}, output {model['output_form']}{scores}, {model['precision']}"
    if scores:
        from yoloship.model import ModelInfo

        transform = ModelInfo.from_json(json.dumps(model)).transform
        yield "transform", _NO_TRANSFORM if transform is None else str(transform)
    yield "made from", f"checkpoint with SHA-256 {model['checkpoint_sha256'] or 'unknown'}"


def _beside_boxes(data: Mapping[str, Any]) -> Rows:
    """What a model finds beside boxes: keypoints or masks."""
    if data.get("keypoint_shape"):
        count, numbers = data["keypoint_shape"]
        names = _short(", ".join(data.get("keypoint_names") or ()), MAX_VALUE_CHARS)
        yield "keypoints", f"{count}, {'x, y and visibility' if numbers > 2 else 'x and y'}{names and f': {names}'}"
    if data.get("mask_rule"):
        yield "masks", f"by the rule {data['mask_rule']}"


_NO_TRANSFORM: Final = "not in the file; give it with --transform"


def _transform(checkpoint: Checkpoint) -> dict[str, Any]:
    """How images become the input of a classification model, as text; None for other tasks."""
    from yoloship.errors import CheckpointError, GraphError, InputError
    from yoloship.graph import GraphConfig, model_info

    if checkpoint.task not in _CROPPED:
        return {"transform": None}
    try:
        return {"transform": str(model_info(checkpoint, GraphConfig("usual")).transform)}
    except InputError:
        return {"transform": _NO_TRANSFORM}
    except (GraphError, CheckpointError):  # another row says why it cannot be exported
        return {"transform": None}


def _network(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the network of a checkpoint is; without values if it is not one that can be exported."""
    from yoloship.errors import GraphError, InputError
    from yoloship.graph import network_facts

    try:
        facts = network_facts(checkpoint)
    except (GraphError, InputError):
        return {
            "family": None,
            "design": None,
            "head choices": [],
            "head": None,
            "output forms": [],
            "usual size": None,
            "keypoint_shape": None,
            "keypoint_names": [],
            "mask_rule": None,
        }
    return {
        "family": facts.family,
        "design": facts.design,
        "head choices": list(facts.heads),
        "head": facts.head,
        "output forms": list(facts.forms),
        "usual size": list(facts.usual_hw),
        "keypoint_shape": facts.keypoint_shape and list(facts.keypoint_shape),
        "keypoint_names": list(facts.keypoint_names),
        "mask_rule": facts.mask_rule,
    }


def _arithmetic(checkpoint: Checkpoint) -> dict[str, Any]:
    """How much the graph of a checkpoint computes, or why the checkpoint cannot be exported."""
    from yoloship.errors import GraphError, InputError
    from yoloship.graph import checkpoint_flops, usual_hw
    from yoloship.model import size_multiple

    try:
        multiple = size_multiple(checkpoint.strides or (32,))
        side = -(-usual_hw(checkpoint)[0] // multiple) * multiple
        flops = checkpoint_flops(checkpoint, (side, side))
    except (GraphError, InputError) as error:
        return {"figures_hw": None, "gflops": None, "not exportable": str(error)}
    return {"figures_hw": (side, side), "gflops": round(flops / 1e9, 3), "not exportable": None}


def _file(data: Mapping[str, Any]) -> str:
    return f"{data['file']} ({data['file_bytes'] / 1e6:.1f} MB)"


def _gflops(data: Mapping[str, Any]) -> str:
    figure = data["gflops"]
    return f"{figure:.{1 if figure >= 1 else 3}f} GFLOPs at {'×'.join(map(str, data['figures_hw']))}"


def _not_read(keys: Mapping[str, Sequence[str]]) -> str:
    """The entries of a checkpoint that are not read: their keys, with the unknown classes in each."""
    shown = [f"{_short(key)} ({', '.join(names)})" if names else _short(key) for key, names in keys.items()]
    if len(shown) > MAX_METADATA_ROWS:
        shown[MAX_METADATA_ROWS:] = [f"{len(shown) - MAX_METADATA_ROWS} more"]
    return ", ".join(shown)


def _metadata(values: Mapping[str, object]) -> Rows:
    for index, (key, value) in enumerate(values.items()):
        if index == MAX_METADATA_ROWS:
            yield "…", f"{len(values) - index} more entries"
            return
        words = f"{value} (training is finished)" if (key, value) == _FINISHED else str(value)
        yield _short(key), _short(words, MAX_VALUE_CHARS)


def _short(text: str, limit: int = MAX_KEY_CHARS) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def _classes(names: Sequence[str]) -> str:
    if not names:
        return "unnamed"
    more = len(names) - FIRST_NAMES if len(names) > MAX_NAMES else 0
    return f"{len(names)}: {', '.join(names[:FIRST_NAMES] if more else names)}" + (f" and {more} more" if more else "")


MAX_LAYER_ROWS = 400
MAX_NAMES, FIRST_NAMES = 100, 12
"""Up to so many class names all are shown, of more only the first; JSON has them all."""


@command(
    examples=(
        "yoloship info best.pt",
        "yoloship info best.onnx --json",
        "yoloship info best.onnx --netron",
        "yoloship info best.engine",
        "yoloship inspect best.engine --times --plot layers.svg",
    )
)
@argument("file", metavar="FILE", help="A checkpoint (.pt), an ONNX file, an engine, or a release name.")
@flag("--json", "as_json", help="Print JSON, with each layer of an ONNX file or an engine.")
@flag("--netron", help="Also open the graph of an ONNX file in Netron, until Ctrl-C.")
@flag("--times", help="For an engine: run it on this machine's GPU and show how long each layer takes.")
@option("--plot", type=FILE, metavar="FILE.svg", help="With --times: plot the slowest layers.")
@overwrite_option
def info(file: str, as_json: bool, netron: bool, times: bool, plot: Path | None, overwrite: bool) -> None:
    """Show what a model file contains: task, classes, inputs, outputs, parameters, arithmetic, precisions, metadata.

    'info' and 'inspect' are the same command. For an ONNX file, it also estimates the memory for activations. For an
    engine, it shows the .json file beside it, header, tensors and profiles, and the layers if a GPU can load it.
    """
    from yoloship.errors import InputError
    from yoloship.kinds import MODEL_KINDS, refuse_others
    from yoloship.models.releases import resolve

    path = resolve(file)
    kind = refuse_others(path, MODEL_KINDS | {"unknown"}, "model", subject=str(path), error=InputError)
    if plot is not None and not times:
        raise click.UsageError("--plot draws what --times measures: give both")
    if plot is not None and plot.suffix.lower() != ".svg":
        raise click.UsageError(f"--plot {plot}: give a name that ends in .svg")
    if times and kind != "engine":
        raise click.UsageError("--times is for engines, which TensorRT can measure layer by layer")
    if netron and kind in {"engine", "checkpoint"}:
        raise click.UsageError(f"--netron is for ONNX files, and {path} is {_NOT_ONNX[kind]}")
    viewer = require_netron() if netron else None
    if kind == "engine":
        from yoloship.engine import inspect_engine

        if plot is not None:
            outputs_for((file,), images=(), labels=None, overwrite=overwrite).claim(plot)
        engine = inspect_engine(path)
        data, rows = engine.to_dict(), _engine_rows(engine, with_layers=not times)
        if times:
            measured = _layer_times(engine)
            data, rows = {**data, "times": measured.to_dict()}, chain(rows, time_rows(measured))
            if plot is not None:
                write_bytes(plot, times_svg(measured, path.name).encode(), overwrite=overwrite)
    elif kind == "checkpoint":
        data = checkpoint_facts(path)
        rows = checkpoint_rows(data)
    else:  # a file of unknown kind goes to the ONNX reader too, which reports what is wrong with it
        data = onnx_facts(path)
        rows = onnx_rows(data)
    if as_json:
        print_json(data)
    else:
        print_text(facts_table(rows, shutil.get_terminal_size((100, 24)).columns))
    if viewer is not None:
        view(viewer, path)


_NOT_ONNX = {"engine": "an engine", "checkpoint": "a checkpoint; export it first"}


def _layer_times(facts: EngineFacts) -> LayerTimes:
    from yoloship.errors import EngineError
    from yoloship.runtime.layer_times import layer_times

    if facts.loaded is None:
        raise EngineError(f"its layers cannot be timed here: {facts.not_loaded}", subject=facts.file.path.name)
    return layer_times(facts.file.path, facts.loaded.layers)


def _engine_rows(facts: EngineFacts, *, with_layers: bool = True) -> Iterator[tuple[str, str]]:
    from yoloship.engine import runs_on

    file, record = facts.file, facts.file.record
    yield "file", f"{file.path} (plan of {len(file.plan) / 1e6:.1f} MB)"
    yield "kind", "TensorRT engine" + (", with a JSON prefix that plain TensorRT refuses" if file.has_prefix else "")
    yield "header", " ".join(filter(None, (file.header.form, file.header.version)))
    if record is None:
        yield "sidecar", "none"
    else:
        yield "built by", f"{record.flavour} {record.version}, {record.producer}"
        yield "built from", f"{record.source_name}, ONNX with SHA-256 {record.onnx_sha256}"
        yield "runs on", runs_on(record)
        yield "types inside", ", ".join(record.dtypes)
        for profile in record.profiles:
            yield "profile", f"{profile.name} {profile.minimum} … {profile.optimum} … {profile.maximum}"
    if file.info is not None:
        yield from model_rows(json.loads(file.info.to_json()))
    yield from facts.tensor_lines
    if facts.loaded is None:
        yield "not loaded", facts.not_loaded or ""
        return
    if facts.loaded.device_memory_bytes is not None:
        yield "device memory", f"{facts.loaded.device_memory_bytes / 1e6:.1f} MB"
    yield "layers", str(len(facts.loaded.layers))
    for layer in facts.loaded.layers[:MAX_LAYER_ROWS] if with_layers else ():
        yield "", " ".join(filter(None, (layer.precision, layer.kind, layer.name)))
