"""One run of a model over a source: every outcome goes to the sinks, and is counted."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from yoloship._util.writing import is_disk_full
from yoloship.errors import InputError, OutputError, YoloshipError
from yoloship.sinks.sink import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from yoloship.detect.stream import Outcome
    from yoloship.job.ledger import Ledger
    from yoloship.results import Result
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
        objects: How often each class was found, by its name; a classified image counts for its most probable class.
        noun: What the results call their answers, in the singular and in the plural.
    """

    seen: int = 0
    read: int = 0
    failures: int = 0
    incomplete: int = 0
    objects: dict[str, int] = field(default_factory=dict)
    noun: tuple[str, str] = ("object", "objects")

    def count_objects(self, result: Result) -> None:
        """Add the objects of one image."""
        self.noun = result.noun
        for name, number in result.counts().items():
            self.objects[name] = self.objects.get(name, 0) + number


@dataclass(eq=False)
class Run:
    """Draws the outcomes of a stream, gives them to the sinks, and counts them.

    Attributes:
        sinks: Name of a sink → makes it when the run begins; the run closes it.
        annotated: Draws the results and writes the images; None draws nothing.
        takers: Get each entry after the sinks, unless it ends the run.
        is_long: Whether there may be many images: their objects are counted, and signals wait for what is being
            written.
        ledger: Notes what is done, for `--resume`; None notes nothing.
        tally: What was done so far.
        names: Gives each entry the stem of its files; None leaves them without.
        opened: The sinks by their names, as far as they were made.
    """

    sinks: Mapping[str, Callable[[], Sink]]
    annotated: AnnotatedImages | None = None
    takers: Sequence[Taker] = ()
    is_long: bool = True
    ledger: Ledger | None = None
    names: RunNames | None = None
    tally: Tally = field(default_factory=Tally)
    opened: dict[str, Sink] = field(default_factory=dict)

    def write(self, outcomes: Iterator[Outcome]) -> None:
        """Write all results. Even after an error, what was written stays and is complete in itself.

        Raises:
            OutputError: a sink cannot write, or the disk is full. Other errors concern one image; they are in its entry
                and counted.
        """
        with ExitStack() as stack:
            hand_out: Callable[[Outcome], None] = self._hand_out
            if self.is_long:
                from yoloship.job.interrupts import Interrupts

                hand_out = stack.enter_context(Interrupts()).holding(self._hand_out)
            if self.annotated is not None and self.is_long:  # a single image is whole already
                stack.enter_context(self.annotated)
            for name, make in self.sinks.items():
                self.opened[name] = stack.enter_context(make())
            if self.ledger is not None:
                if self.names is not None:
                    self.ledger.give_names(self.names)
                stack.enter_context(self.ledger.noting(self._noted()))
            stack.enter_context(closing(outcomes))  # type: ignore[type-var]  # it is a generator
            for outcome in outcomes:
                hand_out(outcome)
        if self.ledger is not None:
            self.ledger.end()

    def _noted(self) -> Mapping[str, Sink]:
        """The sinks whose outputs the log is about."""
        return self.opened if self.annotated is None else {**self.opened, "images": self.annotated}

    def _hand_out(self, outcome: Outcome) -> None:
        """Draw one outcome, give it to whatever takes entries, and count it.

        Raises:
            OutputError: a sink cannot write, or the disk is full.
        """
        assert outcome.frame is not None  # the run streams a source
        name, index = outcome.frame.name, outcome.index
        if outcome.error is not None and not isinstance(outcome.frame.image, os.PathLike):
            outcome.error.subject = name  # the code that decodes bytes or takes an array does not know the image's name
        if self.ledger is not None:
            if self.annotated is not None and outcome.frame.stream is not None:
                raise InputError(
                    "cannot be drawn in a run with --resume, because an annotated video cannot be continued",
                    subject=outcome.frame.stream.name, hint="give --no-draw",
                )  # fmt: skip
            index = self.ledger.begin_entry(index)
        stem = None if self.names is None else self.names.stem(name, outcome.frame)
        scene = getattr(outcome, "scene", None)  # a `TrackedOutcome` has it, whose module others do not load
        entry = Entry(name, outcome.result, outcome.error, None, index, outcome.image, outcome.frame, stem, scene)
        if self.annotated is not None:
            try:
                entry = replace(entry, annotated=self.annotated.draw(entry))
            except YoloshipError as failure:
                entry = replace(entry, error=failure)
        error = entry.error
        for sink in self.opened.values():
            sink.write(entry)
        tally = self.tally
        tally.seen += 1
        if entry.result is not None:
            tally.read += 1
            tally.incomplete += not entry.result.complete
            if self.is_long:
                tally.count_objects(entry.result)
        fatal = error if error is not None and self._is_fatal(error) else None
        tally.failures += error is not fatal
        if fatal is not None:
            raise fatal
        for taker in self.takers:
            taker.write(entry)
        if self.ledger is not None:
            self.ledger.write(entry, self._noted())

    def _is_fatal(self, error: YoloshipError) -> bool:
        """Whether every other image will fail too: the disk is full, or the folder for images cannot be had."""
        has_no_folder = self.annotated is not None and self.annotated.folder is None
        return is_disk_full(error) or (isinstance(error, OutputError) and has_no_folder)
