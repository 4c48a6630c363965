"""``yoloship demo``: the whole road on a model and a picture of our own."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yoloship.demo.road import Journey

EXAMPLES = (
    "yoloship demo",
    "yoloship demo --seed 7 -o elsewhere",
    "yoloship demo --dataset codes --count 1000 --format yolo",
)
DEFAULT_FOLDER = Path("yoloship-demo")


class Format(str, Enum):
    """How labels are written."""

    coco = "coco"
    yolo = "yolo"


def demo(
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Where the files go; earlier ones are replaced. Default: yoloship-demo.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Another scene.")] = None,
    dataset: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Instead write labelled scenes, from --seed (default 0) on.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="With --dataset: scenes. Default: 100.")] = None,
    label_format: Annotated[
        Format | None, typer.Option("--format", help="With --dataset: COCO JSON or YOLO txt. Default: coco.")
    ] = None,
) -> None:
    """Find QR codes, markers and barcodes with the bundled model: checkpoint, ONNX, boxes, engine. Needs no network."""
    if dataset is not None:
        if output is not None:
            raise typer.BadParameter("--dataset has its own folder; leave --output away")
        _write(dataset, seed or 0, count or 100, label_format or Format.coco)
        return
    if count is not None or label_format is not None:
        raise typer.BadParameter("--count and --format need --dataset")

    from yoloship.demo.road import DEFAULT_SEED, travel

    journey = travel(output or DEFAULT_FOLDER, DEFAULT_SEED if seed is None else seed, _told())
    typer.echo(_report(journey), nl=False)
    if not journey.good:
        raise typer.Exit(1)


def _report(journey: Journey) -> str:
    """What was found, where each file is, and how long each step took."""
    from yoloship.sinks.tables import columns, printable

    rows: list[tuple[str, ...]] = [("class", "score", "x1", "y1", "x2", "y2", "says")]
    for detection, text in zip(journey.found, journey.texts, strict=True):
        corners = (f"{value:.1f}" for value in detection.box_xyxy)
        rows.append((detection.class_name, f"{detection.score:.3f}", *corners, printable(text or "")))
    steps = [
        ("step", "ms", "file", "result"),
        *((step.what, f"{1000 * step.seconds:.0f}", str(step.path or ""), step.result) for step in journey.steps),
    ]
    verdict = f"found {journey.matched} of {journey.codes} codes"
    if journey.extra:
        verdict += f", and {journey.extra} that {'is' if journey.extra == 1 else 'are'} none"
    picture = next((step.path for step in journey.steps if step.path and step.path.name == "found.jpg"), "")
    return f"{columns(rows, right=range(1, 6))}\n{columns(steps, right=(1,))}\n{verdict}; look at {picture}\n"


def _told() -> Callable[[str], None] | None:
    """Says each step on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        return None
    return lambda step: typer.echo(f"{step} …", err=True)


def _write(folder: Path, first_seed: int, count: int, label_format: Format) -> None:
    from yoloship.demo.dataset import DatasetOrder, write_dataset

    order = DatasetOrder(count, first_seed, label_format.value)
    with _progress(count) as told:
        codes = write_dataset(folder, order, told)
    typer.echo(f"{folder}: {count} scenes, {codes} codes, {label_format.value}")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None] | None]:
    """A bar where stderr is a terminal."""
    if total < 2 or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("making scenes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("making scenes", total=total)
        yield lambda done: bar.update(task, completed=done)
