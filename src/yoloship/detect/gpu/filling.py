"""Putting frames of ordinary memory onto pinned memory: all of them, only the rows that count, or scaled.

A lone frame is copied by all threads of OpenCV (`fill`). Frames of a batch are copied in pieces, each by one call that
lets go of Python's lock once, by several threads side by side (`Copiers`).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided

from yoloship._util.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    import numpy.typing as npt

    from yoloship.detect.gpu.staging import Frame
    from yoloship.letterbox import Letterbox


BY_THE_HOST: Final = frozenset({"copied", "resized"})
"""The modes of frames that the host puts onto pinned memory."""
_PIECE_BYTES: Final = 1 << 22
_LARGEST_BYTES: Final = 1 << 26
_PIECES_EACH: Final = 3
"""Pieces for each thread, so that the first go up while the next are copied, and all threads end at about the same
time; none smaller than `_PIECE_BYTES`."""
FEW_THREADS: Final = 3
"""So few threads have a piece each. Several GPUs have so few: each piece hands Python's lock over, and there is one
for all. On two H200, 4,940 to 5,110 images a second became 5,860 to 6,010."""


def staged_hw(frame: Frame) -> tuple[int, int]:
    """(height, width) of what the letterbox reads."""
    box: Letterbox = frame.letterbox
    if frame.mode == "resized":
        return box.resized_hw
    if frame.mode != "copied" or frame.pick is None:
        return box.image_hw
    return box.image_hw[0] // frame.pick.step * frame.pick.count, box.image_hw[1]


def fill(frame: Frame, target: npt.NDArray[np.uint8]) -> None:
    """Put a frame's pixels onto pinned memory, scaled if its mode says so.

    Args:
        frame: Its mode is in `BY_THE_HOST`.
        target: (height, width, 3) of `staged_hw`, overwritten.
    """
    import cv2

    height, width = target.shape[:2]
    if frame.mode == "resized":
        if frame.letterbox.image_hw == (height, width):
            np.copyto(target, frame.pixels)
        else:
            cv2.resize(frame.pixels, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
        return
    # The one copy of OpenCV's that all its threads share. It swaps red and blue; the letterbox is told so.
    if frame.pick is None:
        cv2.cvtColor(frame.pixels, cv2.COLOR_BGR2RGB, dst=target)
        return
    picked = _picked_rows(frame)
    cv2.cvtColor(picked, cv2.COLOR_BGR2RGB, dst=target.reshape(picked.shape))


def _picked_rows(frame: Frame) -> npt.NDArray[np.uint8]:
    """(rows, pixels, 3): the rows of one step that count lie side by side, so they are one long row."""
    pixels, pick = frame.pixels, frame.pick
    assert pick is not None
    height, width = frame.letterbox.image_hw
    shape = (height // pick.step, pick.count * width, 3)
    return as_strided(pixels[pick.first :], shape, (pick.step * 3 * width, 3, 1), writeable=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames that lie one behind the other on pinned memory, without a gap.

    Attributes:
        frames: In that order; all `resized`, all whole and `copied`, or all `copied` rows of one length.
        start: Where the first begins.
        size_bytes: Of all of them.
    """

    frames: Sequence[Frame]
    start: int
    size_bytes: int


class Copiers(Closing):
    """Threads that copy the frames of batches. Batches of several slots share them, and are copied one after the other.

    A thread that finds no more pieces of one batch begins with the next, so none waits for the others between two.

    Args:
        threads: How many copy at once; 1 leaves it to the caller.
    """

    def __init__(self, threads: int) -> None:
        self._pieces_each = _PIECES_EACH if threads > FEW_THREADS else 1
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="yoloship-copy") if threads > 1 else None

    def copy(self, pieces: Sequence[Piece], pinned: npt.NDArray[np.uint8], then: Callable[[Piece], None]) -> None:
        """Copy pieces, and wait for that.

        Args:
            pieces: What to copy.
            pinned: (bytes,) where to.
            then: Is called with each piece that is there, in any order and by any thread.
        """
        if self._pool is None or len(pieces) == 1:
            for piece in pieces:
                _copy(piece, pinned)
                then(piece)
            return
        batch = _Batch(pieces, pinned, then)
        helpers: list[Future[None]] = []
        try:
            helpers.extend(self._pool.submit(batch.work) for _ in pieces[: self.threads])
            batch.wait()
        finally:
            if not batch.is_done:
                batch.stop()
                for helper in helpers:  # after an error, nothing may write any more
                    if not helper.cancel():
                        helper.exception()

    def pieces(self, frames: Sequence[tuple[Frame, int]], start: int) -> list[Piece]:
        """Share out frames that lie one behind the other.

        Args:
            frames: Of one kind, as `Piece.frames`, each with its bytes.
            start: Where the first begins on pinned memory.
        """
        whole = sum(size for _, size in frames)
        count = max(1, min(self._pieces_each * self.threads, whole // _PIECE_BYTES))
        most = min(-(-whole // count), _LARGEST_BYTES)
        found: list[Piece] = []
        some: list[Frame] = []
        held = 0
        for frame, size in frames:
            if some and held + size > most:
                found.append(Piece(some, start, held))
                start, some, held = start + held, [], 0
            some.append(frame)
            held += size
        return [*found, Piece(some, start, held)]

    def close(self) -> None:
        """End the threads. Closing twice is not an error."""
        if self._pool is not None:
            self._pool.shutdown()


class _Batch:
    """The pieces of a batch that several threads copy."""

    def __init__(self, pieces: Sequence[Piece], pinned: npt.NDArray[np.uint8], then: Callable[[Piece], None]) -> None:
        self._left = deque(pieces)
        self._count = len(pieces)
        self._pinned, self._then = pinned, then
        self._done: list[Piece] = []
        self._error: BaseException | None = None
        self._ended = threading.Lock()  # an Event has a lock that Ctrl-C could leave taken
        self._ended.acquire()

    @property
    def is_done(self) -> bool:
        """Whether all pieces are there."""
        return len(self._done) == self._count

    def work(self) -> None:
        """Copy one piece after the other until none is left. Many threads may do so at once."""
        while self._left:
            try:
                piece = self._left.popleft()
            except IndexError:
                return
            try:
                _copy(piece, self._pinned)
                self._then(piece)
            except BaseException as error:
                self._error = self._error or error
                self._end()
                return
            self._done.append(piece)
            if self.is_done:
                self._end()

    def wait(self) -> None:
        """Wait until all pieces are there, or one has failed, whose error is raised."""
        self._ended.acquire()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Let no thread begin another piece."""
        self._left.clear()

    def _end(self) -> None:
        self._left.clear()
        with contextlib.suppress(RuntimeError):  # two may have failed
            self._ended.release()


def kind(frame: Frame) -> object:
    """Frames of one kind can be in one `Piece`."""
    if frame.mode == "resized":
        return "resized"
    return frame.letterbox.image_hw if frame.pick is not None else None


def _copy(piece: Piece, pinned: npt.NDArray[np.uint8]) -> None:
    import cv2

    frames = piece.frames
    target = pinned[piece.start : piece.start + piece.size_bytes]
    if frames[0].mode == "resized":
        for frame in frames:
            height, width = staged_hw(frame)
            size = 3 * height * width
            fill(frame, target[:size].reshape(height, width, 3))
            target = target[size:]
        return
    rows = [_rows(frame) for frame in frames]
    target = target.reshape(-1, rows[0].shape[1])
    if len(rows) == 1:
        np.copyto(target, rows[0])
    else:
        copied: Any = cv2.vconcat(rows, dst=target)  # one call for all, without Python's lock
        if copied.ctypes.data != target.ctypes.data:  # OpenCV took memory of its own, which it does not do today
            np.copyto(target, copied)


def _rows(frame: Frame) -> npt.NDArray[np.uint8]:
    """(rows, bytes) of what is copied; all bytes as a column of one if that is the whole frame."""
    pixels: npt.NDArray[np.uint8] = frame.pixels
    if frame.pick is None:
        return pixels.reshape(-1, 1)
    picked = _picked_rows(frame)
    return as_strided(picked, (picked.shape[0], 3 * picked.shape[1]), (picked.strides[0], 1), writeable=False)
