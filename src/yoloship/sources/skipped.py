"""What a folder holds besides the images that are taken from it, counted by kind."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from yoloship.images import HEIC_HINT

if TYPE_CHECKING:
    from yoloship.sources.walking import Entry

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
        HIDDEN_IMAGE: "hidden images",
        "other file": "other files",
    }
)
_SINGULARS: Final = MappingProxyType(
    {"closed folder": "folder that cannot be listed", "special file": "pipe, socket or device"}
)


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was left out of one folder or pattern.

    Attributes:
        source: As the user named it.
        counts: Kinds and how many there are of each, in the order in which they are told: a suffix such as ``.txt``,
            ``folder``, ``broken link``, and so on.
    """

    source: str
    counts: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """How many entries were left out."""
        return sum(count for _, count in self.counts)

    def kinds_text(self) -> str:
        """``3 .heic (pip install 'yoloship[heic]'), 2 folders (--recursive), 1 broken link``."""
        shown = [_told(kind, count) for kind, count in self.counts[:SHOWN_KINDS]]
        if rest := sum(count for _, count in self.counts[SHOWN_KINDS:]):
            shown.append(f"{rest} of other kinds")
        return ", ".join(shown)

    def __str__(self) -> str:
        return f"skipped in {self.source}: {self.kinds_text()}"


class SkippedCounter:
    """Counts what is left out of one source."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._counts: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many entries were counted."""
        return self._counts.total()

    def add(self, entry: Entry) -> None:
        """Count an entry that is not an image."""
        if entry.kind != "file":
            self.add_kind(entry.kind)
        elif not entry.name.startswith("."):
            suffix = os.path.splitext(entry.name)[1].lower()
            known = suffix.isprintable() and 1 < len(suffix) <= MAX_SUFFIX_CHARS
            self.add_kind(suffix if known else "other file")

    def add_kind(self, kind: str) -> None:
        """Count one of a kind."""
        self._counts[kind] += 1

    def result(self) -> Skipped:
        """What was counted: first what the user can do something about, then the most frequent."""
        order = sorted(self._counts.items(), key=lambda item: (not _advice(item[0]), -item[1], item[0]))
        return Skipped(self._source, tuple(order))


def unreadable_suffixes() -> frozenset[str]:
    """Of formats that need a package which is not installed."""
    return frozenset() if find_spec("pillow_heif") else _HEIC_SUFFIXES


def _advice(kind: str) -> str:
    if kind in _HEIC_SUFFIXES:
        return HEIC_HINT
    return "--recursive" if kind == "folder" else ""


def _told(kind: str, count: int) -> str:
    words = kind if kind.startswith(".") else (_SINGULARS.get(kind, kind) if count == 1 else _PLURALS[kind])
    advice = _advice(kind)
    return f"{count} {words} ({advice})" if advice else f"{count} {words}"
