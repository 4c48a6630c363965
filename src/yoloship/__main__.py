"""``python -m yoloship``: the command line."""

from __future__ import annotations

from yoloship.cli import main

main()
