"""Ctrl-C and the signals that end a process wait while an output is written."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from typing_extensions import Self

_Argument = TypeVar("_Argument")
_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """Makes a signal wait until the entry at hand is written. A second signal does not wait.

    It changes nothing outside the main thread, which alone gets signals, and nothing for signals that are ignored, or
    end the process by themselves.
    """

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._is_held = False
        self._waiting: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def holding(self, function: Callable[[_Argument], None]) -> Callable[[_Argument], None]:
        """The same function, but signals wait for its end."""

        def call(argument: _Argument) -> None:
            self._is_held = True
            try:
                function(argument)
            finally:
                self._is_held = False
                if self._waiting is not None:
                    number, self._waiting = self._waiting, None
                    self._before[number](number, None)

        return call

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._is_held and self._waiting is None:
            self._waiting = number
        else:
            self._waiting = None
            self._before[number](number, frame)
