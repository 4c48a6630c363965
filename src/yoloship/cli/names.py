"""The values of ``--names`` and ``--classes``: class names between commas, or a file that holds them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yoloship.cli.protect import note_input

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FILE_BYTES = 1 << 20

_KEY = re.compile(r"""["']?names["']?\s*:\s*(.*)""")
_COMMENT = re.compile(r"""(?<!\w)('(?:[^']|'')*'|"(?:[^"\\]|\\.)*")|(?:^|\s)#.*""")
_ENTRY = re.compile(r"\s*(?:-|(\d{1,6})\s*:)\s+(\S.*)")


def class_names(text: str) -> tuple[str, ...]:
    """``cat,dog``, or the name of a file: one class name a line, or a YAML file with ``names:`` as trainings have it.

    Raises:
        click.BadParameter: there are no names in it, or the file cannot be read.
    """
    if _is_there(text):
        return _of_file(Path(text))
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise click.BadParameter("a class name is empty: give them between commas, or a file with one name a line")
    if len(names) == 1 and re.search(r"\.(txt|ya?ml|names)$", text):
        raise click.BadParameter(f"{text}: no such file")
    return names


def class_value(text: str) -> str:
    """One value of ``--classes``, which can only be taken apart when the model's names are known.

    Raises:
        click.BadParameter: no class between the commas.
    """
    if not _parts(text):
        raise click.BadParameter("no class given: write names or ids, such as person,car,2")
    return text


def class_words(values: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Names and ids from the values of ``--classes``. A value that is a class name is not split at its commas.

    Args:
        values: As given on the command line: ``person,car,2``.
        names: The model's class names.
    """
    words: list[str] = []
    for value in values:
        words += [value] if value in names else _parts(value)
    return tuple(words)


def _is_there(text: str) -> bool:
    """Whether this is the name of something that should be a file; a folder may well be called like a class."""
    is_path = os.sep in text
    return os.path.lexists(text) and (is_path or not os.path.isdir(text))  # noqa: PTH112 - Path's own raises


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _of_file(path: Path) -> tuple[str, ...]:
    from yoloship._util.reading import read_text
    from yoloship.errors import InputError

    try:
        text = read_text(path, MAX_FILE_BYTES, error=InputError, wanted="a list of class names")
    except InputError as error:
        raise click.BadParameter(str(error)) from error
    note_input(path)
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if _KEY.fullmatch(line)), None)
    names = [line.strip() for line in lines if line.strip()] if start is None else _of_yaml(lines[start:])
    if not names:
        raise click.BadParameter(f"{path}: holds no class names: give one a line, or a YAML file with 'names:'")
    return tuple(names)


def _of_yaml(lines: list[str]) -> list[str] | None:
    """The block or the brackets after ``names:``; None if it is in another form."""
    match = _KEY.fullmatch(lines[0])
    inline = _without_comment(match[1]) if match else ""
    if inline:
        return _in_brackets(" ".join([inline, *map(_without_comment, lines[1:])]))
    names: list[str] = []
    for line in lines[1:]:
        bare = _without_comment(line)
        if not bare.strip():
            continue
        entry = _ENTRY.fullmatch(bare)
        if entry is None:
            break
        if entry[1] is not None and int(entry[1]) != len(names):
            return None
        names.append(_unquoted(entry[2]))
    return names


def _in_brackets(text: str) -> list[str] | None:
    inside = re.match(r"\[[^\]]*\]|\{[^}]*\}", text)
    if inside is None:
        return None
    from yoloship.pipeline.names import parse_names

    quoted = parse_names(inside[0])
    if quoted is not None:
        return list(quoted)
    if inside[0].startswith("{"):
        return None
    return [_unquoted(name) for name in inside[0][1:-1].split(",") if name.strip()]


def _without_comment(line: str) -> str:
    """A ``#`` at the beginning or after a space begins one, unless it stands inside quotes."""
    return _COMMENT.sub(lambda match: match[1] or "", line).rstrip()


def _unquoted(text: str) -> str:
    """A scalar of YAML: in single quotes a quote is doubled, in double quotes there are escapes."""
    text = text.strip()
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        return text
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]
