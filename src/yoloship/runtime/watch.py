"""Calls of a runtime with a time limit, which Ctrl-C ends too: `watched`.

Python handles a signal only between two of its own instructions, so a main thread inside a runtime's C++ code handles
none. Therefore the call is made in another thread, while this one waits and can be interrupted.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

from yoloship.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable


_Result = TypeVar("_Result")

SLICE_S: Final = 0.1
"""Longest wait at a time; a signal that another thread receives is handled after it."""
GRACE_S: Final = 1.5
"""How long to wait for a call to end after it is asked to; a runtime checks between two operators."""


def watched(call: Callable[[], _Result], stop: Callable[[], None], limit_s: float, subject: str) -> _Result:
    """Make a call that is stopped if it takes too long or is interrupted.

    Args:
        call: The function to call. If it does not end when asked, it continues in its thread.
        stop: Asks the call to end; called from this thread, and again until it ends: a runtime does not hear what it is
            asked before it has begun.
        limit_s: Time limit in seconds.
        subject: The model's name, for messages.

    Returns:
        What the call returns; what it raises is raised here.

    Raises:
        SessionError: it took too long.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []
    done = threading.Event()  # joining a thread is not safe to interrupt before Python 3.13

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=work, name="yoloship-run", daemon=True).start()
    left_s = limit_s
    try:
        while not done.is_set() and left_s > 0:
            began_s = time.monotonic()
            done.wait(min(left_s, SLICE_S))
            left_s -= min(time.monotonic() - began_s, 10 * SLICE_S)  # a suspended process (Ctrl-Z) does not run either
    except BaseException:
        _end(stop, done)
        raise
    if not done.is_set():
        _end(stop, done)
        raise SessionError("the run took too long and was ended", subject=subject, expected=f"at most {limit_s:.0f} s")
    if errors:
        raise errors[0]
    return results[0]


def _end(stop: Callable[[], None], done: threading.Event) -> None:
    until_s = time.monotonic() + GRACE_S
    while not done.is_set() and time.monotonic() < until_s:
        stop()
        done.wait(SLICE_S)
