"""What is in folders, one entry at a time; loops of links end."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

EntryKind: TypeAlias = Literal["file", "folder", "closed folder", "broken link", "special file"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder.

    Attributes:
        path: As it was reached from what the user named.
        name: The last part of the path.
        kind: What it leads to, links followed.
        identity: The path without links: the same for all ways to one file.
    """

    path: str
    name: str
    kind: EntryKind
    identity: str


def has_magic(pattern: str) -> bool:
    """Whether a name has characters that make it a pattern."""
    return glob.has_magic(pattern)


def list_folder(folder: Path | str) -> Iterator[Entry]:
    """Each entry of a folder, in the order of the file system.

    Raises:
        OSError: the folder cannot be listed.
    """
    real = os.path.realpath(folder)
    with os.scandir(folder) as entries:
        for entry in entries:
            link = entry.is_symlink()
            identity = os.path.realpath(entry.path) if link else os.path.join(real, entry.name)
            yield Entry(entry.path, entry.name, _kind(entry), identity)


def walk_folder(folder: Path | str) -> Iterator[Entry]:
    """Each entry of a folder and of all folders below it that are not hidden; the folders themselves are left out.

    Links to folders are followed, but no folder is entered twice. A folder below that cannot be listed is an entry.

    Raises:
        OSError: the folder itself cannot be listed.
    """
    with os.scandir(folder):
        pass
    for here, entries in _tree(str(folder)):
        if entries is None:
            yield Entry(here, os.path.basename(here), "closed folder", os.path.realpath(here))
        else:
            yield from (entry for entry in entries if entry.kind != "folder")


def glob_entries(pattern: str) -> Iterator[Entry]:
    """Each entry that a pattern matches; ``**`` stands for any number of folders.

    A part of the pattern that exists by that very name stands for itself. Hidden names match only a pattern that begins
    with a dot.
    """
    path = Path(pattern)
    start = path.anchor or os.curdir
    parts = path.parts[1:] if path.anchor else path.parts
    prefix = path.anchor or ""
    yield from _match(prefix, start, parts, set())


def _tree(folder: str) -> Iterator[tuple[str, list[Entry] | None]]:
    """A folder and all that are below it and not hidden, each once, with its entries; None if it cannot be listed.

    Folders behind links come last, so that everything is reached by its own path if it has one.
    """
    entered: set[str] = set()
    waiting, linked = [folder], list[str]()
    while waiting or linked:
        here = waiting.pop() if waiting else linked.pop(0)
        identity = os.path.realpath(here)
        if identity in entered:
            continue
        entered.add(identity)
        try:
            entries = list(list_folder(here))
        except OSError:
            yield here, None
            continue
        yield here, entries
        for entry in entries:
            if entry.kind == "folder" and not entry.name.startswith("."):
                path = os.path.join(here, entry.name)
                (linked if os.path.islink(path) else waiting).append(path)


def _match(prefix: str, folder: str, parts: tuple[str, ...], done: set[tuple[str, int]]) -> Iterator[Entry]:
    """Entries below a folder that match the parts; each folder meets the same rest of the pattern only once."""
    state = (os.path.realpath(folder), len(parts))
    if not parts or state in done:
        return
    done.add(state)
    part, rest = parts[0], parts[1:]
    if part == "**":
        for below, _ in _tree(folder):
            path = os.path.join(prefix, below[len(folder) :].lstrip(os.sep + (os.altsep or "")))
            yield from _match(path, below, rest or ("*",), done)
        return
    for entry in _matching(folder, part):
        path = os.path.join(prefix, entry.name)
        if not rest:
            yield Entry(path, entry.name, entry.kind, entry.identity)
        elif entry.kind == "folder":
            yield from _match(path, path, rest, done)


def _matching(folder: str, part: str) -> Iterator[Entry]:
    if not has_magic(part) or os.path.lexists(os.path.join(folder, part)):
        path = os.path.join(folder, part)
        if part == os.pardir or os.path.lexists(path):
            yield Entry(path, part, _kind_of(path), os.path.realpath(path))
        return
    matches = re.compile(fnmatch.translate(os.path.normcase(part))).match
    for entry in _readable(folder):
        if matches(os.path.normcase(entry.name)) and (part.startswith(".") or not entry.name.startswith(".")):
            yield entry


def _readable(folder: str) -> Iterator[Entry]:
    """The entries of a folder; none if it cannot be listed."""
    try:
        yield from list_folder(folder)
    except OSError:
        return


def _kind(entry: os.DirEntry[str]) -> EntryKind:
    try:
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "folder"
        return "broken link" if entry.is_symlink() and not os.path.exists(entry.path) else "special file"
    except OSError:  # a loop of links
        return "broken link"


def _kind_of(path: str) -> EntryKind:
    if os.path.isfile(path):
        return "file"
    if os.path.isdir(path):
        return "folder"
    return "special file" if os.path.exists(path) else "broken link"
