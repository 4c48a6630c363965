"""What a command may write: its inputs gathered, so that none of its outputs replaces one of them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yoloship.cli.output import print_err, print_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from yoloship._util.outputs import Outputs
    from yoloship._util.writing import Place

_FILES_OF_OPTIONS = "yoloship.files_of_options"


def note_input(path: Path) -> None:
    """Remember a file that an option was read from while the command line was taken apart."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta.setdefault(_FILES_OF_OPTIONS, []).append(path)


def outputs_for(
    models: Iterable[str | Path],
    *,
    images: Iterable[Path] = (),
    calibrate: Sequence[str] = (),
    labels: Path | None = None,
    overwrite: bool,
) -> Outputs:
    """The outputs of a command that reads these files; see `yoloship._util.outputs`.

    Args:
        models: Files, or names of releases. What belongs to them is protected too.
        images: Files.
        calibrate: Files, folders and patterns of images.
        labels: A folder of label files.
        overwrite: Whether the user allowed to replace files that exist.
    """
    from yoloship._util.outputs import Outputs
    from yoloship.kinds import is_checkpoint

    context = click.get_current_context(silent=True)
    noted: list[Path] = context.meta.get(_FILES_OF_OPTIONS, []) if context is not None else []
    paths = [Path(model) for model in models]

    @cache
    def belonging(model: Path) -> tuple[Path, ...]:
        from yoloship.pipeline.companions import companions

        return companions(model)

    def more(output: Place) -> Iterator[Path]:
        for path in paths:
            if could_belong(output, path):  # opening a model again costs time at every start
                yield from belonging(path)
        if labels is not None:
            yield from labels.rglob("*.txt")
        if calibrate:
            from yoloship.sources import find_images

            yield from find_images(calibrate).paths

    return Outputs([*paths, *images, *noted], overwrite=overwrite, more_inputs=more, is_checkpoint=is_checkpoint)


def could_belong(output: Place, model: Path) -> bool:
    """Whether a file that exists is below the folder of a model, or could be there under another name."""
    if output.status is not None and output.status.st_nlink > 1:
        return True
    folders = (os.path.realpath(model.parent), os.path.dirname(os.path.realpath(model)))  # noqa: PTH120 - never raises
    real = os.path.realpath(output.path)
    return any(real.startswith(os.path.join(folder, "")) for folder in folders)  # noqa: PTH118 - as above


def is_dash(path: Path | None) -> bool:
    """Whether the output is stdout, by the usual short name."""
    return path is not None and str(path) == "-"


def is_stdout(path: Path | None) -> bool:
    """Whether an output goes where this program's stdout goes, however it is named: nothing else may go there then."""
    if path is None:
        return False
    if is_dash(path):
        return True
    from yoloship._util.writing import find_place

    place = find_place(path)
    try:
        return place.descriptor == 1 or (
            place.is_stream and place.status is not None and os.path.samestat(place.status, os.fstat(1))
        )
    except OSError:  # stdout is closed
        return False


def print_about(path: Path, text: str) -> None:
    """Say what was written to an output: on stdout, unless the output itself went there."""
    if is_stdout(path):
        print_err(text)
    else:
        print_out(text)
