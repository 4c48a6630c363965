"""Where the program's text is written: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys


def print_out(text: str, *, end: str = "\n") -> None:
    """Write a result on stdout."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def print_err(text: str) -> None:
    """Write a line that is not a result on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def print_bytes(data: bytes) -> None:
    """Write a document on stdout as it is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
