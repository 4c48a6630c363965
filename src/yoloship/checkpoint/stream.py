"""The arguments of a pickle's instructions, read off its bytes under limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from mmap import mmap

    from yoloship.checkpoint.limits import Limits


class Stream:
    """A position in the bytes, and an account of what has been taken from them.

    Args:
        data: The file, or the pickle alone.
        start: Where the stream begins.
        limits: What it may ask for.
        subject: The file's name, for messages.

    Attributes:
        position: The next byte.
        at: Where the present instruction stands, for messages.
    """

    def __init__(self, data: bytes | mmap, start: int, limits: Limits, subject: str) -> None:
        self.data = data
        self.position = start
        self.at = start
        self.limits = limits
        self.subject = subject
        self.file_end = len(data)
        self.end = min(self.file_end, start + limits.pickle_bytes)
        self._string_bytes = 0

    def refuse(self, problem: str) -> CheckpointError:
        """An error that says where in the stream."""
        return CheckpointError(f"{problem} at byte {self.at}", subject=self.subject, hint="nothing was executed")

    def cut_short(self) -> CheckpointError:
        """The error for bytes that end too early, or too late."""
        if self.end < self.file_end:
            return self.refuse(f"pickle of more than {self.limits.pickle_bytes} bytes")
        return CheckpointError(
            f"pickle ends at byte {self.end} without its end mark",
            subject=self.subject,
            hint="the file is cut short or damaged; copy or download it again",
        )

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            CheckpointError: there are not so many.
        """
        start = self.position
        stop = start + count
        if stop > self.end:
            raise self.cut_short()
        self.position = stop
        return self.data[start:stop]

    def byte(self) -> int:
        """The next byte."""
        at = self.position
        if at >= self.end:
            raise self.cut_short()
        self.position = at + 1
        return self.data[at]

    def number(self, count: int) -> int:
        """The next bytes as an unsigned integer."""
        start = self.position  # spelt out rather than taken: half of all instructions come here
        stop = start + count
        if stop > self.end:
            raise self.cut_short()
        self.position = stop
        return int.from_bytes(self.data[start:stop], "little")

    def integer(self, count: int) -> int:
        """The next bytes as a signed integer."""
        if count > self.limits.integer_bytes:
            raise self.refuse(f"integer of {count} bytes is over the limit of {self.limits.integer_bytes}")
        return int.from_bytes(self.take(count), "little", signed=True)

    def string(self, count: int) -> bytes:
        """The next bytes as a string, which counts towards the limits on strings."""
        if count > self.limits.string_bytes:
            raise self.refuse(f"string of {count} bytes is over the limit of {self.limits.string_bytes}")
        self._string_bytes += count
        if self._string_bytes > self.limits.text_bytes:
            raise self.refuse(f"strings of more than {self.limits.text_bytes} bytes together")
        return self.take(count)

    def text(self, count: int) -> str:
        """The next bytes as UTF-8 text."""
        return self.decode(self.string(count))

    def decode(self, data: bytes) -> str:
        """UTF-8 text; lone surrogates, which file names of another machine may hold, become U+FFFD."""
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            pass
        try:
            return data.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        except UnicodeDecodeError:
            raise self.refuse("text that is not UTF-8") from None

    def line(self) -> bytes:
        """The bytes up to the next line feed, without it."""
        start = self.position
        longest = min(self.end, start + self.limits.line_bytes)
        stop = self.data.find(b"\n", start, longest)
        if stop < 0:
            raise (
                self.cut_short()
                if longest == self.end
                else self.refuse(f"line of more than {self.limits.line_bytes} bytes")
            )
        self.position = stop + 1
        return self.data[start:stop]

    def escaped(self, line: bytes) -> str:
        """The text of a line of protocol 0, which writes what Latin-1 does not have as escapes of Unicode."""
        try:
            text = line.decode("raw-unicode-escape")
        except UnicodeDecodeError:
            raise self.refuse("line with a broken escape") from None
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def ascii_line(self) -> str:
        """The next line as ASCII text."""
        line = self.line()
        if not line.isascii():
            raise self.refuse("line that is not ASCII")
        return line.decode("ascii")

    def decimal(self, text: str) -> int:
        """A line's text as an integer."""
        digits = text.removeprefix("-")
        if not digits.isdecimal() or len(digits) > 2 * self.limits.integer_bytes:
            raise self.refuse("line that is not an integer")
        return int(text)
