"""``yoloship doctor``: check what works on this machine, and say how to make the rest work."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from yoloship.cli.command import command, flag, option
from yoloship.cli.output import facts_table, print_err, print_json, print_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.doctor import Capability, Machine


@command(
    examples=(
        "yoloship doctor",
        "yoloship doctor --for tensorrt",
        "yoloship doctor --json",
    ),
    starts_bare=True,
)
@option(
    "--for",
    "capabilities",
    multiple=True,
    metavar="NAME",
    help="Check only this: detect, export, int8, build, tensorrt, cuda, …; may be repeated.",
)
@flag("--json", "as_json", help="Print JSON.")
def doctor(capabilities: tuple[str, ...], as_json: bool) -> None:
    """Check what works on this machine, by trying it.

    The exit code is 0 if everything named with --for works; without --for, if detect and export work.
    """
    from yoloship.doctor import CAPABILITIES, examine

    if unknown := [name for name in capabilities if name not in CAPABILITIES]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(CAPABILITIES)}", param_hint="--for")
    shown = sys.stderr.isatty() and not as_json
    report = examine(
        capabilities or CAPABILITIES,
        on_progress=(lambda trial, _done, _total: print_err(f"trying {trial}")) if shown else None,
    )
    if as_json:
        print_json(report.to_dict())
    else:
        rows = [*_machine_rows(report.machine)]
        for entry in report.capabilities:
            rows += _capability_rows(entry)
        print_text(facts_table(rows, shutil.get_terminal_size((100, 24)).columns))
    works = all(entry.works for entry in report.capabilities) if capabilities else report.base_works
    if not works:
        raise click.exceptions.Exit(1)


def _machine_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    yield "python", machine.python
    yield "system", machine.system + (" (container)" if machine.in_container else "")
    yield "processor", f"{machine.processor}, {machine.cores} cores usable"
    if machine.processor_features is not None:
        yield (
            "features",
            ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in machine.processor_features.items()),
        )
    for device in machine.devices:
        yield (
            "gpu",
            f"{device.name}, {device.sm}, {device.memory_bytes / 2**30:.0f} GiB, CUDA up to "
            f"{device.cuda_version[0]}.{device.cuda_version[1]}",
        )
    if not machine.devices:
        yield "gpu", "none found by NVIDIA's driver"
    yield "driver", machine.driver or "none"


def _capability_rows(entry: Capability) -> Iterator[tuple[str, str]]:
    yield entry.name, f"{'works' if entry.works else 'does not work'}: {entry.purpose}"
    for name, trial in entry.trials.items():
        facts = ", ".join(f"{key} {_short(value)}" for key, value in trial.facts.items())
        yield "", f"- {name}: {facts if trial.works else trial.problem} ({trial.elapsed_s:.1f} s)"
    if entry.fix is not None:
        yield "", f"- needs {entry.needs}"
        yield "", f"- to make it work: {entry.fix}"


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(value) or "nothing"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
