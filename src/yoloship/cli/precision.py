"""What the commands that write graphs share: the choice of a precision and what that needs."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from yoloship.graph.sensitivity import Model, Told

MAX_DROP = 0.005
"""How much worse than float32 a quantized graph may see: of mAP with labels, else of agreement."""


class Precision(str, Enum):
    """What the network's body computes in."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"
    float8 = "float8"

    @property
    def needs_pictures(self) -> bool:
        """Whether it is calibrated."""
        return self in {Precision.int8, Precision.float8}


class Calibrator(str, Enum):
    """How outliers among activations are treated."""

    percentile = "percentile"
    entropy = "entropy"
    minmax = "minmax"


class Placement(str, Enum):
    """Where quantization goes."""

    inputs = "inputs"
    both_ends = "both_ends"


class Remainder(str, Enum):
    """What a quantized graph computes in between its codes."""

    float16 = "float16"
    float32 = "float32"


@dataclass(frozen=True, slots=True)
class Quantizing:
    """The options of INT8 and FP8.

    Attributes:
        pictures: Where they are.
        calibrator: None takes the default, as do the others.
        placement: See above.
        max_drop: See above.
        labels: A folder of YOLO text labels, NAME.txt for each picture: then the budget is of mAP.
        remainder: See above.
    """

    pictures: Sequence[str]
    calibrator: Calibrator | None = None
    placement: Placement | None = None
    max_drop: float | None = None
    labels: Path | None = None
    remainder: Remainder | None = None

    def check(self, precision: Precision) -> None:
        """Refuse options that the precision has no use for, and a missing folder.

        Raises:
            typer.BadParameter: the options contradict one another.
        """
        if precision.needs_pictures and not self.pictures:
            raise typer.BadParameter(f"--precision {precision.value} needs pictures like those in use: --calibrate DIR")
        given = {
            "--calibrate": self.pictures or None,
            "--labels": self.labels,
            "--calibrator": self.calibrator,
            "--placement": self.placement,
            "--max-drop": self.max_drop,
            "--remainder": self.remainder,
        }
        if not precision.needs_pictures and (idle := [name for name, value in given.items() if value is not None]):
            raise typer.BadParameter(f"{', '.join(idle)}: only for --precision int8 and float8")
        if self.remainder is Remainder.float16 and self.placement is Placement.both_ends:
            raise typer.BadParameter(
                "--remainder float16 does not go with --placement both_ends, which is for ONNX Runtime on a CPU"
            )
        if self.labels is not None and not self.labels.is_dir():
            raise typer.BadParameter(f"--labels {self.labels}: there is no such folder")


def lowered(model: Model, precision: Precision, options: Quantizing) -> tuple[Model, str]:
    """Bring a float32 graph to a precision, with a bar where stderr is a terminal; see `in_precision`."""
    from yoloship.evaluate.labels import read_labels
    from yoloship.evaluate.precision import in_precision
    from yoloship.evaluate.quantization import QuantizeOrder
    from yoloship.sources import find_pictures

    pictures = find_pictures(options.pictures) if options.pictures else ()
    truths = None if options.labels is None else read_labels(options.labels, pictures)
    order = None
    if precision.needs_pictures:
        order = QuantizeOrder(
            precision="int8" if precision is Precision.int8 else "float8",
            calibrator=(options.calibrator or Calibrator.percentile).value,
            placement=(options.placement or Placement.inputs).value,
            max_drop=MAX_DROP if options.max_drop is None else options.max_drop,
            remainder=options.remainder.value if options.remainder else None,
        )
    with _progress() as told:
        return in_precision(model, precision.value, pictures, order=order, truths=truths, told=told)


@contextmanager
def _progress() -> Iterator[Told | None]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading the model", total=None)

        def told(what: str, done: int, most: int) -> None:
            bar.update(task, description=what, completed=done, total=most)

        yield told
