"""``yoloship demo``: every step from a checkpoint to boxes, on a model and an image of our own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yoloship._util.text import counted
from yoloship.cli import options
from yoloship.cli.command import COUNT, FILE, WholeNumber, command, option
from yoloship.cli.output import columns, print_err, print_out, print_text
from yoloship.cli.progress import progress

if TYPE_CHECKING:
    from yoloship._util.text import OnProgress
    from yoloship.demo.run import DemoResult
    from yoloship.demo.scene import DatasetFormat

DEFAULT_FOLDER = Path("yoloship-demo")
FORMATS = ("coco", "yolo")
"""The formats of `yoloship.demo.scene`, repeated because that module is slow to import."""


@command(
    examples=(
        "yoloship demo",
        "yoloship demo --seed 7 -o elsewhere",
        "yoloship demo --dataset codes --count 1000 --format yolo",
    ),
    starts_bare=True,
)
@option(
    "-o",
    "--output",
    type=FILE,
    metavar="FOLDER",
    help="Folder for the files; files of an earlier demo are replaced. Default: yoloship-demo.",
)
@option("--seed", type=WholeNumber(min=0), metavar="N", help="Number of the scene to generate.")
@option("--dataset", type=FILE, metavar="FOLDER", help="Write a dataset of labelled scenes to this folder instead.")
@option("--count", type=COUNT, metavar="N", help="With --dataset: the number of scenes. Default: 100.")
@option(
    "--format",
    "label_format",
    type=click.Choice(FORMATS),
    help="With --dataset: COCO JSON or YOLO txt. Default: coco.",
)
@options.overwrite
def demo(
    output: Path | None,
    seed: int | None,
    dataset: Path | None,
    count: int | None,
    label_format: DatasetFormat | None,
    overwrite: bool,
) -> None:
    """Find QR codes, markers and barcodes with the bundled model: checkpoint, ONNX, boxes, engine. Works offline."""
    if dataset is not None:
        if output is not None:
            raise click.UsageError("--dataset has its own folder; leave out --output")
        if overwrite:
            raise click.UsageError("--dataset needs a new folder, so --overwrite does not go with it")
        _write(dataset, seed or 0, count or 100, label_format or "coco")
        return
    if count is not None or label_format is not None:
        raise click.UsageError("--count and --format need --dataset")

    from yoloship.demo.run import DEFAULT_SEED, run_demo

    result = run_demo(
        output or DEFAULT_FOLDER, DEFAULT_SEED if seed is None else seed, _on_progress(), overwrite=overwrite
    )
    print_text(_report(result))
    if not result.good:
        raise click.exceptions.Exit(1)


def _report(result: DemoResult) -> str:
    """Tables of what was found, how long each step took, and where its file is."""
    from yoloship.errors import visible

    rows: list[tuple[str, ...]] = [("class", "score", "x1", "y1", "x2", "y2", "says")]
    for detection, text in zip(result.found, result.texts, strict=True):
        corners = (f"{value:.1f}" for value in detection.box_xyxy)
        rows.append((detection.class_name, f"{detection.score:.3f}", *corners, visible(text or "")))
    steps = [
        ("step", "ms", "file", "result"),
        *((step.what, f"{1000 * step.seconds:.0f}", str(step.path or ""), step.result) for step in result.steps),
    ]
    verdict = f"found {result.matched} of {result.codes} codes"
    if result.extra:
        verdict += (
            f", and {counted(result.extra, 'box', 'boxes')} that {'is' if result.extra == 1 else 'are'} not a code"
        )
    image = next((step.path for step in result.steps if step.path and step.path.name == "found.jpg"), "")
    return f"{columns(rows, right=range(1, 6))}\n{columns(steps, right=(1,))}\n{verdict}; look at {image}\n"


def _on_progress() -> OnProgress | None:
    """A function that prints each step on stderr; None if stderr is not a terminal."""
    if not sys.stderr.isatty():
        return None
    return lambda step, _done, _total: print_err(f"{step} …")


def _write(folder: Path, first_seed: int, count: int, label_format: DatasetFormat) -> None:
    from yoloship.demo.scene import DatasetConfig, write_dataset

    order = DatasetConfig(count, first_seed, label_format)
    with progress(in_pipes=True) as on_progress:
        codes = write_dataset(folder, order, on_progress)
    print_out(f"{folder}: {counted(count, 'scene')}, {counted(codes, 'code')}, {label_format}")
