"""What the commands that write graphs share: the choice of a precision and what that needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import click

from yoloship.cli.command import FRACTION, option
from yoloship.cli.options import named_images
from yoloship.cli.output import print_err, progress
from yoloship.cli.values import FILE, SOURCE, PrecisionChoice
from yoloship.errors import InputError
from yoloship.model import Calibrator, OtherLayers, Placement, Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from yoloship.evaluate.coco import Truth
    from yoloship.graph.onnx_file import Model
    from yoloship.precision.lowering import Lowered

MAX_DROP = 0.005
"""How much worse than float32 a quantized graph may see: of mAP with labels, else of agreement."""


CALIBRATED = frozenset({"int8", "float8"})
"""The precisions that need images like those in use."""

PRECISION = PrecisionChoice(get_args(Precision))

calibrate = option(
    "--calibrate",
    type=SOURCE,
    multiple=True,
    metavar="DIR",
    help="For int8 and float8: images like those in use, folders below included; may be repeated.",
)
calibrator = option(
    "--calibrator", type=click.Choice(get_args(Calibrator)), help="How outliers are treated. Default: percentile."
)
max_drop = option(
    "--max-drop",
    type=FRACTION,
    metavar="FLOAT",
    help=f"How much mAP (without --labels: agreement) may be lost. Default: {MAX_DROP}.",
)
labels = option(
    "--labels", type=FILE, metavar="DIR", help="For int8 and float8: YOLO text labels, laid out like the images."
)
other_layers = option(
    "--other-layers",
    type=click.Choice(get_args(OtherLayers)),
    help="Precision of the layers that int8 and float8 do not quantize. Default: float16; float32 with --placement "
    "inputs_and_outputs.",
)


def _refuse_old_name(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    if value is not None and not ctx.resilient_parsing:
        raise click.UsageError(f"{parameter.opts[0]} is now called --other-layers")


old_other_layers = click.option("--remainder", hidden=True, expose_value=False, callback=_refuse_old_name)


@dataclass(frozen=True, slots=True)
class Found:
    """What the options of INT8 and FP8 point to.

    Attributes:
        images: To calibrate with; none for the other precisions.
        truths: What their labels say; None without labels.
    """

    images: Sequence[Path] = ()
    truths: Sequence[Truth] | None = None


@dataclass(frozen=True, slots=True)
class Quantizing:
    """The options of INT8 and FP8.

    Attributes:
        pictures: Where the images are.
        calibrator: None takes the default, as do the others.
        placement: Where quantization goes.
        max_drop: How much worse than float32 the graph may see.
        labels: A folder of YOLO text labels, laid out like the images: then the budget is of mAP.
        other_layers: What the layers that are not quantized compute in.
    """

    pictures: Sequence[str]
    calibrator: Calibrator | None = None
    placement: Placement | None = None
    max_drop: float | None = None
    labels: Path | None = None
    other_layers: OtherLayers | None = None

    def check(self, precision: Precision) -> None:
        """Refuse options that the precision has no use for, and a missing folder.

        Raises:
            click.UsageError: the options contradict one another.
        """
        if precision in CALIBRATED and not self.pictures:
            raise click.UsageError(f"--precision {precision} needs images like those in use: --calibrate DIR")
        given = {
            "--calibrate": self.pictures or None,
            "--labels": self.labels,
            "--calibrator": self.calibrator,
            "--placement": self.placement,
            "--max-drop": self.max_drop,
            "--other-layers": self.other_layers,
        }
        if precision not in CALIBRATED and (idle := [name for name, value in given.items() if value is not None]):
            raise click.UsageError(f"{', '.join(idle)}: only for --precision int8 and float8")
        if self.other_layers == "float16" and self.placement == "inputs_and_outputs":
            raise click.UsageError(
                "--other-layers float16 does not go with --placement inputs_and_outputs, which is for ONNX Runtime on "
                "a CPU"
            )
        if self.labels is not None and not self.labels.is_dir():
            raise click.UsageError(f"--labels {self.labels}: there is no such folder")

    def find(self) -> Found:
        """Look for everything that calibration needs, before the work.

        Raises:
            DependencyError: a package is missing.
            InputError: there are no images, or no labels for them.
            ImageError: a labelled image cannot be read.
        """
        if not self.pictures:
            return Found()
        from yoloship.evaluate.coco import require_evaluator
        from yoloship.evaluate.labels import read_labels
        from yoloship.precision.calibrate import quantization_tools

        quantization_tools()
        images = named_images(self.pictures, recursive=True)
        if missing := next((path for path in images if not path.is_file()), None):
            raise InputError("is not a file or folder that exists", subject=f"--calibrate {missing}")
        if self.labels is None:
            return Found(images)
        require_evaluator()
        return Found(images, read_labels(self.labels, images))


def lowered(model: Model, precision: Precision, options: Quantizing, found: Found) -> Lowered:
    """Bring a float32 graph to a precision, and say how far that is; see `in_precision`."""
    from yoloship.precision.lowering import in_precision
    from yoloship.precision.quantization import QuantizeConfig

    config = None
    if precision in CALIBRATED:
        config = QuantizeConfig(
            precision="int8" if precision == "int8" else "float8",
            calibrator=options.calibrator or "percentile",
            placement=options.placement or "inputs",
            max_drop=MAX_DROP if options.max_drop is None else options.max_drop,
            other_layers=options.other_layers,
        )
    with progress(in_pipes=True) as on_progress:
        result = in_precision(
            model, precision, found.images, config=config, truths=found.truths, on_progress=on_progress
        )
    for warning in result.warnings:
        print_err(f"warning: {warning}")
    return result
