"""Owners of memory, streams, files and the like, which a `with` block closes: `Closing`; and waiting for threads."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Thread
    from types import TracebackType

    from typing_extensions import Self


class Closing(ABC):
    """Base of what must be closed: a context manager whose end is `close`."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Give everything back. Closing it twice is not an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def wait_for(thread: Thread) -> None:
    """Wait until a daemon thread has ended, unless the program is ending.

    Then Python has stopped such threads where they were, and what is closed because nobody holds it any more, such as
    an iterator, would wait for ever.
    """
    if not sys.is_finalizing():
        thread.join()
