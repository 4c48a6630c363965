r"""Results as a CSV table with one row for each detection.

The columns are always the same: ``time_s`` is empty for still images, and ``track_id`` if objects are not tracked.

A classified image has five rows, its most probable classes, without a box.

An image without detections has no row, and neither has an image that failed. Use JSON if you need to tell them apart.
The format is RFC 4180 in UTF-8: commas, lines that end with CR LF, texts in double quotes.

Spreadsheets run a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula, and file names and class names are
untrusted. So a path that begins with one of these is written with ``./`` before it, which is the same file, and a class
name with an apostrophe before it, which marks text in spreadsheets. Characters that could control a terminal, including
line breaks, are written as escapes such as ``\x1b``, so that a row is always one line.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import visible
from yoloship.sinks.records import origin_of, shortest
from yoloship.sinks.sink import TextSink

if TYPE_CHECKING:
    from yoloship.sinks.sink import Entry

COLUMNS: Final = ("input", "index", "time_s", "class_id", "class_name", "score", "x1", "y1", "x2", "y2", "track_id")
FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""Characters that begin a formula; some spreadsheets accept their wide forms too."""


class CsvFile(TextSink):
    """A CSV file: where the image comes from, class, score, the box in source pixels, and the id of the track."""

    option = ("--csv",)
    help = (
        "Write a CSV table with a row for each object, or for each of the five best classes of an image; an image "
        "without objects has no row. - is stdout."
    )
    suffix = ".csv"
    opening = ",".join(COLUMNS).encode() + b"\r\n"

    def record(self, entry: Entry) -> bytes:
        """Write one row for each detection of the image."""
        if entry.result is None:  # the image failed
            return b""
        origin = origin_of(entry)
        place = (_as_text(origin.input, "./"), origin.index, "" if origin.time_s is None else origin.time_s)
        rows = io.StringIO(newline="")
        writer = csv.writer(rows, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
        for found in entry.result.answers():
            corners: list[Any] = [shortest(value) for value in getattr(found, "box_xyxy", ())] or [""] * 4
            answer = (found.class_id, _as_text(found.class_name, "'"), shortest(found.score))
            track = getattr(found, "track_id", None)
            writer.writerow((*place, *answer, *corners, "" if track is None else track))
        return rows.getvalue().encode()


def _as_text(text: str, guard: str) -> str:
    """A text that is safe on a terminal and that spreadsheets do not run as a formula."""
    shown = visible(text)
    return guard + shown if shown.lstrip().startswith(FORMULA) else shown
