"""Options that the commands which write graphs have in common, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from yoloship.cli.precision import MAX_DROP, Calibrator

Calibrate: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="DIR", help="For int8 and float8: pictures like those in use; may be repeated."),
]
CalibratorChoice: TypeAlias = Annotated[
    Calibrator | None,
    typer.Option(help="How outliers are treated. Default: percentile."),
]
MaxDrop: TypeAlias = Annotated[
    float | None,
    typer.Option(min=0, max=1, help=f"How much mAP (without --labels: agreement) may be lost. Default: {MAX_DROP}."),
]
Labels: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="For int8 and float8: YOLO text labels, NAME.txt for each picture."),
]
ScoreThreshold: TypeAlias = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="With --output nms: drop boxes whose score is not above this."),
]
IouThreshold: TypeAlias = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="With --output nms: drop a box whose overlap is above."),
]
MaxDetections: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, help="With --output nms: keep at most this many boxes a picture."),
]
