"""The instructions that make plain values, and reading their arguments within limits."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from yoloship.checkpoint.drafts import Draft, OddKey
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from mmap import mmap

    from yoloship.checkpoint.limits import Limits

_PLAIN_KEYS = frozenset({int, float, bool, type(None), bytes})
_MEMO_SIZE = 1 << 32
_BINFLOAT = struct.Struct(">d")


class Stream:
    """A position in the bytes, and a count of how much has been read from them.

    Args:
        data: The file, or the pickle alone.
        start: Where the stream begins.
        limits: How much it may ask for.
        subject: The file's name, for messages.

    Attributes:
        position: The next byte.
        at: The position of the current instruction, for messages.
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
        """An error that names the position in the stream."""
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
            CheckpointError: there are fewer bytes left.
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
        start = self.position  # does not call `take`, because half of all instructions come here
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
        """UTF-8 text. Lone surrogates, which file names of another machine may hold, become U+FFFD."""
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
        """The text of a line of protocol 0, which writes characters outside Latin-1 as Unicode escapes."""
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


class PlainMachine(Stream):
    """A stack, a memo, and one method for each instruction that needs nothing else.

    Args:
        data: The file, or the pickle alone.
        start: Where the stream begins.
        limits: How much it may ask for.
        subject: The file's name, for messages.
    """

    def __init__(self, data: bytes | mmap, start: int, limits: Limits, subject: str) -> None:
        super().__init__(data, start, limits, subject)
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._copied = 0
        self._plain_keys = 0

    # Used by constructors.

    def charge(self, items: int) -> None:
        """Count a copy before it is made."""
        self._copied += items
        if self._copied > self.limits.copied_items:
            raise self.refuse(f"pickle that copies more than {self.limits.copied_items} items")

    def as_key(self, key: object) -> object:
        """The stand-in for a dictionary key or set member: the value itself if it is plain, else an `OddKey`."""
        if isinstance(key, str | bytes) and len(key) > self.limits.key_chars:
            raise self.refuse(f"dictionary key of more than {self.limits.key_chars} characters")
        if type(key) is str:
            return key
        if type(key) not in _PLAIN_KEYS:
            return OddKey(key)
        # Integers of more than 64 bits can share a hash, and a table of such keys would take quadratic time.
        if isinstance(key, int) and not -(1 << 63) <= key < 1 << 64:
            raise self.refuse("dictionary key of more than 64 bits")
        self._plain_keys += 1
        if self._plain_keys > self.limits.plain_keys:
            raise self.refuse(f"more than {self.limits.plain_keys} dictionary keys that are not strings")
        return key

    # The stack.

    def _pop(self) -> object:
        if not self._stack:
            raise self.refuse("pickle that takes more than there is")
        return self._stack.pop()

    def _top(self) -> object:
        if not self._stack:
            raise self.refuse("pickle that takes more than there is")
        return self._stack[-1]

    def _pop_mark(self) -> list[object]:
        if not self._marks:
            raise self.refuse("pickle without the mark that it goes back to")
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _op_mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _op_pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _op_pop_mark(self) -> None:
        self._pop_mark()

    def _op_dup(self) -> None:
        self._stack.append(self._top())

    # The memo.

    def _put(self, index: int) -> None:
        if not 0 <= index < _MEMO_SIZE:
            raise self.refuse("memo entry of an impossible index")
        self._memo[index] = self._top()

    def _get(self, index: int) -> None:
        try:
            value = self._memo[index]
        except KeyError:
            raise self.refuse(f"memo entry {index} that was never written") from None
        self._stack.append(value)

    def _op_put(self) -> None:
        self._put(self.decimal(self.ascii_line()))

    def _op_binput(self) -> None:
        self._put(self.byte())

    def _op_long_binput(self) -> None:
        self._put(self.number(4))

    def _op_memoize(self) -> None:
        self._put(len(self._memo))

    def _op_get(self) -> None:
        self._get(self.decimal(self.ascii_line()))

    def _op_binget(self) -> None:
        self._get(self.byte())

    def _op_long_binget(self) -> None:
        self._get(self.number(4))

    # Plain values.

    def _op_none(self) -> None:
        self._stack.append(None)

    def _op_true(self) -> None:
        self._stack.append(True)

    def _op_false(self) -> None:
        self._stack.append(False)

    def _op_binint(self) -> None:
        self._stack.append(int.from_bytes(self.take(4), "little", signed=True))

    def _op_binint1(self) -> None:
        self._stack.append(self.byte())

    def _op_binint2(self) -> None:
        self._stack.append(self.number(2))

    def _op_long1(self) -> None:
        self._stack.append(self.integer(self.byte()))

    def _op_long4(self) -> None:
        self._stack.append(self.integer(self.number(4)))

    def _op_int(self) -> None:
        line = self.ascii_line()
        self._stack.append(line == "01" if line in ("00", "01") else self.decimal(line))

    def _op_long(self) -> None:
        self._stack.append(self.decimal(self.ascii_line().removesuffix("L")))

    def _op_float(self) -> None:
        line = self.ascii_line()
        try:
            self._stack.append(float(line))
        except ValueError:
            raise self.refuse("line that is not a number") from None

    def _op_binfloat(self) -> None:
        self._stack.append(_BINFLOAT.unpack(self.take(8))[0])

    def _op_string(self) -> None:
        line = self.ascii_line()
        if len(line) < 2 or line[0] not in "'\"" or line[-1] != line[0] or "\\" in line:
            raise self.refuse("quoted line that is not a plain string")
        self._stack.append(line[1:-1])

    def _op_unicode(self) -> None:
        self._stack.append(self.escaped(self.line()))

    def _op_binunicode(self) -> None:
        self._stack.append(self.text(self.number(4)))

    def _op_short_binunicode(self) -> None:
        self._stack.append(self.text(self.byte()))

    def _op_binunicode8(self) -> None:
        self._stack.append(self.text(self.number(8)))

    def _op_binstring(self) -> None:
        self._stack.append(self.string(self.number(4)).decode("latin-1"))

    def _op_short_binstring(self) -> None:
        self._stack.append(self.string(self.byte()).decode("latin-1"))

    def _op_binbytes(self) -> None:
        self._stack.append(self.string(self.number(4)))

    def _op_short_binbytes(self) -> None:
        self._stack.append(self.string(self.byte()))

    def _op_binbytes8(self) -> None:
        self._stack.append(self.string(self.number(8)))

    # Containers.

    def _op_empty_tuple(self) -> None:
        self._stack.append(())

    def _op_tuple1(self) -> None:
        self._stack.append((self._pop(),))

    def _op_tuple2(self) -> None:
        second = self._pop()
        self._stack.append((self._pop(), second))

    def _op_tuple3(self) -> None:
        third = self._pop()
        second = self._pop()
        self._stack.append((self._pop(), second, third))

    def _op_tuple(self) -> None:
        items = tuple(self._pop_mark())
        self._stack.append(items)

    def _op_empty_list(self) -> None:
        self._stack.append([])

    def _op_list(self) -> None:
        items = self._pop_mark()
        self._stack.append(items)

    def _op_append(self) -> None:
        self._extend([self._pop()])

    def _op_appends(self) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[object]) -> None:
        target = self._top()
        if isinstance(target, Draft):
            target.odd = "was given items"  # a class that derives from list; the items are dropped
        elif type(target) is list:
            target.extend(items)
        else:
            raise self.refuse("items for something that is not a list")

    def _op_empty_dict(self) -> None:
        self._stack.append({})

    def _op_dict(self) -> None:
        items = self._pop_mark()
        self._stack.append({})
        self._update(items)

    def _op_setitem(self) -> None:
        value = self._pop()
        self._update([self._pop(), value])

    def _op_setitems(self) -> None:
        self._update(self._pop_mark())

    def _update(self, items: list[object]) -> None:
        target = self._top()
        if len(items) % 2:
            raise self.refuse("key without a value")
        if isinstance(target, Draft):
            target.odd = "was given keys"  # a class that derives from dict; the entries are dropped
        elif type(target) is dict:
            for index in range(0, len(items), 2):
                target[self.as_key(items[index])] = items[index + 1]
        else:
            raise self.refuse("keys for something that is not a dictionary")

    def _op_empty_set(self) -> None:
        self._stack.append(set())

    def _op_additems(self) -> None:
        items = self._pop_mark()
        target = self._top()
        if isinstance(target, Draft):
            target.odd = "was given members"
        elif type(target) is set:
            target.update(map(self.as_key, items))
        else:
            raise self.refuse("members for something that is not a set")

    def _op_frozenset(self) -> None:
        items = self._pop_mark()
        self._stack.append(frozenset(map(self.as_key, items)))
