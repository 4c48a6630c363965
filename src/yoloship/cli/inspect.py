"""``yoloship inspect``: what an engine, an ONNX file or a checkpoint is, for people and for programs."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from yoloship.cli.command import argument, command, flag
from yoloship.cli.output import print_json, print_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from yoloship.engine import EngineFacts

MAX_LAYER_ROWS = 400
FIGURES = frozenset({"figures_hw", "gflops", "activation_bytes_at_once", "activations_of_unknown_size"})
KINDS = MappingProxyType({"engine": "an engine", "checkpoint": "a checkpoint; export it first"})


@command(
    "yoloship inspect best.engine",
    "yoloship inspect best.onnx --json",
    "yoloship inspect best.onnx --netron",
    "yoloship inspect best.pt",
)
@argument("file", metavar="FILE", help="An engine, an ONNX file, a checkpoint, or a release name.")
@flag("--json", "as_json", help="Print JSON.")
@flag("--netron", help="Also open the graph of an ONNX file in Netron, until Ctrl-C.")
def inspect(file: str, as_json: bool, netron: bool) -> None:
    """Show what a file is. Engines: sidecar, header, tensors, profiles, and layers where a GPU lets them be loaded.

    ONNX: operators, what each layer computes in, and for one picture the arithmetic and an estimate of the memory that
    activations take at once.
    """
    from yoloship.cli.viewer import require_netron, view
    from yoloship.pipeline.releases import resolve
    from yoloship.sinks import facts_table

    path = resolve(file)
    kind = _kind(path)
    if netron and kind != "onnx":
        raise click.UsageError(f"--netron is for ONNX files, and {path} is {KINDS[kind]}")
    viewer = require_netron() if netron else None
    if kind == "engine":
        from yoloship.engine import inspect_engine

        facts = inspect_engine(path)
        data, rows = facts.to_dict(), list(_engine_rows(facts))
    else:
        data = _onnx(path) if kind == "onnx" else _checkpoint(path)
        shown = {name: value for name, value in data.items() if name not in {"layers", "model", *FIGURES} and value}
        if kind == "onnx":
            shown |= _figures(data)
        if data.get("model"):  # says all that the field's own keys say
            shown.pop("metadata", None)
        rows = [*((name, _line(value)) for name, value in shown.items()), *_record_rows(data.get("model"))]
    if as_json:
        print_json(data)
    else:
        print_text(facts_table(rows, shutil.get_terminal_size((100, 24)).columns))
    if viewer is not None:
        view(viewer, path)


def _kind(path: Path) -> str:
    """What the file is; content of no known kind goes to the ONNX reader, which says what is wrong with it."""
    from yoloship.errors import InputError
    from yoloship.kinds import MODEL_KINDS, refuse_others

    kind = refuse_others(path, MODEL_KINDS | {"unknown"}, "model", subject=str(path), error=InputError)
    return "onnx" if kind == "unknown" else kind


def _engine_rows(facts: EngineFacts) -> Iterator[tuple[str, str]]:
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
        yield from _record_rows(json.loads(file.info.to_json()))
    yield from facts.tensor_lines
    if facts.loaded is None:
        yield "not loaded", facts.not_loaded or ""
        return
    yield "device memory", f"{facts.loaded.device_memory_bytes / 1e6:.1f} MB"
    yield "layers", str(len(facts.loaded.layers))
    for layer in facts.loaded.layers[:MAX_LAYER_ROWS]:
        yield "", " ".join(filter(None, (layer.precision, layer.kind, layer.name)))


def _record_rows(model: dict[str, Any] | None) -> list[tuple[str, str]]:
    if model is None:
        return []
    forms = f"input {model['input_form']}, output {model['output_form']}"
    return [
        ("model", f"{model['family']} {model['task']}, {model['precision']}, {forms}"),
        ("classes", f"{len(model['class_names'])}: {', '.join(model['class_names'])}"),
        ("strides", ", ".join(map(str, model["strides"]))),
    ]


def _onnx(path: Path) -> dict[str, Any]:
    from yoloship.graph import describe_onnx
    from yoloship.graph.check import check_onnx
    from yoloship.graph.file import parse_onnx, read_file
    from yoloship.graph.layer_precision import layer_precisions

    facts, summary = check_onnx(path), describe_onnx(path)
    layers = layer_precisions(parse_onnx(read_file(path), str(path)))
    return {
        "kind": "onnx",
        "file": str(path),
        "sha256": facts.sha256,
        "producer": facts.producer,
        "opset": facts.opset,
        "inputs": [str(spec) for spec in facts.inputs],
        "outputs": [str(spec) for spec in facts.outputs],
        "operators": dict(facts.operators),
        "stored elements by type": dict(facts.parameters),
        "weighted layers": dict(Counter(f"{layer.operator} in {layer.precision}" for layer in layers)),
        "layers": [asdict(layer) for layer in layers],
        "figures_hw": summary.flops_hw,
        "gflops": None if summary.flops is None else round(summary.flops / 1e9, 3),
        "activation_bytes_at_once": summary.activations.peak_bytes if summary.activations else None,
        "activations_of_unknown_size": summary.activations.unsized if summary.activations else None,
        "files beside it": [str(file) for file in facts.external_files],
        "metadata": {key: value for key, value in facts.metadata.items() if not key.startswith("yoloship.")},
        "model": json.loads(facts.info.to_json()) if facts.info else None,
    }


def _figures(data: dict[str, Any]) -> dict[str, str]:
    """Of one picture, in words; what is not known is left out."""
    if data["figures_hw"] is None:
        return {}
    unsized = data["activations_of_unknown_size"]
    beside = f", and {unsized} values whose size is not known" if unsized else ""
    return {
        "one picture": "×".join(map(str, data["figures_hw"])),
        "arithmetic": f"{data['gflops']:.3g} GFLOPs",
        "activations": f"about {data['activation_bytes_at_once'] / 1e6:.1f} MB at once, estimated{beside}",
    }


def _checkpoint(path: Path) -> dict[str, Any]:
    from yoloship.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path)
    return {
        "kind": "checkpoint",
        "file": str(path),
        "sha256": checkpoint.sha256,
        "task": checkpoint.task,
        "weights of": checkpoint.source_key,
        "parameters": checkpoint.module.parameter_count(),
        "strides": list(checkpoint.strides),
        "classes": list(checkpoint.class_names),
        **({"classes unusable": checkpoint.class_names_problem} if checkpoint.class_names_problem else {}),
        **({"not read": {key: list(names) for key, names in checkpoint.ignored.items()}} if checkpoint.ignored else {}),
    }


def _line(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
