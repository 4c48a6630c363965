"""``yoloship triton check``: whether a running server gives the answers of the model here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from yoloship._util.strict_json import json_document
from yoloship.cli import options
from yoloship.cli.command import FILE, FRACTION, Number, argument, command, option
from yoloship.cli.options import is_dash, is_stdout, named_images, outputs_for
from yoloship.cli.output import facts_table, print_bytes, print_err, print_text
from yoloship.cli.progress import progress

if TYPE_CHECKING:
    from yoloship.triton.checking import ServerCheck

MIN_IOU: Final = 0.97


@command(
    examples=(
        "yoloship triton check localhost:8000 --model best.pt photos/",
        "yoloship triton check http://gpu-7:8000 --model best.pt --name day bus.jpg street.jpg",
        "yoloship triton check localhost:8000 --model best.pt photos/ --json report.json",
    )
)
@argument("url", metavar="URL", help="The server: HOST:PORT, or a URL with http:// or https://.")
@argument("sources", metavar="SOURCE...", many=True, help="Images, folders or patterns.")
@option(
    "--model", required=True, metavar="MODEL", help="The model that the server should have: a file or a release name."
)
@option("--name", metavar="NAME", help="Name of the model on the server. Default: the file's name without its suffix.")
@option(
    "--conf",
    type=FRACTION,
    metavar="FLOAT",
    help="Compare detections with a score above this. Default: that of the server's model, else 0.25.",
)
@options.imgsz
@options.names
@options.transform
@option(
    "--min-agreement",
    type=FRACTION,
    metavar="FLOAT",
    default=0.99,
    help="Minimum share of objects that both must find.",
)
@option(
    "--min-iou",
    type=FRACTION,
    metavar="FLOAT",
    default=MIN_IOU,
    help="Minimum mean overlap of the objects that both find.",
)
@option(
    "--max-score-difference",
    type=FRACTION,
    metavar="FLOAT",
    default=0.02,
    help="Maximum mean difference between the scores of objects that both find.",
)
@option(
    "--timeout",
    type=Number(0.1, 3600),
    metavar="SECONDS",
    default=30.0,
    help="Longest wait for the next bytes from the server.",
)
@option("--json", "json_file", type=FILE, metavar="FILE", help="Write the report as JSON; - is stdout.")
@options.overwrite
@options.recursive
def check(  # noqa: PLR0913, PLR0917 - one parameter an option
    url: str,
    sources: tuple[str, ...],
    model: str,
    name: str | None,
    conf: float | None,
    imgsz: tuple[int, int] | None,
    names: tuple[str, ...] | None,
    transform: str | None,
    min_agreement: float,
    min_iou: float,
    max_score_difference: float,
    timeout: float,
    json_file: Path | None,
    overwrite: bool,
    recursive: bool,
) -> None:
    """Compare the results of a running server with those of a local model. The exit code is 1 if they differ.

    The server can be Triton or any other server with the open inference protocol, version 2, such as yoloship serve. It
    can run our model in Triton's Python backend, or only a network; the images are then prepared locally.
    """
    from yoloship._util.writing import write_bytes
    from yoloship.evaluate.verification import Tolerances
    from yoloship.kserve import Client
    from yoloship.triton.checking import Expected, check_server

    images = named_images(sources, recursive=recursive)
    outputs = outputs_for((model,), images=images, overwrite=overwrite)
    if json_file is not None and not is_dash(json_file):
        outputs.claim(json_file)
    arguments = {"imgsz": imgsz, "class_names": names, "transform": transform}
    expected = Expected(model, arguments, conf, Tolerances(min_agreement, min_iou, max_score_difference))
    address = url if "://" in url else f"http://{url}"
    with Client(address, timeout_s=timeout) as client, progress(in_pipes=True) as on_progress:
        found = check_server(client, name or Path(model).stem, expected, images, on_progress=on_progress)
    data = json_document(found.to_dict())
    if is_dash(json_file):
        print_bytes(data)
    elif json_file is not None:
        write_bytes(json_file, data, overwrite=overwrite)
    if not is_stdout(json_file):
        print_text(facts_table(found.facts(), shutil.get_terminal_size((100, 24)).columns))
    if not found.passed:
        print_err(f"error: {_failure(found, model)}")
        raise click.exceptions.Exit(1)


def _failure(found: ServerCheck, model: str) -> str:
    if not any(side.detections for side in found.verification.sides):
        return (
            f"neither {model} nor the server detects anything with a score above "
            f"{found.verification.score_threshold:g} (--conf), so nothing was compared"
        )
    failed = ", ".join(check.name for check in found.verification.checks if not check.passed)
    return f"{found.server} differs from {model} by more than is allowed: {failed}"
