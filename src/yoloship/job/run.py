"""One run of a model over a source: every outcome goes to the sinks, and is counted."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from yoloship._util.writing import is_disk_full
from yoloship.errors import YoloshipError
from yoloship.sinks.sink import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from yoloship.detect.stream import Outcome
    from yoloship.sinks import AnnotatedImages, Sink
    from yoloship.sinks.naming import RunNames


class Taker(Protocol):
    """Whatever looks at the entries of a run, in their order: a sink, a table, a progress bar."""

    def write(self, entry: Entry) -> None:
        """Take the next entry."""


@dataclass(slots=True)
class Tally:
    """What a run did so far.

    Attributes:
        seen: Images that came, failed ones included.
        read: Images with a result.
        failures: Images that could not be read or run, or whose annotated image could not be written.
        incomplete: Images in which boxes may be missing, because the graph has looked at too few candidates.
    """

    seen: int = 0
    read: int = 0
    failures: int = 0
    incomplete: int = 0


@dataclass(eq=False)
class Run:
    """Draws the outcomes of a stream, gives them to the sinks, and counts them.

    Attributes:
        sinks: Each makes a sink when the run begins; the run closes it.
        annotated: Draws the results and writes the images; None draws nothing.
        takers: Get each entry after the sinks, unless a sink failed.
        tally: What was done so far.
        opened: The sinks in the order of `sinks`, as far as they were made.
        names: Gives each entry the stem of its files; None leaves them without.
    """

    sinks: Sequence[Callable[[], Sink]]
    annotated: AnnotatedImages | None = None
    takers: Sequence[Taker] = ()
    tally: Tally = field(default_factory=Tally)
    opened: list[Sink] = field(default_factory=list)
    names: RunNames | None = None

    def write(self, outcomes: Iterator[Outcome]) -> None:
        """Write all results. Even after an error, what was written stays and is complete in itself.

        Raises:
            OutputError: a sink cannot write, or the disk is full. Other errors concern one image; they are in its entry
                and counted.
        """
        with ExitStack() as stack:
            for make in self.sinks:
                self.opened.append(stack.enter_context(make()))
            stack.enter_context(closing(outcomes))  # type: ignore[type-var]  # it is a generator
            for outcome in outcomes:
                self._hand_out(outcome)

    def _hand_out(self, outcome: Outcome) -> None:
        """Draw one outcome, give it to whatever takes entries, and count it.

        Raises:
            OutputError: a sink cannot write, or the disk is full.
        """
        assert outcome.frame is not None  # the run streams a source
        name = outcome.frame.name
        if outcome.error is not None and not isinstance(outcome.frame.image, os.PathLike):
            outcome.error.subject = name  # the code that decodes bytes or takes an array does not know the image's name
        stem = None if self.names is None else self.names.stem(name, outcome.frame)
        error, annotated = outcome.error, None
        if self.annotated is not None and outcome.result is not None and outcome.image is not None:
            try:
                annotated = self.annotated.draw(outcome.index, outcome.result, outcome.image, stem)
            except YoloshipError as failure:
                error = failure
        entry = Entry(name, outcome.result, error, annotated, outcome.index, outcome.image, outcome.frame, stem)
        for sink in self.opened:
            sink.write(entry)
        tally = self.tally
        tally.seen += 1
        if entry.result is not None:
            tally.read += 1
            tally.incomplete += not entry.result.complete
        fatal = error if error is not None and is_disk_full(error) else None
        tally.failures += error is not fatal
        for taker in self.takers:
            taker.write(entry)
        if fatal is not None:
            raise fatal
