"""The priority of threads: those that compute let those go first that answer."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Final

_NICER: Final = 5


def step_back() -> None:
    """Lower the priority of this thread and of the threads that it starts, where each thread has its own: on Linux.

    Threads that compute keep all cores busy. Without this, the event loop would often wait for one of them to use up
    its time, before it can take a request, or refuse it.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox may forbid it, and it only helps
            os.setpriority(os.PRIO_PROCESS, thread, min(os.getpriority(os.PRIO_PROCESS, thread) + _NICER, 19))
