"""What a run writes: an option for each sink, and the file or folder that a sink gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from yoloship.cli.command import FILE, option
from yoloship.cli.options import is_dash, is_stdout
from yoloship.cli.output import print_bytes, print_err
from yoloship.errors import DependencyError, InputError
from yoloship.sinks import SINKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from yoloship._util.outputs import Outputs
    from yoloship.job.ledger import Ledger
    from yoloship.sinks import Sink
    from yoloship.sources import Source

IMAGES = "images"
"""The sink that writes annotated images. It is on by default; all others are off."""


@dataclass(frozen=True, slots=True)
class Target:
    """A file or a folder that a sink has to write.

    Attributes:
        name: The sink's name in `yoloship.sinks.SINKS`.
        kind: The sink's class.
        path: The file or folder to write; ``-`` is stdout.
    """

    name: str
    kind: type[Sink]
    path: Path

    @property
    def is_dash(self) -> bool:
        """Whether it is stdout by the name ``-``."""
        return is_dash(self.path)

    @property
    def is_stdout(self) -> bool:
        """Whether it is stdout, by whatever name."""
        return is_stdout(self.path)


def opened(
    target: Target, source: Source, inputs: Sequence[Path] | None, ledger: Ledger | None, *, overwrite: bool
) -> Sink:
    """Make the sink of a target, which replaces nothing that the source reads.

    Raises:
        OutputError: it cannot be written.
    """
    if is_dash(target.path):
        sink = target.kind.to_stream(print_bytes)
        assert sink is not None
        return sink
    if ledger is not None:
        sink = target.kind.resume(target.path, ledger.mark(target.name), inputs=inputs)
    else:
        sink = target.kind.open(target.path, overwrite=overwrite, inputs=inputs)
    if overwrite or ledger is not None:
        sink.protect(source.inputs)
    return sink


def sink_options(function: Any) -> Any:
    """Add an option for each built-in sink; the parameter ``sink_NAME`` gets its value."""
    for name in reversed(list(SINKS.own)):
        kind = SINKS.load(name)
        add = option(*kind.option, parameter_of(name), type=FILE, metavar=kind.metavar, help=kind.help)
        function = add(function)
    return function


def third_party_options(taken: set[str]) -> list[click.Parameter]:
    """An option for each sink of another installed package. A warning names those that are left out.

    Args:
        taken: The options that the command has; the new ones are added.
    """
    found: list[click.Parameter] = []
    for name in SINKS.others():
        try:
            kind = SINKS.load(name)
        except DependencyError as error:
            print_err(f"warning: {error}")
            continue
        if not taken.isdisjoint(kind.option):
            print_err(f"warning: the sink {name!r} is left out: its option {'/'.join(kind.option)} is already taken")
            continue
        try:
            offered = click.Option([*kind.option, parameter_of(name)], type=FILE, metavar=kind.metavar, help=kind.help)
        except (TypeError, ValueError) as error:
            print_err(f"warning: the sink {name!r} is left out: its option is not valid: {error}")
            continue
        taken |= set(kind.option)
        found.append(offered)
    return found


def parameter_of(name: str) -> str:
    """The parameter that gets the file or folder of a sink: ``sink_yolo_txt`` for ``yolo-txt``."""
    return f"sink_{name}".replace("-", "_").lower()


def claimed(values: Mapping[str, Path | None], outputs: Outputs, inputs: Sequence[Path]) -> list[Target]:
    """The files and folders that the sinks will write, checked before any work starts.

    Args:
        values: By the parameter of the sink (`parameter_of`); None if its option was not given.
        outputs: Refuses what would be overwritten, or written twice.
        inputs: The files that the source reads, in order.

    Raises:
        click.UsageError: two would be written to stdout, or one that cannot be.
        OutputError: `outputs` refuses one.
    """
    given = {parameter: path for parameter, path in values.items() if path is not None}
    names = {parameter_of(name): name for name in SINKS.own}
    if not given.keys() <= names.keys():
        names |= {parameter_of(name): name for name in SINKS.others()}
    targets = [Target(names[parameter], SINKS.load(names[parameter]), path) for parameter, path in given.items()]
    for target in targets:
        name = target.kind.option[-1]
        if is_dash(target.path):
            if target.kind.to_stream(print_bytes) is None:
                raise click.UsageError(f"{name} cannot be written to stdout")
        elif target.kind.target == "folder":
            outputs.claim_inside(target.path, target.kind.file_names(inputs))
        else:
            outputs.claim(target.path)
    to_stdout = [target.kind.option[-1] for target in targets if is_stdout(target.path)]
    if len(to_stdout) > 1:
        raise click.UsageError(f"{' and '.join(to_stdout)} cannot both be written to stdout")
    return targets


def refuse_what_needs_boxes(title: str, model: str, targets: Sequence[Target], others: Sequence[str]) -> None:
    """Refuse options that have no effect, or cannot be written, for a model without boxes.

    Args:
        title: What the model is: ``classification model``.
        model: Its name.
        targets: What the run would write.
        others: Other options that were given and need boxes.

    Raises:
        InputError: there is one.
    """
    given = [*(target.kind.option[-1] for target in targets if target.kind.needs_boxes), *others]
    if given:
        kinds = (SINKS.load(name) for name in SINKS.own if name != IMAGES)
        able = [kind.option[-1] for kind in kinds if not kind.needs_boxes]
        raise InputError(
            f"is a {title}, which has no boxes for {' and '.join(given)}", subject=model,
            hint=f"leave it out; classes can be written with {', '.join(able)}",
        )  # fmt: skip
