"""``yoloship triton``: a model repository for a Triton server, and ``yoloship triton check`` for a running one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from yoloship.cli import options
from yoloship.cli.command import (
    COUNT,
    FILE,
    Command,
    Number,
    alias_table,
    argument,
    command,
    option,
)
from yoloship.cli.export import FORMS, FORMS_HELP
from yoloship.cli.output import print_err, print_text
from yoloship.errors import InputError

if TYPE_CHECKING:
    from yoloship.triton.artefact import Wanted
    from yoloship.triton.model_config import Instances
    from yoloship.triton.repository import NamedModel, Serving, Variant, Written

CHECK: Final = "check"
BACKENDS: Final = ("python", "onnxruntime", "tensorrt")
INPUTS: Final = ("file", "pixels", "image", "float")
_KEYS: Final = ("model", "max-batch", "preferred-batch", "queue-delay-ms", "instances", "device")


class _Triton(Command):
    """The command that writes; with ``check`` as its first word, it is the command that checks."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand ``check`` over to its own command."""
        if args[:1] != [CHECK]:
            return super().make_context(info_name, args, parent, **extra)
        from yoloship.cli.triton_check import check

        context: click.Context = check.make_context(f"{info_name} {CHECK}", args[1:], parent, **extra)
        return context


@command(
    cls=_Triton,
    examples=(
        "yoloship triton best.pt -o repository/",
        "yoloship triton best.pt -o repository/ --backend onnxruntime",
        "yoloship triton day=best.pt night=night.onnx -o repository/ --max-batch 16",
        "yoloship triton best-a100.engine -o repository/ --config h100:model=best-h100.engine,max-batch=32",
        "yoloship triton check localhost:8000 --model best.pt photos/",
    ),
)
@argument(
    "models",
    metavar="[NAME=]MODEL...",
    many=True,
    help="Checkpoints, ONNX files, engines, release names. NAME is the model's name on the server. Default: the file "
    "name without its suffix.",
)
@option(
    "-o",
    "--output-dir",
    type=FILE,
    required=True,
    metavar="DIR",
    help="The model repository. It is created if it does not exist; other models in it are kept.",
)
@option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="What runs the model. python: yoloship itself, images in, results out. onnxruntime: a graph. tensorrt: an "
    "engine. Default: tensorrt for an engine, else python.",
)
@option(
    "--input",
    "input_form",
    type=click.Choice(INPUTS),
    help="What a request contains. For python: file, the bytes of an image file (default), or pixels, (H,W,3) uint8 "
    "BGR. For a graph made from a checkpoint: image, (H,W,3) uint8 BGR, letterboxed (default), or float, (3,H,W) RGB "
    "in 0..1.",
)
@option(
    "--output",
    "output_form",
    type=click.Choice(tuple(FORMS)),
    help=f"For onnxruntime: output of a graph made from a checkpoint. {FORMS_HELP} Default: nms, or raw for "
    "classification.",
)
@options.imgsz
@options.conf
@options.iou
@options.max_det
@option(
    "--max-batch",
    type=COUNT,
    metavar="N",
    help="Largest batch that the server makes. Default: 8, or the largest that an engine takes.",
)
@option(
    "--preferred-batch",
    type=COUNT,
    multiple=True,
    metavar="N",
    help="Batch size that the server waits for; may be repeated. Default: the size that an engine was tuned for.",
)
@option(
    "--queue-delay-ms",
    type=Number(0, 10_000),
    metavar="MS",
    default=0.0,
    help="How long a request may wait for others. 0 puts only requests that wait for a busy model into one batch.",
)
@option("--instances", type=COUNT, metavar="N", default=1, help="Copies of the model on each GPU, or on the CPU.")
@option(
    "--device",
    metavar="auto|cpu|cuda[:N,N]",
    help="Where the server runs the model. Default: cpu for python, cuda for an engine, else auto (GPUs, if there "
    "are any).",
)
@option(
    "--config",
    "configs",
    multiple=True,
    metavar="NAME:KEY=VALUE,...",
    help="An additional configuration, configs/NAME.pbtxt, for servers started with --model-config-name=NAME; may be "
    f"repeated. Keys: {', '.join(_KEYS)}. Separate several preferred batches or GPUs with +.",
)
@options.head
@options.names
@options.names_from
@options.aliases
@options.transform
@option("--overwrite", is_flag=True, help="Replace models with the same name. Other folders are never replaced.")
def triton(models: tuple[str, ...], output_dir: Path, **given: Any) -> None:
    """Write a model repository for a Triton server: a folder for each model, with its complete configuration.

    "yoloship triton check URL" compares a running server with the model; its --help lists its options. docs/triton.md
    describes all steps from a checkpoint to a server in a container.

    With the Python backend, the server needs yoloship: run pip install yoloship in its container. The other backends
    need nothing more, but clients have to letterbox the images themselves.
    """
    from yoloship.triton.repository import Request, write_repository

    request = Request(
        tuple(map(_named, models)),
        _wanted(given),
        given["backend"],
        _serving(given),
        tuple(map(_variant, given["configs"])),
    )
    written = write_repository(request, output_dir, overwrite=given["overwrite"], on_note=print_err)
    for one in written:
        for note in one.notes:
            print_err(f"note: {note}")
        print_text(f"{_summary(one)}\n")


def _wanted(given: dict[str, Any]) -> Wanted:
    from yoloship.triton.artefact import Wanted

    backend, form = given["backend"], given["input_form"]
    python = form in {"file", "pixels"}
    if form is not None and python != (backend in {None, "python"}):
        raise click.UsageError(
            f"--input {form} is for --backend {'python' if python else 'onnxruntime'}: give it, or leave --input out"
        )
    if given["output_form"] is not None and backend != "onnxruntime":
        raise click.UsageError("--output is for --backend onnxruntime: our model in the Python backend returns results")
    values = {
        "score_threshold": given["conf"],
        "iou_threshold": given["iou"],
        "max_detections": given["max_det"],
        "class_names": options.chosen_names(given["names"], given["names_from"]),
        "transform": given["transform"],
    }
    return Wanted(
        backend=backend or "python",
        input=form,
        output_form=given["output_form"],
        imgsz=given["imgsz"],
        options={name: value for name, value in values.items() if value is not None},
        head=given["head"],
        aliases=alias_table(given["aliases"]) or None,
    )


def _serving(given: dict[str, Any]) -> Serving:
    from yoloship.triton.repository import Serving

    return Serving(
        max_batch=given["max_batch"],
        preferred=given["preferred_batch"],
        queue_delay_us=round(1000 * given["queue_delay_ms"]),
        instances=None if given["device"] is None else _instances(given["device"]),
        count=given["instances"],
    )


def _named(text: str) -> NamedModel:
    """``best.pt`` → the model ``best``; ``night=runs/best.pt`` → the model ``night``."""
    from yoloship.models.releases import resolve
    from yoloship.triton.repository import NamedModel

    name, sign, source = text.partition("=")
    if not sign or Path(text).exists():
        name, source = Path(text).stem, text
    return NamedModel(name, resolve(source, say=print_err))


def _instances(text: str) -> Instances:
    from yoloship.triton.model_config import Instances

    if text == "auto":
        return Instances("KIND_AUTO")
    if text == "cpu":
        return Instances("KIND_CPU")
    name, sign, numbers = text.partition(":")
    parts = numbers.replace("+", ",").split(",") if sign else []
    if name != "cuda" or not all(part.isdecimal() and part.isascii() and len(part) < 4 for part in parts):
        raise InputError("no such device", subject="--device", expected="auto, cpu, cuda or cuda:N,N", got=text[:60])
    return Instances("KIND_GPU", gpus=tuple(sorted(set(map(int, parts)))))


def _variant(text: str) -> Variant:
    """``h100:model=h100.engine,max-batch=32`` → a configuration."""
    from yoloship.triton.repository import Serving, Variant

    name, _, rest = text.partition(":")
    pairs = [pair.partition("=")[::2] for pair in rest.split(",") if pair]
    values = dict(pairs)
    if not name or not pairs or len(values) != len(pairs) or not all(values.values()) or set(values) - set(_KEYS):
        raise InputError(
            "is not a configuration", subject="--config", expected=f"NAME:KEY=VALUE,... with {', '.join(_KEYS)}",
            got=text[:80],
        )  # fmt: skip
    counts = {key: _count(key, values[key]) for key in ("max-batch", "instances") if key in values}
    try:
        delay_ms = float(values.get("queue-delay-ms", 0))
    except ValueError:
        delay_ms = -1.0
    if not 0 <= delay_ms <= 10_000:
        raise InputError("out of range", subject="--config queue-delay-ms", expected="0 to 10000",
                         got=values["queue-delay-ms"][:60])  # fmt: skip
    preferred = values["preferred-batch"].split("+") if "preferred-batch" in values else []
    serving = Serving(
        counts.get("max-batch"),
        tuple(_count("preferred-batch", one) for one in preferred),
        round(1000 * delay_ms),
        _instances(values["device"]) if "device" in values else None,
        counts.get("instances", 1),
    )
    return Variant(name, serving, Path(values["model"]) if "model" in values else None)


def _count(key: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not int(text[:6]) >= 1 or len(text) > 5:
        raise InputError("is not a number", subject=f"--config {key}", expected="1 to 99999", got=text[:60])
    return int(text)


def _summary(one: Written) -> str:
    config = one.config
    batch = f"batches of up to {config.batching.max_batch}" if config.batching.max_batch else "no batches"
    takes = ", ".join(port.name for port in config.inputs)
    gives = ", ".join(port.name for port in config.outputs)
    return f"{one.folder}: {config.backend}, {takes} in, {gives} out, {batch}"
