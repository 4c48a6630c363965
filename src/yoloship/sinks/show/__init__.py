"""A page in the browser that shows what a run finds, while it runs: `ShowPage`."""

from __future__ import annotations

from yoloship.sinks.show.page import ShowPage

__all__ = ["ShowPage"]
