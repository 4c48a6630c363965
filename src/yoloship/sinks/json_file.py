"""Results as a JSON list with one object for each image, one per line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.sinks.records import json_record
from yoloship.sinks.sink import Entry, TextSink

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yoloship.results import Result


class JsonFile(TextSink):
    """A JSON list of the objects that `json_record` makes."""

    option = ("--json",)
    help = "Write the results as one JSON list; - is stdout."
    suffix = ".json"
    opening = b"["
    separator = b",\n "
    closing = b"]\n"

    def record(self, entry: Entry) -> bytes:
        """Write the record of an image."""
        return json_record(entry)


def json_bytes(results: Iterable[tuple[str, Result]]) -> bytes:
    """Make the JSON document for a few images; `JsonFile` writes any number of them.

    Args:
        results: For each image, its path as the user gave it, and its result.

    Returns:
        UTF-8: a list of the objects that `json_record` makes, one per line.
    """
    lines = (json_record(Entry(name, found, index=index)) for index, (name, found) in enumerate(results))
    return JsonFile.opening + JsonFile.separator.join(lines) + JsonFile.closing
