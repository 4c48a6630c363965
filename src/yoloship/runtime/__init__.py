"""Runs models: a session for each runtime, and `RUNTIMES`, the table of the runtimes."""

from __future__ import annotations

from yoloship.runtime.registry import AUTO, RUNTIMES, choose_runtime, open_on_device, open_session
from yoloship.runtime.session import DeviceSession, RunOptions, Runtime, Session

__all__ = [
    "AUTO",
    "RUNTIMES",
    "DeviceSession",
    "RunOptions",
    "Runtime",
    "Session",
    "choose_runtime",
    "open_on_device",
    "open_session",
]
