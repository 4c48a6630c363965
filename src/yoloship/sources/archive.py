"""Images inside archives, read where they are: `Archives` reads zip, tar, and tar packed by gzip, bzip2 or xz.

Nothing is unpacked to the disk, and no link is followed. An image is ``a.zip/b.jpg`` in results. What is in a zip
archive is given by name, and what is in a tar archive in its order, because it is read from its start to its end.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from yoloship._util.reading import open_regular
from yoloship.errors import InputError
from yoloship.kinds import HEAD_BYTES, ZIP_MAGIC, kind_of, wrong_kind
from yoloship.sources.finding import HIDDEN_IMAGE, skipped_in
from yoloship.sources.recognise import IMAGE_SUFFIXES
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions
from yoloship.sources.source import Frame, Source
from yoloship.sources.tar_reader import tar_members
from yoloship.sources.torn_zip import torn_members
from yoloship.sources.unpacking import DEFAULT_ARCHIVE_LIMITS, ArchiveLimits, Unpacked
from yoloship.sources.zip_reader import TableMissingError, open_zip, zip_members

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Self

    from yoloship.sources.member import Member

ARCHIVE_SUFFIXES: Final = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_PACKINGS: Final = frozenset({"tar", "gzip", "bzip2", "xz"})


@dataclass(frozen=True, slots=True)
class _Zip:
    """What the table of a zip archive says before the run.

    Attributes:
        count: How many frames it gives.
        note: What is skipped in it; None for nothing.
    """

    count: int
    note: str | None


class Archives(Source):
    """The images in some archives, one archive after the other.

    Args:
        paths: The archives.
        tables: By path, the tables of the zip archives among them, read before the run.
        limits: The limits of an archive.
    """

    help = "Images inside zip and tar archives (also .tar.gz, .tar.bz2 and .tar.xz), which are not unpacked."

    def __init__(self, paths: Sequence[str], tables: dict[str, _Zip], limits: ArchiveLimits) -> None:
        self._paths, self._tables, self._limits = paths, tables, limits

    @classmethod
    def open(
        cls,
        texts: Sequence[str],
        options: SourceOptions = DEFAULT_OPTIONS,  # noqa: ARG003 - an archive is always searched as a whole
        limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS,
    ) -> Self:
        """Look into zip archives, and at the first bytes of others.

        Raises:
            InputError: one of them is not an archive, has no images, is a checkpoint, is encrypted, or is a bomb.
        """
        paths = list(dict.fromkeys(texts))
        tables = {}
        for path in paths:
            with _opened(path) as (file, head, _):
                if head.startswith(b"PK") and (table := _look_into(path, file, limits)) is not None:
                    tables[path] = table
        return cls(paths, tables, limits)

    @property
    def inputs(self) -> Sequence[Path]:
        """The archives."""
        return [Path(path) for path in self._paths]

    @property
    def count(self) -> int | None:
        """How many frames there are; None if one of the archives is read only once."""
        return sum(table.count for table in self._tables.values()) if len(self._tables) == len(self._paths) else None

    @property
    def notes(self) -> Sequence[str]:
        """The entries of zip archives that are skipped."""
        return [table.note for table in self._tables.values() if table.note is not None]

    def __iter__(self) -> Iterator[Frame]:
        frames = chain.from_iterable(_frames(path, self._limits) for path in self._paths)
        for index, (name, image, error) in enumerate(frames):
            yield Frame(index, name, image, error=error)


def _look_into(path: str, file: IO[bytes], limits: ArchiveLimits) -> _Zip | None:
    """What a zip archive holds; None if its table is missing."""
    counts: Counter[str] = Counter()
    try:
        with open_zip(file, limits) as archive:
            members = zip_members(archive, limits)
            if any(member.name == "data.pkl" or member.name.endswith("/data.pkl") for member in members):
                raise wrong_kind("checkpoint", "image", subject=path, error=InputError)
            chosen = [member for member in members if _is_chosen(member, counts)]
            if chosen and all(member.is_encrypted for member in chosen):
                raise InputError("is encrypted", hint="unpack it with its password, and give the folder")
    except TableMissingError:
        return None
    except InputError as error:
        error.subject = path
        raise
    if not chosen:
        got = skipped_in(path, counts, "archive").kinds_text() or "an empty archive"
        raise InputError("has no images", subject=path, expected="files such as .jpg, .png or .webp", got=got)
    return _Zip(len(chosen), str(skipped_in(path, counts, "archive")) if counts else None)


@contextmanager
def _opened(path: str) -> Iterator[tuple[IO[bytes], bytes, int]]:
    """An archive that is open for reading at its start, its first bytes, and its length.

    Raises:
        InputError: it cannot be read, or is not an archive.
    """
    with open_regular(path, error=InputError, wanted="an archive") as raw, io.BufferedReader(raw) as file:
        head = file.read(HEAD_BYTES)
        kind = kind_of(head)
        if not head.startswith((ZIP_MAGIC, b"PK\x05\x06")) and kind not in _PACKINGS:
            raise wrong_kind(kind, "image", subject=path, error=InputError, start=head)
        size = os.fstat(raw.fileno()).st_size
        file.seek(0)
        yield file, head, size


def _frames(path: str, limits: ArchiveLimits) -> Iterator[tuple[str, bytes | None, InputError | None]]:
    """The name of each image of an archive, and its bytes or its error; at last, the error that ends it early."""
    taken: dict[int, int] = {}
    given = 0
    try:
        with _opened(path) as (file, head, size):
            for member in _members(path, file, head, size, limits):
                if not _is_chosen(member, Counter()):
                    continue
                image, error = None, None
                try:
                    if member.name.lower().endswith(ARCHIVE_SUFFIXES):
                        raise InputError("is an archive inside an archive", hint="unpack it, and give it by itself")
                    image = member.read()
                except InputError as failure:
                    error = _light(failure)
                name = _unique(f"{path}/{member.name}", taken)
                if error is not None:
                    error.subject = name
                yield name, image, error
                given += 1
        if not given:
            raise InputError("has no images", expected="files such as .jpg, .png or .webp")
    except InputError as error:
        error.subject = path
        yield path, None, _light(error)


def _light(error: InputError) -> InputError:
    """An error that may be kept: without the frames of its traceback, which hold what was unpacked."""
    link: BaseException | None = error
    while link is not None:
        link = link.with_traceback(None).__cause__ or link.__context__
    return error


def _members(path: str, file: IO[bytes], head: bytes, size: int, limits: ArchiveLimits) -> Iterable[Member]:
    if head.startswith(b"PK"):
        try:
            with open_zip(file, limits) as archive:
                yield from zip_members(archive, limits)
            return
        except TableMissingError:
            file.seek(0)
            yield from torn_members(file, limits)
            return
    kind = kind_of(head)
    assert kind in _PACKINGS, path
    yield from tar_members(Unpacked(file, size, kind, limits), limits)  # type: ignore[arg-type]  # it is one of them


def _is_chosen(member: Member, counts: Counter[str]) -> bool:
    """Whether a member gives a frame; if not, it is counted by its kind."""
    name = member.name.rpartition("/")[2]
    suffix = os.path.splitext(name)[1].lower()
    if member.kind == "folder" or not name:
        return False
    if member.kind != "file":
        counts[member.kind] += 1
        return False
    if name.startswith(".") or member.name.startswith("__MACOSX/"):
        counts[HIDDEN_IMAGE] += suffix in IMAGE_SUFFIXES
        return False
    if suffix in IMAGE_SUFFIXES or name.lower().endswith(ARCHIVE_SUFFIXES):
        return True
    counts[suffix if suffix.isprintable() and 1 < len(suffix) <= 12 else "other file"] += 1
    return False


def _unique(name: str, taken: dict[int, int]) -> str:
    """The name, or ``name~2`` and so on if it was given before. Only hashes of names are kept."""
    count = taken[hash(name)] = taken.get(hash(name), 0) + 1
    return name if count == 1 else f"{name}~{count}"
