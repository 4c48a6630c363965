"""How many bytes of images a stream may hold at once: `ImageBudget`."""

from __future__ import annotations

import threading
from typing import Final

from yoloship.errors import InputError

DEFAULT_BUDGET_BYTES: Final = 1 << 30
"""Eight images of 20 megapixels while they are decoded. An image that needs more than this is decoded alone."""


class ImageBudget:
    """Bounds the memory of the images that are in flight, whatever their sizes and however many workers there are.

    The oldest image that is in flight is never held up. It therefore always finishes, and all others wait at most for
    the ones before them: no order of requests can block a stream. The memory in use is at most the limit and one image.

    Args:
        limit_bytes: Images other than the oldest wait until they fit below this.
    """

    def __init__(self, limit_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held: dict[int, int] = {}  # the index of each image in flight, oldest first, and its bytes
        self._changed = threading.Condition()
        self._closed = False

    @property
    def held_bytes(self) -> int:
        """The bytes that are in use now."""
        with self._changed:
            return sum(self._held.values())

    @property
    def is_closed(self) -> bool:
        """Whether nobody waits for the images any longer."""
        return self._closed

    def enter(self, index: int) -> None:
        """Begin an image. Indices must be entered in ascending order."""
        with self._changed:
            self._held[index] = 0

    def reserve(self, index: int, wanted_bytes: int) -> None:
        """Wait until an image may use this many bytes more, and count them.

        Raises:
            InputError: the budget was closed meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(index, wanted_bytes))
            if self._closed:
                raise InputError("the stream was closed")
            self._held[index] += wanted_bytes

    def settle(self, index: int, held_bytes: int) -> None:
        """Set what an image uses from now on, once it has been decoded."""
        with self._changed:
            self._held[index] = held_bytes
            self._changed.notify_all()

    def leave(self, index: int) -> None:
        """End an image. Ending it twice is not an error."""
        with self._changed:
            self._held.pop(index, None)
            self._changed.notify_all()

    def close(self) -> None:
        """Wake up all that wait, with an error."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _fits(self, index: int, wanted_bytes: int) -> bool:
        oldest = next(iter(self._held))
        return index == oldest or sum(self._held.values()) + wanted_bytes <= self._limit_bytes
