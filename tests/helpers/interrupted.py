"""Loops that a signal interrupts at any moment, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

_INTERRUPTED: Final = """
import random, signal, threading
from yoloship.sources.{module} import {name}

class Interrupt(BaseException):
    pass

def interrupt(*_):
    raise Interrupt

signal.signal(signal.SIGALRM, interrupt)
chance, come = random.Random(5), 0
for _ in range(400):
    items = {made}
    next(items)  # an interrupt while a thread starts would leave Python's own list of threads wrong
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, 2e-3))
            for _ in items:
                pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            items.close()
    except Interrupt:
        come += 1
del items  # an interrupt just before `close` leaves that to this
assert come > 300, come
assert threading.active_count() == 1, threading.enumerate()
"""
"""A program whose loop over an iterator is interrupted at any place. The interrupt hits what the loop calls, too."""


def run_interrupted(module: str, name: str, made: str) -> None:
    """Run such a program; it must end, and leave no thread.

    Args:
        module: Of `yoloship.sources`.
        name: What is imported from it.
        made: An expression for an iterator that gives at least one item.
    """
    program = _INTERRUPTED.format(module=module, name=name, made=made)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
