"""Runs a batch: what is left of it, part by part, and the proof at its end that all of it is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yoloship._util.threads import in_threads
from yoloship.batch.listing import missing_names
from yoloship.batch.manifest import (
    NAME,
    Manifest,
    begin,
    check_same,
    read_manifest,
    read_names,
    unlike,
)
from yoloship.batch.parts import MAX_PART_BYTES, Counts, counts_of
from yoloship.batch.worker import Part
from yoloship.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from yoloship.batch.folder import Folder

_READERS: Final = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that is begun or goes on.

    Attributes:
        folder: Where its parts are.
        manifest: What it is.
        names: Its images, in order.
        done: The numbers of the parts that are there.
    """

    folder: Folder
    manifest: Manifest
    names: Sequence[str]
    done: frozenset[int] = frozenset()

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do, and its manifest says so."""
        return bool(self.manifest.ended) and len(self.done) == len(self.manifest.parts)

    def left(self) -> list[int]:
        """The numbers of the parts that are missing."""
        return [number for number in range(len(self.manifest.parts)) if number not in self.done]

    def part(self, number: int) -> Part:
        """A part with its images."""
        first = self.manifest.parts.first(number)
        return Part(number, self.names[first : first + self.manifest.parts.count(number)])

    def counts_before(self) -> Counts:
        """What is in the parts that were there.

        Raises:
            OutputError: one of them is damaged.
        """
        return self._counts(sorted(self.done))

    def finish(self, written: Counts) -> Counts:
        """See that all parts are there, and say so in the manifest.

        Args:
            written: What is in all parts, as it was counted.

        Raises:
            OutputError: a part is missing, or the numbers do not agree.
        """
        parts = self.manifest.parts
        there, _ = unlike(self.folder, parts)
        missing = [number for number in range(len(parts)) if number not in there]
        if missing:
            raise OutputError(
                f"{len(missing)} of {len(parts)} parts are missing, such as {parts.name(missing[0])}",
                subject=self.folder.subject, hint="something removed them: --resume writes them again",
            )  # fmt: skip
        if written.images != parts.images:
            raise OutputError("does not have the images of the batch", subject=self.folder.subject,
                              expected=f"{parts.images} images", got=str(written.images))  # fmt: skip
        ranked = dict(sorted(written.objects.items(), key=lambda item: (-item[1], item[0])))
        whole = Counts(written.images, written.failed, ranked)  # the same in whatever order the parts were done
        self.folder.write(NAME, self.manifest.finished(whole).to_json())
        return whole

    def _counts(self, numbers: Sequence[int]) -> Counts:
        parts, total = self.manifest.parts, Counts()

        def read(number: int) -> Counts:
            name = parts.name(number)
            subject = self.folder.name_of(name)
            data = self.folder.read(name, MAX_PART_BYTES)
            counts = counts_of(data or b"", parts.form, subject)
            if counts.images != parts.count(number):
                raise OutputError(
                    "is not a part of this batch, or is damaged", subject=subject,
                    expected=f"{parts.count(number)} images", got=str(counts.images),
                    hint="remove it; --resume writes it again",
                )  # fmt: skip
            return counts

        for counts in in_threads(numbers, read, threads=_READERS, ahead=2 * _READERS):
            total.merge(counts)
        return total


def open_batch(
    folder: Folder, wanted: Manifest, names: Sequence[str], *, resume: bool, say: Callable[[str], None]
) -> Batch:
    """Go on with the batch in a folder, or prepare a new one, of which nothing is written yet.

    Args:
        folder: Where the parts go.
        wanted: What the batch is by this command.
        names: The images that the command names now.
        resume: Whether a batch that is there may be continued.
        say: Gets a line for the user.

    Raises:
        InputError: the folder has something else, another batch, or one that may not be continued.
        OutputError: the folder cannot be read.
    """
    before = read_manifest(folder)
    done: set[int] = set()
    if before is not None:
        done, others = unlike(folder, before.parts)
        if others:
            raise InputError("has files that do not belong to this batch", subject=folder.subject,
                             got=", ".join(others[:3])[:200], hint="move them, or give a new folder")  # fmt: skip
    if before is None or not done:
        return Batch(folder, wanted, names)
    if not resume:
        state = f"a batch of {before.parts.images} images, " + (
            "which has ended" if before.ended else f"{len(done)} of {len(before.parts)} parts done"
        )
        raise InputError("holds a batch", subject=folder.subject, got=state,
                         hint="give a new folder, or --resume to continue it")  # fmt: skip
    check_same(before, wanted, folder)
    known = read_names(folder, before)
    if difference := missing_names(known, names):
        say(f"images were added or removed since the batch was started ({difference}): it keeps its original images")
    return Batch(folder, before, known, frozenset(done))


def start(batch: Batch) -> None:
    """Write the manifest, without an end; for a batch that is new, the list of its images first.

    Raises:
        OutputError: they cannot be written.
    """
    if batch.done:
        batch.folder.write(NAME, batch.manifest.to_json())
    else:
        batch.folder.make()
        begin(batch.folder, batch.manifest, batch.names)


def parts_left(batch: Batch) -> Iterator[Part]:
    """The parts that are missing, in order."""
    return (batch.part(number) for number in batch.left())
