"""The command line: one file a command, each a thin layer over the library."""

from __future__ import annotations

from yoloship.cli.app import main

__all__ = ["main"]
