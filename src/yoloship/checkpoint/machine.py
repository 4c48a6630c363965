"""The opcode interpreter: runs a pickle stream without importing or calling anything that the stream names.

Each instruction has one method. An opcode without one (extensions, out-of-band buffers, whatever a later protocol adds)
is refused. Whatever the bytes, `Machine.run` returns inert values or raises CheckpointError.

Source of the instruction set: the opcode table in the documentation of CPython's ``pickletools``, protocols 0 to 5.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from yoloship.checkpoint import allowed
from yoloship.checkpoint.arrays import build_array, build_dtype
from yoloship.checkpoint.drafts import ArrayDraft, Draft, DTypeDraft, Global
from yoloship.checkpoint.records import Tensor
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    from yoloship.checkpoint.drafts import Context
    from yoloship.checkpoint.limits import Limits

_PLAIN_KEYS = frozenset({int, float, bool, type(None), bytes})
_PROTOCOL = 5
_BINFLOAT = struct.Struct(">d")


class Machine:
    """Interprets one pickle stream. It satisfies `yoloship.checkpoint.drafts.Context`.

    Args:
        data: The file, or the pickle alone.
        start: Where the stream begins.
        end: Where it must have ended.
        limits: What it may ask for.
        subject: The file's name, for messages.
        find_storage: Answers a persistent id; it gets this machine and the id.
    """

    def __init__(  # noqa: PLR0913 - where, how much, for whom: each is one fact
        self,
        data: bytes | mmap,
        *,
        start: int,
        end: int,
        limits: Limits,
        subject: str,
        find_storage: Callable[[Context, object], object] | None = None,
    ) -> None:
        self.limits = limits
        self.position = start
        self._data = data
        self._end = end
        self._subject = subject
        self._find_storage = find_storage
        self._at = start
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._text_bytes = 0
        self._copied = 0
        self._plain_keys = 0

    def run(self) -> object:
        """Interpret the stream up to its STOP; `position` is then the first byte behind it.

        Returns:
            Plain values, drafts and tensors, possibly with cycles among them.

        Raises:
            CheckpointError: the stream is damaged, asks for too much, or names what is not in the allow-table.
        """
        data = self._data
        end = min(self._end, self.position + self.limits.pickle_bytes)
        handlers = [getattr(self, name, None) if name else None for name in _METHODS]
        for _ in range(self.limits.opcodes):
            at = self.position
            if at >= end:
                raise self._cut_short(end)
            opcode = data[at]
            self._at = at
            self.position = at + 1
            if opcode == _STOP:
                return self._pop()
            handler = handlers[opcode]
            if handler is None:
                raise self.refuse(f"pickle instruction 0x{opcode:02x} is not admitted")
            handler()
        raise self.refuse(f"pickle of more than {self.limits.opcodes} instructions")

    # What constructors ask for.

    def refuse(self, problem: str) -> CheckpointError:
        return CheckpointError(f"{problem} at byte {self._at}", subject=self._subject, hint="nothing was executed")

    def charge(self, items: int) -> None:
        self._copied += items
        if self._copied > self.limits.copied_items:
            raise self.refuse(f"pickle that copies more than {self.limits.copied_items} items")

    def check_key(self, key: object) -> None:
        kind = type(key)
        if kind is str:
            return
        if kind not in _PLAIN_KEYS:
            raise self.refuse("dictionary key or set member that is no plain value")
        # Beyond 64 bits integers repeat their hash, so a table of them would take quadratic time.
        if kind is int and not -(1 << 63) <= int(str(key)) < 1 << 64:
            raise self.refuse("dictionary key of more than 64 bits")
        self._plain_keys += 1
        if self._plain_keys > self.limits.plain_keys:
            raise self.refuse(f"more than {self.limits.plain_keys} dictionary keys that are no strings")

    # Reading arguments.

    def _cut_short(self, end: int) -> CheckpointError:
        if end < self._end:
            return self.refuse(f"pickle of more than {self.limits.pickle_bytes} bytes")
        return CheckpointError(
            f"pickle ends at byte {end} without its end mark",
            subject=self._subject,
            hint="the file is cut short or damaged; copy or download it again",
        )

    def _take(self, count: int) -> bytes:
        start = self.position
        if count > self._end - start:
            raise self._cut_short(self._end)
        self.position = start + count
        return self._data[start : start + count]

    def _number(self, count: int) -> int:
        return int.from_bytes(self._take(count), "little")

    def _string_bytes(self, count: int) -> bytes:
        if count > self.limits.string_bytes:
            raise self.refuse(f"string of {count} bytes is over the limit of {self.limits.string_bytes}")
        self._text_bytes += count
        if self._text_bytes > self.limits.text_bytes:
            raise self.refuse(f"strings of more than {self.limits.text_bytes} bytes together")
        return self._take(count)

    def _line(self) -> bytes:
        start = self.position
        longest = min(self._end, start + self.limits.line_bytes)
        stop = self._data.find(b"\n", start, longest)
        if stop < 0:
            if longest == self._end:
                raise self._cut_short(self._end)
            raise self.refuse(f"line of more than {self.limits.line_bytes} bytes")
        self.position = stop + 1
        return self._data[start:stop]

    def _ascii_line(self) -> str:
        try:
            return self._line().decode("ascii")
        except UnicodeDecodeError:
            raise self.refuse("line that is no ASCII") from None

    def _decimal(self, text: str) -> int:
        digits = text.removeprefix("-")
        if not digits.isdecimal() or len(digits) > 2 * self.limits.integer_bytes:
            raise self.refuse("line that is no integer")
        return int(text)

    def _text(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            pass
        try:  # file names of the training machine may hold lone surrogates, which can be written nowhere
            return data.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        except UnicodeDecodeError:
            raise self.refuse("text that is no UTF-8") from None

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

    def op_mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def op_pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def op_pop_mark(self) -> None:
        self._pop_mark()

    def op_dup(self) -> None:
        self._stack.append(self._top())

    # The memo.

    def _put(self, index: int) -> None:
        self._memo[index] = self._top()

    def _get(self, index: int) -> None:
        try:
            value = self._memo[index]
        except KeyError:
            raise self.refuse(f"memo entry {index} that was never written") from None
        self._stack.append(value)

    def op_put(self) -> None:
        self._put(self._decimal(self._ascii_line()))

    def op_binput(self) -> None:
        self._put(self._number(1))

    def op_long_binput(self) -> None:
        self._put(self._number(4))

    def op_memoize(self) -> None:
        self._put(len(self._memo))

    def op_get(self) -> None:
        self._get(self._decimal(self._ascii_line()))

    def op_binget(self) -> None:
        self._get(self._number(1))

    def op_long_binget(self) -> None:
        self._get(self._number(4))

    # Plain values.

    def op_none(self) -> None:
        self._stack.append(None)

    def op_true(self) -> None:
        self._stack.append(True)

    def op_false(self) -> None:
        self._stack.append(False)

    def op_binint(self) -> None:
        self._stack.append(int.from_bytes(self._take(4), "little", signed=True))

    def op_binint1(self) -> None:
        self._stack.append(self._number(1))

    def op_binint2(self) -> None:
        self._stack.append(self._number(2))

    def _long(self, count: int) -> None:
        if count > self.limits.integer_bytes:
            raise self.refuse(f"integer of {count} bytes is over the limit of {self.limits.integer_bytes}")
        self._stack.append(int.from_bytes(self._take(count), "little", signed=True))

    def op_long1(self) -> None:
        self._long(self._number(1))

    def op_long4(self) -> None:
        self._long(self._number(4))

    def op_int(self) -> None:
        line = self._ascii_line()
        self._stack.append(line == "01" if line in ("00", "01") else self._decimal(line))

    def op_long(self) -> None:
        self._stack.append(self._decimal(self._ascii_line().removesuffix("L")))

    def op_float(self) -> None:
        line = self._ascii_line()
        try:
            self._stack.append(float(line))
        except ValueError:
            raise self.refuse("line that is no number") from None

    def op_binfloat(self) -> None:
        self._stack.append(_BINFLOAT.unpack(self._take(8))[0])

    def op_string(self) -> None:
        line = self._ascii_line()
        if len(line) < 2 or line[0] not in "'\"" or line[-1] != line[0] or "\\" in line:
            raise self.refuse("quoted line that is no plain string")
        self._stack.append(line[1:-1])

    def op_unicode(self) -> None:
        line = self._line()
        if b"\\" in line:
            raise self.refuse("line with escapes")
        self._stack.append(line.decode("latin-1"))

    def op_binunicode(self) -> None:
        self._stack.append(self._text(self._string_bytes(self._number(4))))

    def op_short_binunicode(self) -> None:
        self._stack.append(self._text(self._string_bytes(self._number(1))))

    def op_binunicode8(self) -> None:
        self._stack.append(self._text(self._string_bytes(self._number(8))))

    def op_binstring(self) -> None:
        self._stack.append(self._string_bytes(self._number(4)).decode("latin-1"))

    def op_short_binstring(self) -> None:
        self._stack.append(self._string_bytes(self._number(1)).decode("latin-1"))

    def op_binbytes(self) -> None:
        self._stack.append(self._string_bytes(self._number(4)))

    def op_short_binbytes(self) -> None:
        self._stack.append(self._string_bytes(self._number(1)))

    def op_binbytes8(self) -> None:
        self._stack.append(self._string_bytes(self._number(8)))

    # Containers.

    def op_empty_tuple(self) -> None:
        self._stack.append(())

    def op_tuple1(self) -> None:
        self._stack.append((self._pop(),))

    def op_tuple2(self) -> None:
        second = self._pop()
        self._stack.append((self._pop(), second))

    def op_tuple3(self) -> None:
        third = self._pop()
        second = self._pop()
        self._stack.append((self._pop(), second, third))

    def op_tuple(self) -> None:
        items = tuple(self._pop_mark())
        self._stack.append(items)

    def op_empty_list(self) -> None:
        self._stack.append([])

    def op_list(self) -> None:
        items = self._pop_mark()
        self._stack.append(items)

    def op_append(self) -> None:
        self._extend([self._pop()])

    def op_appends(self) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[object]) -> None:
        target = self._top()
        if type(target) is not list:
            raise self.refuse("items for something that is no list")
        target.extend(items)

    def op_empty_dict(self) -> None:
        self._stack.append({})

    def op_dict(self) -> None:
        items = self._pop_mark()
        self._stack.append({})
        self._update(items)

    def op_setitem(self) -> None:
        value = self._pop()
        self._update([self._pop(), value])

    def op_setitems(self) -> None:
        self._update(self._pop_mark())

    def _update(self, items: list[object]) -> None:
        target = self._top()
        if type(target) is not dict:
            raise self.refuse("keys for something that is no dictionary")
        if len(items) % 2:
            raise self.refuse("key without a value")
        for index in range(0, len(items), 2):
            key = items[index]
            if type(key) is not str:
                self.check_key(key)
            target[key] = items[index + 1]

    def op_empty_set(self) -> None:
        self._stack.append(set())

    def op_additems(self) -> None:
        items = self._pop_mark()
        target = self._top()
        if type(target) is not set:
            raise self.refuse("members for something that is no set")
        for item in items:
            self.check_key(item)
        target.update(items)

    def op_frozenset(self) -> None:
        items = self._pop_mark()
        for item in items:
            self.check_key(item)
        self._stack.append(frozenset(items))

    # Names, instances and state.

    def _global(self, module: str, name: str) -> Global:
        class_path = f"{module}.{name}" if len(module) + len(name) < self.limits.name_chars else ""
        found = allowed.find(class_path)
        if found is None:
            shown = repr(class_path) if class_path else f"of {len(module) + len(name)} characters"
            raise CheckpointError(
                f"global {shown} at byte {self._at} is not in the allow-table",
                subject=self._subject,
                hint="nothing was executed",
            )
        return found

    def op_global(self) -> None:
        module = self._text(self._line())
        name = self._text(self._line())
        self._stack.append(self._global(module, name))

    def op_stack_global(self) -> None:
        name = self._pop()
        module = self._pop()
        if type(name) is not str or type(module) is not str:
            raise self.refuse("global whose name is no text")
        self._stack.append(self._global(module, name))

    def _call(self, function: object, arguments: object) -> object:
        """What calling a name would have given, made by our own constructor."""
        if type(function) is not Global:
            raise self.refuse("call of something that is no global")
        if type(arguments) is not tuple:
            raise self.refuse(f"call of {function.class_path!r} without a tuple of arguments")
        if function.make is None:
            raise CheckpointError(
                f"call of {function.class_path!r} at byte {self._at} is not in the allow-table",
                subject=self._subject,
                hint="nothing was executed",
            )
        return function.make(self, function.class_path, arguments)

    def _instantiate(self, kind: object, arguments: object) -> object:
        """An instance: a draft of an inert class, else what the table makes of it."""
        if type(kind) is Global and kind.instantiable and type(arguments) is tuple:
            return Draft(kind.class_path, arguments)
        return self._call(kind, arguments)

    def op_reduce(self) -> None:
        arguments = self._pop()
        self._stack.append(self._call(self._pop(), arguments))

    def op_newobj(self) -> None:
        arguments = self._pop()
        self._stack.append(self._instantiate(self._pop(), arguments))

    def op_newobj_ex(self) -> None:
        named = self._pop()
        if type(named) is not dict or named:
            raise self.refuse("instance with named arguments")
        self.op_newobj()

    def op_inst(self) -> None:
        kind = self._global(self._text(self._line()), self._text(self._line()))
        arguments = tuple(self._pop_mark())
        self._stack.append(self._instantiate(kind, arguments))

    def op_obj(self) -> None:
        items = self._pop_mark()
        if not items:
            raise self.refuse("instance of nothing")
        self._stack.append(self._instantiate(items[0], tuple(items[1:])))

    def op_build(self) -> None:
        state = self._pop()
        target = self._top()
        kind = type(target)
        if isinstance(target, Draft):
            target.state = state
        elif isinstance(target, ArrayDraft):
            build_array(self, target, state)
        elif isinstance(target, DTypeDraft):
            build_dtype(self, target, state)
        elif kind is not dict and kind is not Tensor:  # attributes of a state dict or of a tensor are dropped
            raise self.refuse("state for something that takes none")

    def op_binpersid(self) -> None:
        if self._find_storage is None:
            raise self.refuse("storage where none belongs")
        self._stack.append(self._find_storage(self, self._pop()))

    def op_proto(self) -> None:
        protocol = self._number(1)
        if protocol > _PROTOCOL:
            raise self.refuse(f"pickle of protocol {protocol}, newer than {_PROTOCOL},")

    def op_frame(self) -> None:
        if self._number(8) > self._end - self.position:
            raise self._cut_short(self._end)


_STOP = ord(".")

_OPCODES = {
    b"(": "mark", b"0": "pop", b"1": "pop_mark", b"2": "dup",
    b"p": "put", b"q": "binput", b"r": "long_binput", b"\x94": "memoize",
    b"g": "get", b"h": "binget", b"j": "long_binget",
    b"N": "none", b"\x88": "true", b"\x89": "false",
    b"I": "int", b"J": "binint", b"K": "binint1", b"M": "binint2", b"L": "long", b"\x8a": "long1", b"\x8b": "long4",
    b"F": "float", b"G": "binfloat",
    b"S": "string", b"T": "binstring", b"U": "short_binstring", b"V": "unicode",
    b"X": "binunicode", b"\x8c": "short_binunicode", b"\x8d": "binunicode8",
    b"B": "binbytes", b"C": "short_binbytes", b"\x8e": "binbytes8", b"\x96": "binbytes8",
    b")": "empty_tuple", b"t": "tuple", b"\x85": "tuple1", b"\x86": "tuple2", b"\x87": "tuple3",
    b"]": "empty_list", b"l": "list", b"a": "append", b"e": "appends",
    b"}": "empty_dict", b"d": "dict", b"s": "setitem", b"u": "setitems",
    b"\x8f": "empty_set", b"\x90": "additems", b"\x91": "frozenset",
    b"c": "global", b"\x93": "stack_global", b"R": "reduce",
    b"\x81": "newobj", b"\x92": "newobj_ex", b"i": "inst", b"o": "obj", b"b": "build",
    b"Q": "binpersid", b"\x80": "proto", b"\x95": "frame",
}  # fmt: skip

_METHODS: tuple[str | None, ...] = tuple(
    f"op_{_OPCODES[bytes([code])]}" if bytes([code]) in _OPCODES else None for code in range(256)
)
"""The method of each opcode, by its code; None where it is not admitted."""
