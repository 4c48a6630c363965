"""The opcode interpreter: runs a pickle stream without importing or calling anything that the stream names.

Each instruction has one method. An opcode without a method (out-of-band buffers, additions of later protocols) is
refused. For any bytes, `Machine.run` returns inert values or raises CheckpointError. This module has the loop and the
instructions that mention names. Instructions for plain values are in `plain_machine`.

Source of the instruction set: the opcode table in the documentation of CPython's ``pickletools``, protocols 0 to 5.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship.checkpoint import allowed
from yoloship.checkpoint.drafts import ArrayDraft, Draft, DTypeDraft, Global
from yoloship.checkpoint.plain_machine import PlainMachine
from yoloship.checkpoint.rebuild import build_array, build_dtype
from yoloship.checkpoint.records import Tensor
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from mmap import mmap

    from yoloship.checkpoint.drafts import Context
    from yoloship.checkpoint.limits import Limits

    FindStorage = Callable[[Context, object], object]

_PROTOCOL = 5
_EXTENSION_BYTES: Mapping[int, int] = MappingProxyType({0x82: 1, 0x83: 2, 0x84: 4})
_STOP = ord(".")


class Machine(PlainMachine):
    """Interprets one pickle stream. It satisfies `yoloship.checkpoint.drafts.Context`.

    Args:
        data: The file, or the pickle alone.
        start: Where the stream begins.
        limits: How much it may ask for.
        subject: The file's name, for messages.
        find_storage: Gets this machine and a persistent id, and gives the storage. None if the stream may have no
            persistent ids.
    """

    def __init__(
        self, data: bytes | mmap, start: int, limits: Limits, subject: str, find_storage: FindStorage | None = None
    ) -> None:
        super().__init__(data, start, limits, subject)
        self._find_storage = find_storage
        self._globals: dict[str, Global] = {}

    def run(self) -> object:
        """Interpret the stream up to its STOP. Then `position` is the first byte after it.

        Returns:
            Plain values, drafts and tensors, possibly with cycles.

        Raises:
            CheckpointError: the stream is damaged, asks for too much, or has a name that only an attack contains.
        """
        data, end = self.data, self.end
        for _ in range(self.limits.opcodes):
            at = self.position
            if at >= end:
                raise self.cut_short()
            opcode = data[at]
            self.at = at
            self.position = at + 1
            if opcode == _STOP:
                return self._pop()
            method = _METHODS[opcode]
            if method is None:
                raise self.refuse(f"pickle instruction 0x{opcode:02x} is not admitted")
            method(self)
        raise self.refuse(f"pickle of more than {self.limits.opcodes} instructions")

    # Names, instances and state.

    def _global(self, module: str, name: str) -> Global:
        class_path = f"{module}.{name}" if len(module) + len(name) < self.limits.name_chars else ""
        known = self._globals.get(class_path)
        if known is not None:
            return known
        found = allowed.find(class_path)
        if found is None:
            shown = repr(class_path) if class_path else f"of {len(module) + len(name)} characters"
            raise CheckpointError(
                f"global {shown} at byte {self.at} is not in the allow-table",
                subject=self.subject,
                hint="nothing was executed",
            )
        if len(self._globals) >= self.limits.globals:
            raise self.refuse(f"more than {self.limits.globals} names of classes and functions")
        self._globals[class_path] = found
        return found

    def _op_global(self) -> None:
        module = self.decode(self.line())
        name = self.decode(self.line())
        self._stack.append(self._global(module, name))

    def _op_stack_global(self) -> None:
        name = self._pop()
        module = self._pop()
        if type(name) is not str or type(module) is not str:
            raise self.refuse("global whose name is not text")
        self._stack.append(self._global(module, name))

    def _call(self, function: object, arguments: object) -> object:
        """The result of calling a name, made by our own constructor; an inert draft if there is no constructor."""
        if isinstance(function, Draft) and function.foreign:
            function = Global(function.class_path, foreign=True)
        if type(function) is not Global:
            raise self.refuse("call of something that is not a global")
        if type(arguments) is not tuple:
            raise self.refuse(f"call of {function.class_path!r} without a tuple of arguments")
        if function.make is None:
            return Draft(function.class_path, arguments, foreign=function.foreign, odd="was made by a call")
        return function.make(self, function.class_path, arguments)

    def _instantiate(self, kind: object, arguments: object) -> object:
        """An instance: a draft for an inert class; for other classes, the result of the table's constructor."""
        match kind:
            case Global(instantiable=True) | Draft(foreign=True) if type(arguments) is tuple:  # dill spells out classes
                return Draft(kind.class_path, arguments, foreign=kind.foreign)
        return self._call(kind, arguments)

    def _op_reduce(self) -> None:
        arguments = self._pop()
        self._stack.append(self._call(self._pop(), arguments))

    def _op_newobj(self) -> None:
        arguments = self._pop()
        self._stack.append(self._instantiate(self._pop(), arguments))

    def _op_newobj_ex(self) -> None:
        named = self._pop()
        self._op_newobj()
        made = self._top()
        if type(named) is not dict or (named and not isinstance(made, Draft)):
            raise self.refuse("instance with named arguments")
        if named and isinstance(made, Draft):
            made.odd = "was made from named arguments"

    def _op_inst(self) -> None:
        kind = self._global(self.decode(self.line()), self.decode(self.line()))
        arguments = tuple(self._pop_mark())
        self._stack.append(self._instantiate(kind, arguments))

    def _op_obj(self) -> None:
        items = self._pop_mark()
        if not items:
            raise self.refuse("instance of nothing")
        self._stack.append(self._instantiate(items[0], tuple(items[1:])))

    def _op_build(self) -> None:
        state = self._pop()
        target = self._top()
        kind = type(target)
        if isinstance(target, Draft):
            if target.state is not None:
                target.odd = "was given its state twice"
            target.state = state
        elif isinstance(target, ArrayDraft):
            build_array(self, target, state)
        elif isinstance(target, DTypeDraft):
            build_dtype(self, target, state)
        elif kind is not dict and kind is not Tensor:  # attributes of a state dict or of a tensor are dropped
            raise self.refuse("state for something that takes none")

    def _op_binpersid(self) -> None:
        if self._find_storage is None:
            raise self.refuse("storage where none belongs")
        self._stack.append(self._find_storage(self, self._pop()))

    def _op_extension(self) -> None:
        """A number that stands for a name in a registry of the program that wrote the file."""
        length = _EXTENSION_BYTES[self.data[self.at]]
        self._stack.append(Global(f"copyreg.extension_{self.number(length)}", instantiable=True, foreign=True))

    def _op_proto(self) -> None:
        protocol = self.byte()
        if protocol > _PROTOCOL:
            raise self.refuse(f"pickle of protocol {protocol}, newer than {_PROTOCOL},")

    def _op_frame(self) -> None:
        if self.number(8) > self.end - self.position:
            raise self.cut_short()


_OPCODES: Mapping[bytes, Callable[[Machine], None]] = MappingProxyType(
    {
        b"(": Machine._op_mark,
        b"0": Machine._op_pop,
        b"1": Machine._op_pop_mark,
        b"2": Machine._op_dup,
        b"p": Machine._op_put,
        b"q": Machine._op_binput,
        b"r": Machine._op_long_binput,
        b"\x94": Machine._op_memoize,
        b"g": Machine._op_get,
        b"h": Machine._op_binget,
        b"j": Machine._op_long_binget,
        b"N": Machine._op_none,
        b"\x88": Machine._op_true,
        b"\x89": Machine._op_false,
        b"I": Machine._op_int,
        b"J": Machine._op_binint,
        b"K": Machine._op_binint1,
        b"M": Machine._op_binint2,
        b"L": Machine._op_long,
        b"\x8a": Machine._op_long1,
        b"\x8b": Machine._op_long4,
        b"F": Machine._op_float,
        b"G": Machine._op_binfloat,
        b"S": Machine._op_string,
        b"T": Machine._op_binstring,
        b"U": Machine._op_short_binstring,
        b"V": Machine._op_unicode,
        b"X": Machine._op_binunicode,
        b"\x8c": Machine._op_short_binunicode,
        b"\x8d": Machine._op_binunicode8,
        b"B": Machine._op_binbytes,
        b"C": Machine._op_short_binbytes,
        b"\x8e": Machine._op_binbytes8,
        b"\x96": Machine._op_binbytes8,
        b")": Machine._op_empty_tuple,
        b"t": Machine._op_tuple,
        b"\x85": Machine._op_tuple1,
        b"\x86": Machine._op_tuple2,
        b"\x87": Machine._op_tuple3,
        b"]": Machine._op_empty_list,
        b"l": Machine._op_list,
        b"a": Machine._op_append,
        b"e": Machine._op_appends,
        b"}": Machine._op_empty_dict,
        b"d": Machine._op_dict,
        b"s": Machine._op_setitem,
        b"u": Machine._op_setitems,
        b"\x8f": Machine._op_empty_set,
        b"\x90": Machine._op_additems,
        b"\x91": Machine._op_frozenset,
        b"c": Machine._op_global,
        b"\x93": Machine._op_stack_global,
        b"R": Machine._op_reduce,
        b"\x81": Machine._op_newobj,
        b"\x92": Machine._op_newobj_ex,
        b"i": Machine._op_inst,
        b"o": Machine._op_obj,
        b"b": Machine._op_build,
        b"Q": Machine._op_binpersid,
        b"\x80": Machine._op_proto,
        b"\x95": Machine._op_frame,
        b"\x82": Machine._op_extension,
        b"\x83": Machine._op_extension,
        b"\x84": Machine._op_extension,
    }
)

_METHODS = tuple(_OPCODES.get(bytes([code])) for code in range(256))
"""The method of each opcode, by its code; None if it is not admitted."""
