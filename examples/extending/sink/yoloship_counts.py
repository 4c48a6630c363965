"""A sink for yoloship: how many objects of each class an image holds, one line for each image.

yoloship predict best.pt photos/ --counts counts.txt
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.sinks import TextSink

if TYPE_CHECKING:
    from yoloship.sinks import Entry


class Counts(TextSink):
    """Lines such as ``photo.jpg: 4 person, 1 bus``."""

    option = ("--counts",)
    help = "Write how many objects of each class each image holds; - is stdout."
    suffix = ".txt"

    def record(self, entry: Entry) -> bytes:
        """Write the line of one image."""
        if entry.result is None:  # it could not be read or run, and yoloship reports it
            return b""
        counts = entry.result.counts()  # by class name, most frequent first; results of every task have it
        found = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"
        return f"{entry.name}: {found}\n".encode()
