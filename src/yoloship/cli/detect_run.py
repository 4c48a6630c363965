"""What ``yoloship detect`` does with the results, one after the other as they come."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from yoloship._util.writing import is_disk_full
from yoloship.cli.output import ReaderGone, print_bytes, print_err, print_text
from yoloship.cli.progress import with_progress
from yoloship.cli.protect import is_dash, is_stdout
from yoloship.errors import OutputError, YoloshipError
from yoloship.escaping import visible
from yoloship.sinks import Entry, ImagesTable, JsonStream, detections_table, open_json
from yoloship.sinks.tables import MAX_ROWS, display_width

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from yoloship.model import NmsConfig
    from yoloship.pipeline import Outcome
    from yoloship.sinks import AnnotatedImages, JsonFile, Sink


class DetectRun:
    """The results of one run: written as they come, and counted.

    Args:
        inputs: The images, in order.
        annotated: Draws and writes them; None if they shall not be drawn.
        json_path: None for no JSON; ``-`` is stdout.
        overwrite: Whether files that exist may be replaced.
        quiet: Whether to print errors and warnings only, and no progress.
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        annotated: AnnotatedImages | None,
        json_path: Path | None,
        *,
        overwrite: bool,
        quiet: bool = False,
    ) -> None:
        self.failures = 0
        self._inputs, self._annotated, self._overwrite = inputs, annotated, overwrite
        self._json_path = json_path
        self._quiet = quiet
        self._prints = not quiet and not is_stdout(json_path)
        self._incomplete = self._read = 0
        self._stdout_error: Exception | None = None
        self._last: Path | None = None

    def write(self, outcomes: Iterator[Outcome]) -> None:
        """Write everything. However it ends, what was written stays, and is whole.

        Raises:
            OutputError: the JSON cannot be written, or the disk is full. Anything else that fails concerns one image,
                and is only said and counted.
        """
        json = self._json()
        try:
            with ExitStack() as stack:
                sinks = [stack.enter_context(sink) for sink in (json, self._table()) if sink is not None]
                stack.enter_context(closing(outcomes))  # type: ignore[type-var]  # it is a generator
                for outcome in with_progress(outcomes, "detecting", len(self._inputs), quiet=self._quiet):
                    self._take(self._entry(outcome), sinks)
        except BaseException:
            if json is not None and json.count and json.is_finished and not is_dash(self._json_path):
                print_err(f"{self._json_path} holds the results of {json.count} of {len(self._inputs)} images")
            raise

    def report(self, nms: NmsConfig | None) -> None:
        """Say where everything is, and what is missing.

        Args:
            nms: Of a graph that suppresses; it says how many candidates that looks at.

        Raises:
            ReaderGone: nobody reads stdout any longer.
            OutputError: stdout cannot be written.
        """
        if self._prints:
            if self._last is not None:
                self._show(visible(f"annotated: {self._last if len(self._inputs) == 1 else self._last.parent}") + "\n")
            if self._json_path is not None:
                self._show(visible(f"json: {self._json_path}") + "\n")
        if self._incomplete:
            limit = f" than the {nms.candidates}" if nms else ""
            print_err(
                f"boxes may be missing in {self._incomplete} of {self._read} images: more candidates{limit} that the "
                "graph looks at; export it with a higher --conf, or with another --output than nms"
            )
        if self.failures and len(self._inputs) > 1:
            print_err(f"error: {self.failures} of {len(self._inputs)} images failed")
        if self._stdout_error is not None:
            raise self._stdout_error

    def _show(self, text: str) -> None:
        """Write on stdout. If that takes nothing, the run goes on as long as it writes something else."""
        if self._stdout_error is not None:
            return
        try:
            print_text(text)
        except (ReaderGone, OutputError) as error:
            if self._json_path is None and self._annotated is None:
                raise
            self._stdout_error = error

    def _json(self) -> JsonFile | JsonStream | None:
        if self._json_path is None:
            return None
        if is_dash(self._json_path):
            return JsonStream(print_bytes)
        return open_json(self._json_path, overwrite=self._overwrite)

    def _table(self) -> ImagesTable | None:
        if len(self._inputs) == 1 or not self._prints:
            return None
        if sys.stdout.isatty() or len(self._inputs) <= MAX_ROWS:
            return ImagesTable(self._show, limit=MAX_ROWS)
        width = max(display_width(visible(str(path))) for path in self._inputs)
        return ImagesTable(self._show, limit=None, names_width=width)

    def _entry(self, outcome: Outcome) -> Entry:
        image = str(self._inputs[outcome.index])
        if outcome.error is not None:
            return Entry(image, None, outcome.error)
        found = outcome.unwrap()
        if self._annotated is None or outcome.image is None:
            return Entry(image, found)
        try:
            return Entry(image, found, annotated=self._annotated.write(outcome.index, found, outcome.image))
        except YoloshipError as error:
            return Entry(image, found, error)

    def _take(self, entry: Entry, sinks: Sequence[Sink]) -> None:
        for sink in sinks:
            sink.write(entry)
        if entry.found is not None:
            self._read += 1
            self._incomplete += not entry.found.complete
            if len(self._inputs) == 1 and self._prints:
                limit = MAX_ROWS if sys.stdout.isatty() else None
                self._show(detections_table(entry.found, entry.image, limit))
        self._last = entry.annotated or self._last
        if entry.error is None:
            return
        if isinstance(entry.error, OutputError) and is_disk_full(entry.error):
            raise entry.error
        self.failures += 1
        print_err(f"error: {entry.error}")
