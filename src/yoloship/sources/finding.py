"""Finds the image files in a list of files, folders and patterns, and counts what is skipped."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from yoloship._util.reading import refuse_address
from yoloship.errors import InputError
from yoloship.images import HEIC_HINT
from yoloship.sources.recognise import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions
from yoloship.sources.source import Frame, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Self


Place: TypeAlias = Literal["folder", "archive"]
EntryKind: TypeAlias = Literal["file", "folder", "closed folder", "broken link", "special file"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder.

    Attributes:
        path: The path, starting with what the user named.
        name: The last part of the path.
        kind: The kind of entry, after following links.
        identity: The path without links, which is the same for all paths to one file.
    """

    path: str
    name: str
    kind: EntryKind
    identity: str


def has_magic(pattern: str) -> bool:
    """Whether a name contains the special characters of a pattern."""
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
    """Each entry of a folder and of all folders inside it that are not hidden, but not the folders themselves.

    Links to folders are followed, but no folder is entered twice. A folder inside that cannot be listed is an entry.

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

    If a part of the pattern is the exact name of an entry, it matches only that entry. Hidden names match only a
    pattern that begins with a dot.
    """
    path = Path(pattern)
    start = path.anchor or os.curdir
    parts = path.parts[1:] if path.anchor else path.parts
    prefix = path.anchor or ""
    yield from _match(prefix, start, parts, set())


def _tree(folder: str) -> Iterator[tuple[str, list[Entry] | None]]:
    """A folder and all folders inside it that are not hidden, each once, with its entries; None if it cannot be listed.

    Folders reached through links come last, so that a folder is reached by its own path if it has one.
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
    """Entries inside a folder that match the parts. A folder is searched only once for the same rest of the pattern."""
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
    """The entries of a folder; empty if it cannot be listed."""
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


SHOWN_KINDS: Final = 8
MAX_SUFFIX_CHARS: Final = 12
_HEIC_SUFFIXES: Final = frozenset({".heic", ".heif", ".hif"})
HIDDEN_IMAGE: Final = "hidden image"
_PLURALS: Final = MappingProxyType(
    {
        "folder": "folders",
        "closed folder": "folders that cannot be listed",
        "broken link": "broken links",
        "special file": "pipes, sockets or devices",
        "link": "links",
        HIDDEN_IMAGE: "hidden images",
        "other file": "other files",
    }
)
_SINGULARS: Final = MappingProxyType(
    {"closed folder": "folder that cannot be listed", "special file": "pipe, socket or device"}
)


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was skipped in one folder or pattern.

    Attributes:
        source: The folder or pattern as the user gave it.
        counts: Kinds (a suffix such as ``.txt``, ``folder``, ``broken link``, and so on) and how many there are of
            each, in the order of the message.
        place: Where that is: what can be done about it differs.
    """

    source: str
    counts: tuple[tuple[str, int], ...]
    place: Place = "folder"

    @property
    def total(self) -> int:
        """How many entries were skipped."""
        return sum(count for _, count in self.counts)

    def kinds_text(self) -> str:
        """``3 .heic (pip install 'yoloship[heic]'), 2 folders (--recursive), 1 broken link``."""
        shown = [_told(kind, count, self.place) for kind, count in self.counts[:SHOWN_KINDS]]
        if rest := sum(count for _, count in self.counts[SHOWN_KINDS:]):
            shown.append(f"{rest} of other kinds")
        return ", ".join(shown)

    def __str__(self) -> str:
        return f"skipped in {self.source}: {self.kinds_text()}"


def skipped_kind(entry: Entry) -> str | None:
    """The kind under which an entry that is not an image is counted; None if it is not reported."""
    if entry.kind != "file":
        return entry.kind
    if entry.name.startswith("."):
        return None
    suffix = os.path.splitext(entry.name)[1].lower()
    return suffix if suffix.isprintable() and 1 < len(suffix) <= MAX_SUFFIX_CHARS else "other file"


def skipped_in(source: str | Path, counts: Counter[str], place: Place = "folder") -> Skipped:
    """The counts in order: first kinds that the user can do something about, then the most frequent."""
    order = sorted(counts.items(), key=lambda item: (not _advice(item[0], place), -item[1], item[0]))
    return Skipped(str(source), tuple(order), place)


def unreadable_suffixes() -> frozenset[str]:
    """Suffixes of image formats that need a package that is not installed."""
    return frozenset() if find_spec("pillow_heif") else _HEIC_SUFFIXES


def _advice(kind: str, place: Place) -> str:
    if kind in _HEIC_SUFFIXES:
        return HEIC_HINT
    if place == "archive":
        return ""
    if kind in VIDEO_SUFFIXES:
        return f"give videos by a pattern such as 'videos/*{kind}'"
    return "--recursive" if kind == "folder" else ""


def _told(kind: str, count: int, place: Place) -> str:
    words = kind if kind.startswith(".") else (_SINGULARS.get(kind, kind) if count == 1 else _PLURALS[kind])
    advice = _advice(kind, place)
    return f"{count} {words} ({advice})" if advice else f"{count} {words}"


MAX_IMAGES: Final = 2_000_000
"""Most images of one command, because the list of their names is kept in memory."""


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The images that were found, and what was skipped.

    Attributes:
        paths: The images in the order of the sources; within a folder or a pattern by name, ``img2`` before ``img10``.
        skipped: What was skipped, for each folder or pattern in which something was skipped.
    """

    paths: tuple[Path, ...]
    skipped: tuple[Skipped, ...]


def find_images(sources: Sequence[str | Path], *, recursive: bool = False) -> FoundImages:
    """Expand files, folders and patterns to image files.

    Args:
        sources: Files, folders and patterns. A file is taken whatever its suffix, and even if it is missing, because
            reading it reports the error. A folder gives its images. A pattern (``cams/**/*.jpg``) gives the images that
            it matches; ``**`` stands for any number of folders. A name that exists is never read as a pattern.
        recursive: Whether a folder includes the images in all folders inside it.

    Returns:
        Each image once, at its first position, even if several links and sources lead to it.

    Raises:
        InputError: a source is empty or an address on the network, a folder or a pattern has no images, a folder cannot
            be listed, or there are more than `MAX_IMAGES`.
    """
    paths: dict[str, str | Path] = {}
    skipped = []
    for source in sources:
        if not str(source):
            raise InputError("the name of an image or a folder is empty", hint="give '.' for the current folder")
        counts: Counter[str] = Counter()
        for identity, path in _expand(source, counts, recursive=recursive):
            paths.setdefault(identity, path)
            if len(paths) > MAX_IMAGES:
                raise InputError(
                    "too many images for one run", subject=str(source), expected=f"at most {MAX_IMAGES:,}",
                    hint="run its folders one at a time",
                )  # fmt: skip
        if counts:
            skipped.append(skipped_in(source, counts))
    return FoundImages(tuple(map(Path, paths.values())), tuple(skipped))


def natural_key(path: str) -> tuple[str, str]:
    """A sort key for paths: by folder, then by name before suffix, with numbers sorted by value."""
    stem, suffix = os.path.splitext(path)
    numbered = _DIGITS.sub(_by_value, stem.replace(os.sep, "\0"))
    return f"{numbered}\1{suffix}", path


def _by_value(digits: re.Match[str]) -> str:
    """A text that sorts by a number's value: its length comes first, because longer numbers are larger."""
    value = digits[0].lstrip("0")
    return f"{len(value):03}{value}"


_DIGITS: Final = re.compile("[0-9]+")


def _expand(source: str | Path, counts: Counter[str], *, recursive: bool) -> Iterable[tuple[str, str | Path]]:
    """The identity and the path of each image of a source."""
    path = Path(source)
    try:
        if path.is_dir():
            return _in_folder(path, counts, recursive=recursive)
        if not os.path.lexists(path):
            refuse_address(source, error=InputError)
        if os.path.lexists(path) or not has_magic(str(source)):
            return [(os.path.realpath(path), path)]
    except (OSError, ValueError):  # a loop of links, or a name that the system does not take: reading it says so
        return [(str(path), path)]
    images = _chosen(glob_entries(str(source)), counts)
    if not images:
        raise InputError(
            "matches no images",
            subject=str(source),
            got=skipped_in(source, counts).kinds_text() or None,
            hint="quote the pattern, and check its folder",
        )
    return images


def _in_folder(folder: Path, counts: Counter[str], *, recursive: bool) -> list[tuple[str, str]]:
    try:
        images = _chosen(walk_folder(folder) if recursive else list_folder(folder), counts)
    except OSError as error:
        raise InputError(f"cannot be listed: {error.strerror or error}", subject=str(folder)) from error
    if not images:
        raise InputError(
            "has no images",
            subject=str(folder),
            expected="files such as .jpg, .png or .webp",
            got=skipped_in(folder, counts).kinds_text() or "an empty folder",
        )
    return images


def _chosen(entries: Iterable[Entry], counts: Counter[str]) -> list[tuple[str, str]]:
    """The images among some entries, sorted; the other entries are counted."""
    images = []
    unreadable = unreadable_suffixes()
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix not in IMAGE_SUFFIXES or entry.kind != "file":
            if (kind := skipped_kind(entry)) is not None:
                counts[kind] += 1
        elif entry.name.startswith("."):
            counts[HIDDEN_IMAGE] += 1
        elif suffix in unreadable:
            counts[suffix] += 1
        else:
            images.append((entry.identity, entry.path))
    return sorted(images, key=lambda image: natural_key(image[1]))


@dataclass(frozen=True, eq=False)
class ImageFiles(Source):
    """Image files, one frame each."""

    help = "Image files, folders and patterns."
    files: Sequence[Path] = ()
    count: int = 0
    notes: Sequence[str] = ()

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:
        """Find the image files in files, folders and patterns."""
        found = find_images(texts, recursive=options.recursive)
        return cls(found.paths, len(found.paths), tuple(map(str, found.skipped)))

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.files):
            yield Frame(index, str(path), path)
