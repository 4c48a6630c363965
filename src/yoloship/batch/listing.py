"""The images of a batch, all known before it begins: `find`, from files, folders, patterns, lists and object stores."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Final

from yoloship._util.text import counted
from yoloship.batch import buckets
from yoloship.errors import InputError
from yoloship.sources.finding import (
    HIDDEN_IMAGE,
    find_images,
    has_magic,
    natural_key,
    skipped_in,
    unreadable_suffixes,
)
from yoloship.sources.recognise import IMAGE_SUFFIXES, IMAGES, recognise
from yoloship.sources.source import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_NAMES: Final = 10_000_000
"""Most images of a batch, because the list of their names is kept in memory."""
_HINTS: Final = {
    "archive": "unpack it, or give it to 'yoloship predict', which reads archives",
    "video": "give videos to 'yoloship predict'",
    "live": "give cameras and streams to 'yoloship predict'",
    "url": "download it, or copy it to an object store",
    "stdin": "give a list of names in a file",
}
"""Name of a source → what to do instead. All parts of a batch must be known, and reachable for every process."""
_LISTS: Final = frozenset({"list", "csv"})
_PIECES: Final = re.compile(r"(\*|\?|\[!?[^]/]+\])")


@dataclass(slots=True)
class Listing:
    """The images of a batch.

    Attributes:
        names: Each image once: a path as the user gave it, or an address without its query.
        queries: By bucket, how it is reached: the query of its addresses.
        notes: Lines that the user should read, about files that were skipped.
    """

    names: list[str] = field(default_factory=list)
    queries: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find(texts: Sequence[str], *, recursive: bool = False) -> Listing:
    """The images that some texts name.

    Args:
        texts: Image files, folders, patterns, lists (``.txt``, ``.csv``), and files, folders and patterns in object
            stores.
        recursive: Whether a folder includes the images in all folders inside it.

    Raises:
        InputError: a text names something else, nothing, or too much.
        DependencyError: a package for the store is missing.
    """
    found = Listing()
    for text in texts:
        if text and "://" not in text and text != "-" and not has_magic(text) and not os.path.lexists(text):
            raise InputError("no such file or folder", subject=text)  # a line of a list may be missing, as a row
    seen: dict[str, None] = {}
    for name in _all(list(dict.fromkeys(texts)), found, recursive=recursive):
        seen.setdefault(name)
        if len(seen) > MAX_NAMES:
            raise InputError(
                "too many images for one batch", subject=texts[0], expected=f"at most {MAX_NAMES:,}",
                hint="run its folders one at a time",
            )  # fmt: skip
    found.names = list(seen)
    return found


def _all(texts: Sequence[str], found: Listing, *, recursive: bool) -> Iterator[str]:
    """What the texts name. Files and folders that follow each other are looked into together, so that links count."""
    for is_local, group in groupby(texts, _is_local):
        if is_local:
            images = find_images(list(group), recursive=recursive)
            found.notes += map(str, images.skipped)
            yield from map(str, images.paths)
        else:
            for text in group:
                yield from _expanded(text, found, recursive=recursive)


def _is_local(text: str) -> bool:
    """Whether a text names image files, folders or patterns of this machine."""
    if "://" in text and not os.path.lexists(text):
        return False
    return _is_image(text) or recognise(text) == IMAGES


def _expanded(text: str, found: Listing, *, recursive: bool) -> Iterator[str]:
    if buckets.is_address(text) and not os.path.lexists(text):
        yield from _in_store(text, found, recursive=recursive)
        return
    scheme, mark, _ = text.partition("://")
    if mark and not os.path.lexists(text) and recognise(text) == IMAGES:
        raise InputError(
            f"{scheme}:// is not an object store that is known here", subject=text,
            expected=", ".join(sorted(buckets.ARROW_SCHEMES | buckets.FSSPEC_SCHEMES)),
        )  # fmt: skip
    kind = recognise(text)
    if kind in _LISTS:
        yield from _in_list(text, kind, found, recursive=recursive)
        return
    if not _is_local(text):
        raise InputError("cannot be part of a batch", subject=text, got=f"a source of the kind {kind!r}",
                         hint=_HINTS.get(kind, "give image files, folders, patterns or lists"))  # fmt: skip
    yield from _all([text], found, recursive=recursive)


def _in_list(path: str, kind: str, found: Listing, *, recursive: bool) -> Iterator[str]:
    """What the lines of a list name. A line that is a plain image file is not looked for before it is read."""
    with SOURCES.load(kind).open([path]) as source:
        found.notes += source.notes
        if source.files is not None:
            yield from map(str, source.files)
            return
    from yoloship.sources.lists import SourceList

    assert isinstance(source, SourceList)
    for name in source.names:
        if _is_image(name) and "://" not in name and not has_magic(name):
            yield name
        elif buckets.is_address(name) and not has_magic(name) and _is_image(name):
            yield _noted(buckets.parse(name), found).name
        else:
            yield from _expanded(name, found, recursive=recursive)


def _in_store(text: str, found: Listing, *, recursive: bool) -> Iterator[str]:
    """The images of a file, a folder or a pattern in an object store."""
    address = _noted(buckets.parse(text), found)
    bucket = buckets.Bucket(address)
    fixed, pattern = _split(address.place)
    if not pattern and bucket.is_file(address.place):
        yield address.name
        return
    counts: Counter[str] = Counter()
    images = []
    wanted = _matcher(pattern) if pattern else None
    for info in bucket.infos(fixed, recursive=recursive or "**" in pattern or "/" in pattern):
        if wanted is not None and not wanted.fullmatch(info.path[len(fixed) + 1 :]):
            continue
        suffix = _suffix(info.base_name)
        if not info.is_file:
            counts["folder"] += not recursive and wanted is None
        elif info.base_name.startswith("."):
            counts[HIDDEN_IMAGE] += suffix in IMAGE_SUFFIXES
        elif suffix not in IMAGE_SUFFIXES or suffix in unreadable_suffixes():
            counts[suffix if suffix.isprintable() and 1 < len(suffix) <= 12 else "other file"] += 1
        else:
            images.append(f"{address.scheme}://{info.path}")
    counts += Counter()  # without zeros
    if not images:
        raise InputError(
            "matches no images" if pattern else "has no images", subject=address.name,
            expected="files such as .jpg, .png or .webp",
            got=skipped_in(address.name, counts).kinds_text() or "nothing of that name",
        )  # fmt: skip
    if counts:
        found.notes.append(str(skipped_in(address.name, counts)))
    yield from sorted(images, key=natural_key)


def _noted(address: buckets.Address, found: Listing) -> buckets.Address:
    """The address, after its query was noted for its bucket; an address without one takes what was noted."""
    known = found.queries.get(address.bucket, "")
    if address.query and known and address.query != known:
        raise InputError(
            "is given with two different connection settings", subject=address.bucket, expected=known,
            got=address.query, hint="use the same settings in all addresses",
        )  # fmt: skip
    found.queries[address.bucket] = address.query or known
    return buckets.Address(address.scheme, address.place, address.query or known)


def _is_image(name: str) -> bool:
    return _suffix(name) in IMAGE_SUFFIXES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a text


def _split(place: str) -> tuple[str, str]:
    """``bucket/a/*.jpg`` → ``bucket/a`` and ``*.jpg``; the second is empty without a pattern."""
    parts = place.split("/")
    first = next((at for at, part in enumerate(parts) if at and has_magic(part)), len(parts))
    return "/".join(parts[:first]), "/".join(parts[first:])


def _matcher(pattern: str) -> re.Pattern[str]:
    """A pattern for paths inside a folder. ``*`` stays in its folder, and ``**`` stands for any number of them."""
    parts = pattern.split("/")
    if parts[-1] == "**":
        parts.append("*")
    pieces = ["(?:[^/]+/)*" if part == "**" else "".join(map(_piece, _PIECES.split(part))) + "/" for part in parts]
    return re.compile("".join(pieces).removesuffix("/"), re.DOTALL)


def _piece(text: str) -> str:
    if text in {"*", "?"}:
        return "[^/]*" if text == "*" else "[^/]"
    if text.startswith("[") and text.endswith("]") and len(text) > 2:
        inner = text[1:-1].replace("\\", r"\\").replace("[", r"\[").replace("&&", r"&\&")
        return f"[^/{inner[1:]}]" if inner.startswith("!") and len(inner) > 1 else f"[{inner}]"
    return re.escape(text)


def missing_names(before: Sequence[str], now: Sequence[str]) -> str:
    """How two listings differ: ``3 new images, 1 gone``; empty if they are equal."""
    then, found = set(before), set(now)
    new, gone = len(found - then), len(then - found)
    if not new and not gone:
        return ""
    return ", ".join(
        text for text in (counted(new, "new image") if new else "", f"{gone} gone" if gone else "") if text
    )
