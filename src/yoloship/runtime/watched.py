"""A call into a runtime that ends: after a time, or when the user presses Ctrl-C.

Python hears a signal between two of its own instructions only, so a main thread that is inside a runtime's C++ hears
none. The call is made in another thread, while this one waits in a way that can be interrupted.
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
"""How long to wait at a time: a signal that another thread of the process receives is heard after that."""
GRACE_S: Final = 1.5
"""How long the call has to end when it is asked to; a runtime looks between two operators."""


def watched(call: Callable[[], _Result], stop: Callable[[], None], limit_s: float, subject: str) -> _Result:
    """Make a call that is asked to end when it takes too long or is interrupted.

    Args:
        call: What to do; it may run on in its thread if it does not end when asked.
        stop: Asks it to end; called from this thread.
        limit_s: Seconds it may take.
        subject: The model, for messages.

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
        stop()
        done.wait(GRACE_S)
        raise
    if not done.is_set():
        stop()
        done.wait(GRACE_S)
        raise SessionError("the run took too long and was ended", subject=subject, expected=f"at most {limit_s:.0f} s")
    if errors:
        raise errors[0]
    return results[0]
