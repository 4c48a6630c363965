"""What stands beside the network and is not read: which keys, and which unknown classes below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.checkpoint.drafts import Draft, Global, OddKey

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_NAMES = 20
"""Class names listed of one key."""


class ForeignNames:
    """Finds the names outside the allow-table that values reach. Each object is looked at once in its life."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def of(self, value: object) -> tuple[str, ...]:
        """The names below a value, in the order of their finding, as far as no earlier call has been there.

        Args:
            value: What the machine made; the caller keeps it alive as long as this object.
        """
        names: dict[str, None] = {}
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, Global | Draft) and one.foreign and len(names) < MAX_NAMES:
                names[one.class_path] = None
            if id(one) not in self._seen and (parts := self._parts(one)):  # looking into it again would cost its length
                self._seen.add(id(one))
                waiting.extend(parts)
        return tuple(names)

    @staticmethod
    def _parts(value: object) -> Collection[object]:
        """What a value holds."""
        if isinstance(value, dict):
            return [*value.values(), *(key for key in value if isinstance(key, OddKey))]
        if isinstance(value, list | tuple | set | frozenset):
            return value
        if isinstance(value, Draft):
            return (value.arguments, value.state)
        return (value.value,) if isinstance(value, OddKey) else ()
