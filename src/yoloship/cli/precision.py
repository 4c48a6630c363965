"""What the commands that write graphs share: the choice of a precision and what that needs."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, get_args

import click

from yoloship.cli.command import FRACTION, option
from yoloship.cli.values import FILE, SOURCE, PrecisionChoice
from yoloship.conversion import CALIBRATED, MAX_DROP
from yoloship.model import Calibrator, OtherLayers, Precision

if TYPE_CHECKING:
    from yoloship.conversion import Calibration

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


def check_calibration(precision: Precision, calibration: Calibration) -> None:
    """Refuse options that the precision has no use for, and what it lacks.

    Raises:
        click.UsageError: the options contradict one another.
    """
    if precision in CALIBRATED and not calibration.images:
        raise click.UsageError(f"--precision {precision} needs images like those in use: --calibrate DIR")
    given = [_OPTIONS[name] for name in calibration.given()]
    if precision not in CALIBRATED and given:
        raise click.UsageError(f"{', '.join(given)}: only for --precision int8 and float8")
    if calibration.other_layers == "float16" and calibration.placement == "inputs_and_outputs":
        raise click.UsageError(
            "--other-layers float16 does not go with --placement inputs_and_outputs, which is for ONNX Runtime on a CPU"
        )
    if calibration.labels is not None and not calibration.labels.is_dir():
        raise click.UsageError(f"--labels {calibration.labels}: there is no such folder")


_OPTIONS: Final = MappingProxyType(
    {
        "calibrate": "--calibrate",
        "labels": "--labels",
        "calibrator": "--calibrator",
        "placement": "--placement",
        "max_drop": "--max-drop",
        "other_layers": "--other-layers",
    }
)
"""By which option each keyword of `yoloship.export` is given."""
