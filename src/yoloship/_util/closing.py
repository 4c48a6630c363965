"""Owners of memory, streams, files and the like, which a `with` block closes: `Closing`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
