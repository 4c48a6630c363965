"""Lets threads that compute stand back behind the one that answers: `step_back`."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from contextlib import suppress
from types import MappingProxyType
from typing import Final

_NICER: Final = 10
"""Steps of `nice`. With 5, one refusal in 100 of a full server took over 6.1 ms, with 10 over 5.0, and with 19 over
4.9; but then any other program of the same user would leave it hardly any time."""
_TURN_NS: Final = 100_000
"""How long such a thread computes before another thread may have its core. From Linux 6.12 on, each thread can have its
own such time, and 0.1 ms is the least. With the usual 1.4 ms of two cores, one refusal in 100 took over 5.3 ms in half
of eight runs, and with 0.1 ms over 4.6. As many images were answered."""
_KEEP_POLICY: Final = 0x08  # SCHED_FLAG_KEEP_POLICY
_SET_ATTRIBUTES: Final = MappingProxyType({"x86_64": 314, "aarch64": 274})
"""The system call sched_setattr, for which glibc has a function only since 2.41."""


class _Attributes(ctypes.Structure):
    """`struct sched_attr` of linux/sched/types.h."""

    _fields_ = (
        ("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64), ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32), ("runtime", ctypes.c_uint64), ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )  # fmt: skip


def step_back() -> None:
    """Lower the priority of this thread and of the threads that it starts, where each thread has its own: on Linux.

    Threads that compute keep all cores busy. Without this, the event loop would often wait for one of them to use up
    its time, before it can take a request, or refuse it.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox may forbid it, and it only helps
            nice = min(os.getpriority(os.PRIO_PROCESS, thread) + _NICER, 19)
            os.setpriority(os.PRIO_PROCESS, thread, nice)
            _take_short_turns(thread, nice)


def _take_short_turns(thread: int, nice: int) -> None:
    """Let a thread compute for a short time before others have their turn. Older versions of Linux ignore it."""
    number = _SET_ATTRIBUTES.get(platform.machine())
    if number is not None:
        wanted = _Attributes(ctypes.sizeof(_Attributes), 0, _KEEP_POLICY, nice, 0, _TURN_NS, 0, 0)
        ctypes.CDLL(None).syscall(number, thread, ctypes.byref(wanted), 0)
