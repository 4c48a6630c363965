"""How a long job says how far it is: `OnProgress`, the one form of such a callback, and `tracked`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_Item = TypeVar("_Item")

OnProgress: TypeAlias = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is in all.

The amounts are items, steps, seconds or a share of 1; the last is 0 if it is not known. What the callback raises ends
the job and comes out of it.
"""


def tracked(items: Sequence[_Item], what: str, on_progress: OnProgress | None) -> Iterator[_Item]:
    """Pass items through, and say before each how many are done."""
    for done, item in enumerate(items):
        if on_progress is not None:
            on_progress(what, done, len(items))
        yield item


def silent(what: str, done: float, total: float) -> None:
    """An `OnProgress` that shows nothing."""
