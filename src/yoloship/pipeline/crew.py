"""Threads that share the copying of one batch: `Crew`."""

from __future__ import annotations

import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

_Piece = TypeVar("_Piece")


class Crew:
    """A few waiting threads that take pieces of work beside whoever brings it. Many may bring work at once.

    Args:
        threads: How many; 0 leaves all work to whoever brings it. They start when first needed.
    """

    def __init__(self, threads: int) -> None:
        self._size = threads
        self._shifts: SimpleQueue[_Shift[object] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    def work(self, pieces: Sequence[_Piece], do: Callable[[_Piece], None], done: Callable[[_Piece], None]) -> None:
        """Do every piece, here and in the helpers, and wait for all.

        Args:
            pieces: In the order in which they are begun.
            do: Called once for each piece, in any thread; it should release the interpreter's lock.
            done: Called once for each piece that is done, in this thread.

        Raises:
            Exception: the first that `do` or `done` raised, once no thread is at work on these pieces any more.
        """
        if len(pieces) == 1 or not self._size or self._closed:
            for piece in pieces:
                do(piece)
                done(piece)
            return
        self._start()
        shift: _Shift[_Piece] = _Shift(pieces, do)
        for _ in range(min(self._size, len(pieces) - 1)):
            self._shifts.put(shift)  # type: ignore[arg-type]  # its pieces are its own business
        try:
            while shift.take():
                for piece in shift.finished():
                    done(piece)
        finally:
            shift.give_up()
            rest = shift.wait()
        for piece in rest:
            done(piece)
        if shift.failure is not None:
            raise shift.failure

    def close(self) -> None:
        """Let the threads end. What is under way is finished. Closing twice is no error."""
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._shifts.put(None)
            self._threads.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        if self._threads:
            return
        with self._lock:
            if self._threads or self._closed:
                return
            for number in range(self._size):
                thread = threading.Thread(target=self._help, name=f"yoloship-copy-{number}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def _help(self) -> None:
        while (shift := self._shifts.get()) is not None:
            while shift.take():
                pass
            del shift  # it holds the caller's pictures


class _Shift(Generic[_Piece]):
    """One batch's pieces: which are left, which are done."""

    def __init__(self, pieces: Sequence[_Piece], do: Callable[[_Piece], None]) -> None:
        self._left = deque(pieces)
        self._do = do
        self._done: SimpleQueue[_Piece | None] = SimpleQueue()
        self._begun = 0
        self._reported = 0
        self._lock = threading.Lock()
        self.failure: BaseException | None = None

    def take(self) -> bool:
        """Do one piece; False where none is left."""
        with self._lock:
            if not self._left:
                return False
            piece = self._left.popleft()
            self._begun += 1
        try:
            self._do(piece)
        except BaseException as error:
            self.failure = self.failure or error
            self.give_up()
            self._done.put(None)
        else:
            self._done.put(piece)
        return True

    def give_up(self) -> None:
        """Begin no more pieces."""
        with self._lock:
            self._left.clear()

    def finished(self) -> list[_Piece]:
        """Pieces done since the last call; does not wait."""
        return self._collect(wait=False)

    def wait(self) -> list[_Piece]:
        """The same, once every piece that was begun is done."""
        return self._collect(wait=True)

    def _collect(self, *, wait: bool) -> list[_Piece]:
        found = []
        while self._reported < self._begun:
            try:
                piece = self._done.get(wait)
            except Empty:
                break
            self._reported += 1
            if piece is not None:
                found.append(piece)
        return found
