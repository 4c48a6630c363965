"""Text for people: counted nouns, progress, network addresses, and the file that a name probably meant."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from difflib import get_close_matches
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from yoloship.errors import YoloshipError


_Item = TypeVar("_Item")

OnProgress: TypeAlias = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is in all.

The amounts are items, steps, seconds or a share of 1; the last is 0 if it is not known. What the callback raises ends
the job and comes out of it.
"""
MAX_ENTRIES: Final = 500
"""How many names of a folder are compared with a mistyped one."""
_HINTS: Final = MappingProxyType(
    {
        "file": "give the path itself",
        **dict.fromkeys(("rtsp", "rtsps", "rtmp", "udp", "tcp"), "save its images as files first, and give those"),
    }
)
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}:/{1,3}(?=[^/])")


def tracked(items: Sequence[_Item], what: str, on_progress: OnProgress | None) -> Iterator[_Item]:
    """Pass items through, and say before each how many are done."""
    for done, item in enumerate(items):
        if on_progress is not None:
            on_progress(what, done, len(items))
        yield item


def silent(what: str, done: float, total: float) -> None:
    """An `OnProgress` that shows nothing."""


def refuse_address(name: object, *, error: type[YoloshipError]) -> None:
    """Refuse ``https://…`` and the like, which `pathlib` would turn into the name of a file that does not exist.

    Raises:
        YoloshipError: of the class `error`: the name is an address. A file that bears that very name is none.
    """
    text = str(name)
    if _ADDRESS.match(text) is None or os.path.lexists(text):
        return
    scheme = text.partition(":")[0].lower()
    hint = _HINTS.get(scheme, "download it first, and give the file")
    raise error("is an address, and yoloship reads files", subject=text, hint=hint)


def similar_file(path: Path) -> str | None:
    """The file beside a missing one whose name is most like its own; None if none is."""
    if path.is_symlink():  # it is there; what it leads to is missing
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
