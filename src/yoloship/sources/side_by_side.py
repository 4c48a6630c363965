"""Reads several videos at the same time, and puts what becomes of their frames in order again: `SideBySide`."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import closing
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from yoloship._util.closing import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from yoloship.sources.ahead import Stopped
    from yoloship.sources.source import Frame

    Reading = Callable[[Stopped], Iterator[Frame]]

T = TypeVar("T")

GROUP_FRAMES: Final = 8
"""Frames of a video that are handed over together: for each on its own, threads would wait and wake each other a dozen
times."""
GROUP_BYTES: Final = 1 << 25
"""Most of such a group, before its last frame: 8 frames of 1080p in device memory."""
GROUP_S: Final = 0.02
"""After this time, a group is handed over with the next frame, however few it has."""
MAX_WAITING: Final = 1 << 16
"""Answers that wait for those of earlier videos. With more, only the first video goes on until it is finished."""


class SideBySide:
    """The frames of several videos, mixed as they come. It can be iterated once.

    Args:
        readings: Each gives the frames of a video, in a thread of its own. It is given a function that says whether
            nobody wants any more.
        at_once: Videos that are read at the same time.
        max_waiting: Answers that may wait in `in_turn`.
    """

    def __init__(self, readings: Sequence[Reading], at_once: int, max_waiting: int = MAX_WAITING) -> None:
        self._readings = readings
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._come: SimpleQueue[tuple[int, deque[Frame] | BaseException | None]] = SimpleQueue()
        # Of each video, one group waits while another is decoded. `ahead` says why these are not semaphores.
        self._rooms: list[SimpleQueue[None]] = [SimpleQueue() for _ in readings]
        for room in self._rooms:
            room.put(None)
        self._is_stopped = False
        self._drawn: deque[int] = deque()  # the video of each frame whose answer has not come yet
        self._left = [0] * len(readings)  # frames of each video that have come and have no answer
        self._is_read = [False] * len(readings)
        self._waiting = 0

    def __iter__(self) -> Iterator[Frame]:
        threads: list[threading.Thread] = []
        consumer = threading.get_ident()
        aside: deque[tuple[int, deque[Frame]]] = deque()
        try:
            for _ in range(min(self._at_once, len(self._readings))):
                self._start(threads)
            while True:  # with a condition, Ctrl-C could miss `finally`: see `ahead`
                if not aside and all(self._is_read):
                    break
                video, group = self._next(aside, threads)
                self._rooms[video].put(None)
                for _ in range(len(group)):
                    frame = group.popleft()
                    self._drawn.append(video)
                    yield frame
                    del frame
                    consumer = threading.get_ident()
        finally:
            self._is_stopped = True
            for room in self._rooms:
                room.put(None)
            # The garbage collector may close a forgotten iterator in any thread. Waiting there might never end.
            if threading.get_ident() == consumer:
                for thread in threads:
                    if thread.is_alive():
                        wait_for(thread)

    def in_turn(self, answers: Iterator[T], numbered: Callable[[T, int], T]) -> Iterator[T]:
        """Give one answer for each frame as if the videos had been read one after the other.

        Args:
            answers: One for each frame that was taken from here, in that order. It is closed at the end.
            numbered: From an answer and its place in the new order to that answer with this place.
        """
        kept: dict[int, list[T]] = {}
        turn = place = 0
        with closing(cast("Generator[T]", answers)):
            for answer in answers:
                video = self._drawn.popleft()
                self._left[video] -= 1
                if video == turn:
                    yield numbered(answer, place)
                    place += 1
                else:
                    kept.setdefault(video, []).append(answer)
                    self._waiting += 1
                del answer
                while True:
                    if turn == len(self._readings) or not self._is_read[turn] or self._left[turn]:
                        break
                    turn += 1
                    for late in kept.pop(turn, ()):
                        self._waiting -= 1
                        yield numbered(late, place)
                        place += 1
        for video in sorted(kept):
            for late in kept[video]:
                yield numbered(late, place)
                place += 1

    def _start(self, threads: list[threading.Thread]) -> None:
        video = len(threads)
        if video < len(self._readings):
            thread = threading.Thread(target=self._read, args=(video,), name=f"yoloship-read-{video}", daemon=True)
            threads.append(thread)
            thread.start()

    def _next(
        self, aside: deque[tuple[int, deque[Frame]]], threads: list[threading.Thread]
    ) -> tuple[int, deque[Frame]]:
        """The next frames that may go on, all of one video; none if one has ended."""
        front = next((video for video, is_read in enumerate(self._is_read) if not is_read), None)
        is_full = self._waiting >= self._max_waiting and front is not None
        for number, (video, group) in enumerate(aside):
            if not is_full or video == front:
                del aside[number]
                return video, group
        while True:
            video, come = self._come.get()
            if come is None:
                self._is_read[video] = True
                self._start(threads)
                return video, deque()
            if isinstance(come, BaseException):
                raise come
            self._left[video] += len(come)
            if not is_full or video == front:
                return video, come
            aside.append((video, come))

    def _read(self, video: int) -> None:
        group: deque[Frame] = deque()
        try:
            frames: Any = self._readings[video](lambda: self._is_stopped)
            with closing(frames):
                size, until_s = 0, 0.0
                for frame in frames:
                    now_s = time.monotonic()
                    if not group:
                        size, until_s = 0, now_s + GROUP_S
                    group.append(frame)
                    size += getattr(frame.image, "nbytes", 0)
                    del frame
                    if len(group) == GROUP_FRAMES or size >= GROUP_BYTES or now_s >= until_s:
                        self._rooms[video].get()
                        if self._is_stopped:
                            break
                        self._come.put((video, group))
                        group = deque()
        except BaseException as error:
            self._come.put((video, group))
            self._come.put((video, error))
        else:
            self._come.put((video, group))
            self._come.put((video, None))
