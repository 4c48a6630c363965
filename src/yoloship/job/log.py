"""The log of a run: which frames are done, so that another run of the same command goes on after them.

The log is a file of JSON lines beside the outputs. The first line says what the run is: the model, the options, the
outputs. Each line after it is written when the outputs of its frames are safe on the disk, and has for each output the
place at which the next frame begins. A line that was cut, and everything after it, does not count: the outputs are then
cut at the places of the last line that counts, and the frames after it are done again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from yoloship._util.closing import Closing
from yoloship._util.fields import is_int
from yoloship._util.writing import held, sync_folder, writing_errors
from yoloship._version import __version__
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

FORMAT: Final = 1
"""The version of this format. Logs of other versions are refused."""
SUFFIX: Final = ".resume"
MAX_LINE_BYTES: Final = 16 << 20
MAX_FRAMES: Final = 50_000_000
_MOST: Final = 1 << 62
"""Of a count, and of a place in a file."""
_LEAVE: Final = "give the same command, or remove the log and the outputs to start over"


@dataclass(frozen=True, slots=True)
class Facts:
    """What must be the same in all runs that share a log.

    Attributes:
        model_sha256: The SHA-256 of the model's file.
        options: Option of the command line → its value, as JSON has it; only what is given, and may change an answer.
        outputs: Name of a sink → its file or folder, relative to the folder of the log.
        version: The version of yoloship that began.
    """

    model_sha256: str
    options: Mapping[str, Any]
    outputs: Mapping[str, str]
    version: str = __version__


@dataclass(slots=True)
class Contents:
    """What a log says.

    Attributes:
        facts: What its runs are; None if the log is empty.
        done: The ids of the frames that are done, in the order of the run, failed ones included.
        failed: How many of them failed.
        marks: Name of a sink → the place at which its next entry begins.
        order: A digest of the ids of all files in the order of the run; empty if they are not known in advance.
        has_ended: Whether all outputs were finished after the last frame.
        length: The bytes that count.
    """

    facts: Facts | None = None
    done: list[str] = field(default_factory=list)
    failed: int = 0
    marks: dict[str, int] = field(default_factory=dict)
    order: str = ""
    has_ended: bool = False
    length: int = 0


class Log(Closing):
    """The log of a run, locked for this process. Make one with `open`.

    Args:
        path: Its name.
        file: The file, open and locked.
        contents: What it says.
    """

    def __init__(self, path: Path, file: IO[bytes], contents: Contents) -> None:
        self.path, self.contents = path, contents
        self._file = file

    @classmethod
    def open(cls, path: Path) -> Log:
        """Read a log, or make an empty one.

        Raises:
            OutputError: another run uses it, or it cannot be opened.
            InputError: the file is not a log, or one of another version.
        """
        file = held(path)
        try:
            return cls(path, file, read_log(file, str(path)))
        except BaseException:
            file.close()
            raise

    def check(self, facts: Facts) -> None:
        """Refuse to go on with another model, other options or other outputs.

        Raises:
            InputError: the message names the first difference.
        """
        if self.contents.facts is not None:
            refuse_others(self.contents.facts, facts, str(self.path))

    def begin(self, facts: Facts, order: str) -> None:
        """Say what the run is, if the log is new, and in which order the files come, if that is new.

        Args:
            facts: What the run is.
            order: The digest of the ids of all files; empty if they are not known in advance.

        Raises:
            OutputError: it cannot be written.
        """
        if self.contents.facts is None:
            self.contents.facts = facts
            self._append(
                {
                    "yoloship_log": FORMAT,
                    "version": facts.version,
                    "model_sha256": facts.model_sha256,
                    "options": dict(facts.options),
                    "outputs": dict(facts.outputs),
                }
            )
            sync_folder(self.path.absolute().parent)
        if order != self.contents.order:
            self.contents.order = order
            self._append({"order": order})

    def add(self, done: Sequence[str], failed: int, marks: Mapping[str, int]) -> None:
        """Say that the outputs of these frames are safe on the disk.

        Raises:
            OutputError: the log cannot be written.
        """
        if done:
            self.contents.has_ended = False
            self._append({"done": list(done), "failed": failed, "marks": dict(marks)})

    def end(self) -> None:
        """Say that all outputs are finished."""
        if not self.contents.has_ended:
            self.contents.has_ended = True
            self._append({"ended": True})

    def close(self) -> None:
        """Unlock the log. One in which nothing was written is removed."""
        if self._file.closed:
            return
        if not self.contents.length:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _append(self, record: Mapping[str, Any]) -> None:
        """Write a line after what counts, at once, and make it safe."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with writing_errors(self.path):
            self._file.truncate(self.contents.length)
            self._file.seek(self.contents.length)
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
            os.fsync(self._file.fileno())
        self.contents.length += len(line)


def read_log(file: IO[bytes], subject: str) -> Contents:
    """Read a log up to the first line that was cut or damaged.

    Args:
        file: The file, at its start.
        subject: Its name, for messages.

    Raises:
        InputError: it does not begin as a log does, is of another version, or names too many frames.
    """
    contents = Contents()
    while line := _line(file):
        record = _parsed(line)
        if contents.facts is None:
            contents.facts = _facts(record, subject)
        elif not _apply(record, contents):
            break
        if len(contents.done) > MAX_FRAMES:
            raise InputError("too many frames in one log", subject=subject, expected=f"at most {MAX_FRAMES:,}")
        contents.length += len(line)
    return contents


def _line(file: IO[bytes]) -> bytes:
    """The next line with its newline. The file is not buffered, so that what is written later comes after it."""
    start = file.tell()
    pieces: list[bytes] = []
    while piece := file.read(1 << 16):
        end = piece.find(b"\n")
        pieces.append(piece if end < 0 else piece[: end + 1])
        if end >= 0 or sum(map(len, pieces)) > MAX_LINE_BYTES:
            break
    line = b"".join(pieces)
    file.seek(start + len(line))
    return line


def _parsed(line: bytes) -> dict[str, Any]:
    """The object in a line; empty if the line is not whole."""
    if not line.endswith(b"\n"):
        return {}
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _facts(record: Mapping[str, Any], subject: str) -> Facts:
    if record.get("yoloship_log") != FORMAT:
        other = record.get("yoloship_log")
        got = f"format {other}" if isinstance(other, int) else None
        raise InputError(
            "is not the log of a run", subject=subject, expected=f"format {FORMAT}", got=got,
            hint="give the outputs another name",
        )  # fmt: skip
    sha256, options, outputs, version = (record.get(key) for key in ("model_sha256", "options", "outputs", "version"))
    if not (
        isinstance(sha256, str)
        and isinstance(version, str)
        and isinstance(options, dict)
        and isinstance(outputs, dict)
        and all(isinstance(place, str) for place in outputs.values())
    ):
        raise InputError("is damaged in its first line", subject=subject, hint=_LEAVE)
    return Facts(sha256, options, outputs, version)


def _apply(record: Mapping[str, Any], contents: Contents) -> bool:
    """Add what one line says; False if it says nothing that a log can say."""
    if record.get("ended") is True:
        contents.has_ended = True
        return True
    if isinstance(order := record.get("order"), str):
        contents.order = order
        return True
    done, failed, marks = record.get("done"), record.get("failed"), record.get("marks")
    if not (
        isinstance(done, list)
        and all(isinstance(one, str) for one in done)
        and is_int(failed, 0, _MOST)
        and isinstance(marks, dict)
        and all(is_int(mark, 0, _MOST) for mark in marks.values())
    ):
        return False
    contents.done += done
    contents.failed += failed
    contents.marks = marks
    contents.has_ended = False
    return True


def refuse_others(before: Facts, now: Facts, subject: str, hint: str = _LEAVE) -> None:
    """Refuse to go on with another model, other options or other outputs.

    Args:
        before: What the run was when it was begun.
        now: What it would be.
        subject: Where that is written, for messages.
        hint: What the user can do.

    Raises:
        InputError: the message names the first difference.
    """
    if before.model_sha256 != now.model_sha256:
        raise InputError(
            "the run was started with another model", subject=subject, expected=f"SHA-256 {before.model_sha256[:12]}…",
            got=f"{now.model_sha256[:12]}…", hint=hint,
        )  # fmt: skip
    pairs = (("output", before.outputs, now.outputs), ("option", before.options, now.options))
    for kind, then, given in pairs:
        for name in sorted({*then, *given}):
            if then.get(name) != given.get(name):
                raise InputError(
                    f"the run was started with another {kind}", subject=subject, expected=_said(name, then),
                    got=_said(name, given), hint=hint,
                )  # fmt: skip


def _said(name: str, values: Mapping[str, Any]) -> str:
    """``--conf 0.4``, or ``no --conf``."""
    if name not in values:
        return f"no {name}"
    value = values[name]
    return name if value is True else f"{name} {value if isinstance(value, str) else json.dumps(value)}"


def digest(names: Iterable[str]) -> str:
    """A digest of names and their order."""
    import hashlib

    made = hashlib.sha256()
    for name in names:
        made.update(os.fsencode(name) + b"\0")
    return made.hexdigest()
