"""The instructions that make plain values: numbers, texts, containers, and the stack and memo that they use."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from yoloship.checkpoint.drafts import Draft, OddKey
from yoloship.checkpoint.stream import Stream

if TYPE_CHECKING:
    from mmap import mmap

    from yoloship.checkpoint.limits import Limits

_PLAIN_KEYS = frozenset({int, float, bool, type(None), bytes})
_MEMO_SIZE = 1 << 32
_BINFLOAT = struct.Struct(">d")


class PlainMachine(Stream):
    """A stack, a memo, and one method for each instruction that needs nothing else.

    Args:
        data: The file, or the pickle alone.
        start: Where the stream begins.
        limits: What it may ask for.
        subject: The file's name, for messages.
    """

    def __init__(self, data: bytes | mmap, start: int, limits: Limits, subject: str) -> None:
        super().__init__(data, start, limits, subject)
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._copied = 0
        self._plain_keys = 0

    # What constructors ask for.

    def charge(self, items: int) -> None:
        """Account for a copy before it is made."""
        self._copied += items
        if self._copied > self.limits.copied_items:
            raise self.refuse(f"pickle that copies more than {self.limits.copied_items} items")

    def as_key(self, key: object) -> object:
        """What stands for a dictionary key or set member: the value itself if it is plain, else an `OddKey`."""
        if isinstance(key, str | bytes) and len(key) > self.limits.key_chars:
            raise self.refuse(f"dictionary key of more than {self.limits.key_chars} characters")
        if type(key) is str:
            return key
        if type(key) not in _PLAIN_KEYS:
            return OddKey(key)
        # Beyond 64 bits integers repeat their hash, and a table of such keys would take quadratic time.
        if isinstance(key, int) and not -(1 << 63) <= key < 1 << 64:
            raise self.refuse("dictionary key of more than 64 bits")
        self._plain_keys += 1
        if self._plain_keys > self.limits.plain_keys:
            raise self.refuse(f"more than {self.limits.plain_keys} dictionary keys that are no strings")
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
