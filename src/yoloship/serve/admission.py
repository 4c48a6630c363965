"""Whether there is room for a request: `Admission`. Without room, it is refused at once, before it costs anything."""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from yoloship._util.text import counted
from yoloship.serve.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Admission:
    """Counts the images of one model that are waiting or running. It belongs to the thread of the event loop.

    Args:
        room: How many images may wait or run.
        wait_s: Estimates the seconds until an image has its answer, if this many are ahead of it.
        name: The model's name, for messages.

    Attributes:
        changed: Called with the number of images that are waiting or running whenever it changes.
    """

    def __init__(self, room: int, wait_s: Callable[[int], float], name: str) -> None:
        self.room, self._wait_s, self._name = room, wait_s, name
        self._held = self._expected = 0
        self.changed: Callable[[int], None] = lambda _: None

    @property
    def held(self) -> int:
        """Images that are waiting or running."""
        return self._held

    @property
    def has_room(self) -> bool:
        """Whether there is room for one more image, besides those that are expected."""
        return self._held + self._expected < self.room

    def expect(self) -> None:
        """Count an image that has arrived and will take its permit in the next turn of the event loop.

        Several may arrive in the same turn.
        """
        if not self._expected:
            asyncio.get_running_loop().call_soon(self._expect_none)
        self._expected += 1

    def _expect_none(self) -> None:
        self._expected = 0

    def check(self, images: int = 1, deadline_in_s: float = math.inf) -> None:
        """Refuse images that have no room, or whose deadline would pass while they wait.

        Args:
            images: How many.
            deadline_in_s: Seconds until their deadline.

        Raises:
            BusyError: they have none.
        """
        if self._held + images > self.room:
            raise self.busy(images)
        wait_s = self._wait_s(self._held + images)
        if self._held and wait_s > deadline_in_s:
            problem = f"the answer would take {wait_s:.1f} s, and the deadline is in {max(deadline_in_s, 0):.1f} s"
            raise BusyError(problem, max(1, math.ceil(wait_s - deadline_in_s)), subject=self._name)

    def busy(self, images: int = 1) -> BusyError:
        """The error that says that there is no room for this many images."""
        wait_s = self._wait_s(self._held + images)
        return BusyError(
            f"{counted(self._held, 'image')} waiting or running", max(1, math.ceil(wait_s / 2)), subject=self._name
        )

    @contextmanager
    def permit(self, images: int = 1, deadline_in_s: float = math.inf) -> Iterator[None]:
        """Hold room for images until the end of the block, without waiting. The arguments are those of `check`.

        Raises:
            BusyError: there is none.
        """
        self.check(images, deadline_in_s)
        self._held += images
        self.changed(self._held)
        try:
            yield
        finally:
            self._held -= images
            self.changed(self._held)
