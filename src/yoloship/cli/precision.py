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

    from yoloship.graph.sensitivity import Model, Told

MAX_DROP = 0.005
"""How much less than all the detections may agree with those of float32."""


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


@dataclass(frozen=True, slots=True)
class Quantizing:
    """The options of INT8 and FP8.

    Attributes:
        pictures: Where they are.
        calibrator: None takes the default, as do the others.
        placement: See above.
        max_drop: See above.
    """

    pictures: Sequence[str]
    calibrator: Calibrator | None = None
    placement: Placement | None = None
    max_drop: float | None = None

    def check(self, precision: Precision) -> None:
        """Refuse options that the precision has no use for, and a missing folder.

        Raises:
            typer.BadParameter: the options contradict one another.
        """
        if precision.needs_pictures and not self.pictures:
            raise typer.BadParameter(f"--precision {precision.value} needs pictures like those in use: --calibrate DIR")
        if not precision.needs_pictures and (self.pictures or self.calibrator or self.placement or self.max_drop):
            raise typer.BadParameter(
                "--calibrate, --calibrator, --placement and --max-drop are for --precision int8 and float8"
            )


def lowered(model: Model, precision: Precision, options: Quantizing) -> tuple[Model, str]:
    """Bring a float32 graph to a precision, with a bar where stderr is a terminal; see `in_precision`."""
    from yoloship.evaluate.precision import in_precision
    from yoloship.evaluate.quantization import QuantizeOrder
    from yoloship.sources import find_pictures

    pictures = find_pictures(options.pictures) if options.pictures else ()
    order = None
    if precision.needs_pictures:
        order = QuantizeOrder(
            precision="int8" if precision is Precision.int8 else "float8",
            calibrator=(options.calibrator or Calibrator.percentile).value,
            placement=(options.placement or Placement.inputs).value,
            max_drop=MAX_DROP if options.max_drop is None else options.max_drop,
        )
    with _progress() as told:
        return in_precision(model, precision.value, pictures, order=order, told=told)


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
