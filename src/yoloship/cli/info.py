"""``yoloship info``, also called ``inspect``: what a file is, for people and for programs."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import click

from yoloship.cli.command import argument, command, flag
from yoloship.cli.output import print_json, print_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.engine import EngineFacts

MAX_LAYER_ROWS = 400


@command(
    "yoloship info best.pt",
    "yoloship info best.onnx --json",
    "yoloship info best.onnx --netron",
    "yoloship info best.engine",
)
@argument("file", metavar="FILE", help="A checkpoint (.pt), an ONNX file, an engine, or a release name.")
@flag("--json", "as_json", help="Print JSON, with each layer of an ONNX file or an engine.")
@flag("--netron", help="Also open the graph of an ONNX file in Netron, until Ctrl-C.")
def info(file: str, as_json: bool, netron: bool) -> None:
    """Show what a model file is: task, classes, inputs, outputs, parameters, arithmetic, precisions, metadata.

    'inspect' is another name for this command. For an ONNX file it also estimates the memory that activations take at
    once. For an engine it shows sidecar, header, tensors and profiles, and its layers if a GPU can load it.
    """
    from yoloship.cli import facts
    from yoloship.cli.viewer import require_netron, view
    from yoloship.errors import InputError
    from yoloship.kinds import MODEL_KINDS, refuse_others
    from yoloship.pipeline.releases import resolve
    from yoloship.sinks import facts_table

    path = resolve(file)
    kind = refuse_others(path, MODEL_KINDS | {"unknown"}, "model", subject=str(path), error=InputError)
    if netron and kind in {"engine", "checkpoint"}:
        raise click.UsageError(f"--netron is for ONNX files, and {path} is {_NOT_ONNX[kind]}")
    viewer = require_netron() if netron else None
    if kind == "engine":
        from yoloship.engine import inspect_engine

        engine = inspect_engine(path)
        data, rows = engine.to_dict(), _engine_rows(engine)
    elif kind == "checkpoint":
        data = facts.checkpoint_facts(path)
        rows = facts.checkpoint_rows(data)
    else:  # content of no known kind goes to the ONNX reader too, which says what is wrong with it
        data = facts.onnx_facts(path)
        rows = facts.onnx_rows(data)
    if as_json:
        print_json(data)
    else:
        print_text(facts_table(rows, shutil.get_terminal_size((100, 24)).columns))
    if viewer is not None:
        view(viewer, path)


_NOT_ONNX = {"engine": "an engine", "checkpoint": "a checkpoint; export it first"}


def _engine_rows(facts: EngineFacts) -> Iterator[tuple[str, str]]:
    from yoloship.cli.facts import model_rows
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
    yield "device memory", f"{facts.loaded.device_memory_bytes / 1e6:.1f} MB"
    yield "layers", str(len(facts.loaded.layers))
    for layer in facts.loaded.layers[:MAX_LAYER_ROWS]:
        yield "", " ".join(filter(None, (layer.precision, layer.kind, layer.name)))
