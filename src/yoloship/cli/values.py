"""Option values that have a form of their own: each function is the ``type`` of an option."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    Choice = click.Choice[str]
else:  # it is not generic before click 8.4
    Choice = click.Choice

DYNAMIC = "dynamic"


class FileName(click.Path):
    """A path that need not exist: the library says what is wrong with it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty name, as an unset variable of a shell is; `pathlib` would take the current folder."""
        if value == "":
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


FILE = FileName(readable=False, path_type=Path)
SOURCE = FileName(readable=False)
"""The text as it is given: a file, a folder, a pattern, the name of a release."""

CHECKPOINT_SUFFIXES = frozenset({".pt", ".pth"})
ENGINE_SUFFIXES = frozenset({".engine", ".plan", ".trt"})

PRECISION_ALIASES = {
    "fp32": "float32",
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "fp8": "float8",
}


class PrecisionChoice(Choice):
    """A precision, by its name or by a common short one."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take the alias for the name."""
        name = value.lower()
        return super().convert(PRECISION_ALIASES.get(name, name), param, ctx)


def refuse_suffix(path: Path | None, suffixes: Collection[str], problem: str) -> None:
    """Refuse an output whose name promises another kind of file than the command writes.

    Raises:
        click.BadParameter: it has one of the suffixes.
    """
    if path is not None and path.suffix.lower() in suffixes:
        raise click.BadParameter(f"{path}: {problem}", param_hint="--output-file")


def image_size(text: str) -> tuple[int, int]:
    """``640`` → (640, 640); ``384x640`` → (384, 640), height first.

    Raises:
        click.BadParameter: anything else.
    """
    return _size(text, "640, or HxW such as 384x640")


def graph_size(text: str) -> tuple[int, int] | str:
    """A size for a graph: what `image_size` takes, or ``dynamic``.

    Raises:
        click.BadParameter: anything else.
    """
    return DYNAMIC if text.lower() == DYNAMIC else _size(text, f"640, HxW such as 384x640, or {DYNAMIC}")


def _size(text: str, forms: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})(?:[xX×](\d{1,5}))?", text.strip())
    if match is None or not int(match[1]) or (match[2] and not int(match[2])):
        raise click.BadParameter(f"{text!r} is not a size: give {forms}")
    height = int(match[1])
    return height, int(match[2]) if match[2] else height


def alias_pair(text: str) -> tuple[str, str]:
    """``fork.nets.C3=models.common.C3`` → its two class paths.

    Raises:
        click.BadParameter: anything else.
    """
    old, _, official = (part.strip() for part in text.partition("="))
    if not all("." in path and all(word.isidentifier() for word in path.split(".")) for path in (old, official)):
        raise click.BadParameter(f"{text!r} is not an alias: give OLD.PATH=OFFICIAL.PATH, two class paths with dots")
    return old, official


def alias_table(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The aliases of a command line as a table.

    Raises:
        click.BadParameter: one class has two.
    """
    table: dict[str, str] = {}
    for old, official in pairs:
        if table.setdefault(old, official) != official:
            raise click.BadParameter(f"--alias gives {old} two names: {table[old]} and {official}")
    return table


def batch_size(text: str) -> int | str:
    """``4`` → 4; ``dynamic`` stays.

    Raises:
        click.BadParameter: anything else.
    """
    if text.lower() == DYNAMIC:
        return DYNAMIC
    if not re.fullmatch(r"\d{1,5}", text.strip()) or not int(text):
        raise click.BadParameter(f"{text!r} is not a batch size: give 1 or more, or {DYNAMIC}")
    return int(text)


def byte_size(text: str) -> int:
    """``2GB`` → 2 · 2³⁰; ``512MB``, or a number of bytes.

    Raises:
        click.BadParameter: anything else.
    """
    match = re.fullmatch(r"(\d{1,15})\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size in bytes: give 2GB, 512MB or a number of bytes")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2].upper()]
