"""Results as JSON Lines: one object for each image, on a line of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.sinks.records import json_record
from yoloship.sinks.sink import TextSink

if TYPE_CHECKING:
    from yoloship.sinks.sink import Entry


class JsonLines(TextSink):
    """The objects of `json_record`, each followed by a newline. The file can be read while it grows."""

    option = ("--jsonl",)
    help = "Write the results as JSON Lines, one object per image; - is stdout."
    suffix = ".jsonl"

    def record(self, entry: Entry) -> bytes:
        """Write the record of an image."""
        return json_record(entry) + b"\n"
