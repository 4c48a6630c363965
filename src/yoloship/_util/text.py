"""Text for people: counted nouns, progress, and the file that a name probably meant."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


_Item = TypeVar("_Item")

OnProgress: TypeAlias = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is in all.

The amounts are items, steps, seconds or a share of 1; the last is 0 if it is not known. What the callback raises ends
the job and comes out of it.
"""
MAX_ENTRIES: Final = 500
"""How many names of a folder are compared with a mistyped one."""


def tracked(items: Sequence[_Item], what: str, on_progress: OnProgress | None) -> Iterator[_Item]:
    """Pass items through, and say before each how many are done."""
    for done, item in enumerate(items):
        if on_progress is not None:
            on_progress(what, done, len(items))
        yield item


def silent(what: str, done: float, total: float) -> None:
    """An `OnProgress` that shows nothing."""


def similar_file(path: Path) -> str | None:
    """The file beside a missing one with the most similar name; None if no name is similar."""
    if path.is_symlink():  # the link exists, but its target is missing
        return None
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, MAX_ENTRIES)]
    except (OSError, ValueError):
        return None
    close = get_close_matches(path.name, names, n=1, cutoff=0.75)
    return str(path.parent / close[0]) if close else None


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number and its noun: `1 image`, `2 images`.

    Args:
        count: How many.
        one: The noun for one of them.
        many: The noun for any other number. Default: with an s.
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def shortened(text: str, limit: int = 60) -> str:
    """Text of at most so many characters; an ellipsis stands for the end of a longer one."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
