"""Tensors and NumPy arrays inside a pickle, rebuilt by our own code from checked arguments.

Sources: the state tuples in pickles of NumPy 1.26 and 2.x (a dtype's state is version, byte order, subarray, names,
fields, item size, alignment and flags; an array's is version, shape, dtype, Fortran order and data), and the arguments
in files that torch.save of torch 1.5 to 2.13 wrote.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from yoloship.checkpoint.drafts import ArrayDraft, Context, Draft, DTypeDraft, Global
from yoloship.checkpoint.records import NUMPY_DTYPES, STORAGE_DTYPES, LazyStorage, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from yoloship.checkpoint.records import Piece
    from yoloship.model import DType

CODES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "?"})
"""Element types that are plain numbers. Objects and structures stay opaque, because they have no use here."""
_TEXT = re.compile(r"[US][1-9][0-9]{0,4}")
"""Element types that are texts of a fixed length: U has four bytes for each character, S has one."""
_TEXT_COST = 16
"""The least that a text counts, because even a short one is an object."""
TORCH_DTYPES: Mapping[str, DType] = MappingProxyType(
    {
        "torch.float32": "float32",
        "torch.float16": "float16",
        "torch.float64": "float64",
        "torch.bfloat16": "bfloat16",
        "torch.int64": "int64",
        "torch.int32": "int32",
        "torch.int16": "int16",
        "torch.int8": "int8",
        "torch.uint8": "uint8",
        "torch.bool": "bool",
    }
)
"""torch's names of element types."""


class StorageTable:
    """Answers persistent ids: ``("storage", class, key, location, length)``, in legacy files followed by a view.

    Args:
        subject: The file's name, for messages.
        locate: Gives a storage's bytes by its key, or None if there are none. Give None in place of the function if the
            container has the bytes after the pickle.
    """

    def __init__(self, subject: str, locate: Callable[[str], Piece | None] | None) -> None:
        self._subject = subject
        self._locate = locate
        self._storages: dict[str, LazyStorage] = {}

    def find(self, context: Context, persistent_id: object) -> LazyStorage | Global | Draft:
        """The storage of a persistent id; the class of ``("module", class, file, source)``.

        A storage with an unknown element type becomes an inert draft. The legacy format writes the class when it first
        mentions a class of a module. The source text beside it is only a string.

        Raises:
            CheckpointError: torch does not write such an id, or the file has no such storage or a shorter one.
        """
        match persistent_id:
            case ("module", Global() as kind, _, _):
                return kind
        if not isinstance(persistent_id, tuple) or not 5 <= len(persistent_id) <= 6 or persistent_id[0] != "storage":
            raise context.refuse("persistent id that is not a storage")
        kind, key, length = persistent_id[1], persistent_id[2], persistent_id[4]
        if len(persistent_id) == 6 and persistent_id[5] is not None:
            raise context.refuse("view of a storage, as torch before 0.4 wrote,")
        if type(key) is int:
            key = str(key)
        if not isinstance(kind, Global) or type(key) is not str or len(key) > context.limits.name_chars:
            raise context.refuse("persistent id without a storage class and a key")
        dtype = STORAGE_DTYPES.get(kind.class_path)
        if dtype is None and self._locate is None:  # the next storage begins where this one ends
            raise context.refuse(f"storage of {kind.class_path!r}, which is not read here,")
        if dtype is None:
            return Draft(kind.class_path, foreign=True)
        if type(length) is not int or not 0 <= length <= context.limits.tensor_elements:
            raise context.refuse("storage of an impossible length")
        known = self._storages.get(key)
        if known is not None and (known.dtype, known.length) == (dtype, length):
            return known
        storage = self._new(context, key, LazyStorage(dtype, length, None, subject=f"{self._subject}: storage {key}"))
        if known is None:
            self._storages[key] = storage
        return storage

    def _new(self, context: Context, key: str, storage: LazyStorage) -> LazyStorage:
        nbytes = storage.length * NUMPY_DTYPES[storage.dtype].itemsize
        if self._locate is None:
            if key in self._storages:
                raise context.refuse(f"storage {key!r} with two types or lengths")
            return storage
        piece = self._locate(key)
        if piece is None:
            raise context.refuse(f"storage {key!r} is not in the file, but wanted")
        if piece.nbytes < nbytes:
            raise context.refuse(f"storage {key!r} claims {nbytes} bytes, the file holds {piece.nbytes},")
        storage.piece = piece
        return storage

    def by_key(self, key: str) -> LazyStorage | None:
        """The storage that the pickle mentioned under this key."""
        return self._storages.get(key)

    def give(self, key: str, piece: Piece) -> None:
        """Give a storage its bytes."""
        self._storages[key].piece = piece

    def missing(self) -> str | None:
        """The key of a storage that has no bytes yet."""
        return next((key for key, storage in self._storages.items() if storage.piece is None and storage.length), None)


def make_dtype(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``numpy.dtype(code, align, copy)``. An element type other than numbers and texts stays opaque."""
    if not arguments or not isinstance(arguments[0], str) or len(arguments[0]) > context.limits.name_chars:
        raise context.refuse(f"{class_path!r} without an element type")
    code = arguments[0].lstrip("<=|")
    return DTypeDraft(code) if code in CODES or _TEXT.fullmatch(code) else Draft(class_path, (arguments[0],))


def build_dtype(context: Context, draft: DTypeDraft, state: object) -> None:
    """Take the byte order from a dtype's state."""
    plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)
    if not plain or not isinstance(state, tuple) or state[1] not in ("<", ">", "=", "|"):
        raise context.refuse("NumPy element type with an unknown state")
    draft.order = ">" if state[1] == ">" else "<"


def make_scalar(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``scalar(dtype, bytes)``: a plain Python number or text."""
    if len(arguments) == 2 and isinstance(arguments[0], Draft):
        return Draft(class_path, ())
    if len(arguments) != 2 or not isinstance(arguments[0], DTypeDraft):
        raise context.refuse("NumPy scalar without an element type and its bytes")
    data = _data(context, arguments[1])
    if _TEXT.fullmatch(arguments[0].code):
        return _texts(context, arguments[0], 1, data)[0]
    return _array(context, arguments[0], (), data, fortran=False).item()


def make_array(_context: Context, _class_path: str, _arguments: tuple[object, ...]) -> object:
    """``_reconstruct(ndarray, shape, code)``: an array that is empty until its state comes."""
    return ArrayDraft()


def build_array(context: Context, draft: ArrayDraft, state: object) -> None:
    """Fill an array from its state."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise context.refuse("NumPy array with an unknown state")
    _, shape, dtype, fortran, data = state
    if isinstance(dtype, Draft):
        return  # an array of objects or strings stays opaque
    if not isinstance(dtype, DTypeDraft) or not isinstance(shape, tuple):
        raise context.refuse("NumPy array without a shape or an element type")
    if _TEXT.fullmatch(dtype.code):
        if len(shape) == 1:  # a list of names; more axes have no use here
            draft.value = _texts(context, dtype, shape[0], _data(context, data))
        return
    draft.value = _array(context, dtype, shape, _data(context, data), fortran=fortran is True or fortran == 1)


def make_from_buffer(context: Context, _: str, arguments: tuple[object, ...]) -> object:
    """``_frombuffer(bytes, dtype, shape, order)``, as protocol 5 writes arrays."""
    if len(arguments) != 4:
        raise context.refuse("NumPy array without its four arguments")
    data, dtype, shape, order = arguments
    draft = ArrayDraft()
    build_array(context, draft, (1, shape, dtype, order == "F", data))
    return draft


def _data(context: Context, data: object) -> bytes:
    """The bytes of an array. Python 2 wrote them as a text of Latin-1 characters."""
    if isinstance(data, str):
        context.charge(len(data))
        try:
            return data.encode("latin-1")
        except UnicodeEncodeError:
            raise context.refuse("NumPy data that are not bytes") from None
    if not isinstance(data, bytes):
        raise context.refuse("NumPy data that are not bytes")
    return data


def _texts(context: Context, dtype: DTypeDraft, count: object, data: bytes) -> list[str | bytes]:
    """Texts of a fixed length, without the zeros at their ends. An invalid character becomes U+FFFD."""
    wide = dtype.code[0] == "U"
    size = int(dtype.code[1:]) * (4 if wide else 1)
    if type(count) is not int or count * size != len(data):
        raise context.refuse(f"NumPy text array of {len(data)} bytes, which its shape does not fit")
    context.charge(max(len(data), _TEXT_COST * len(data) // size))
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    if not wide:
        return [piece.rstrip(b"\0") for piece in pieces]
    encoding = "utf-32-be" if dtype.order == ">" else "utf-32-le"
    return [piece.decode(encoding, "replace").rstrip("\0") for piece in pieces]


def _array(
    context: Context, dtype: DTypeDraft, shape: tuple[object, ...], data: bytes, *, fortran: bool
) -> npt.NDArray[np.generic]:
    extents = tuple(extent for extent in shape if isinstance(extent, int) and 0 <= extent <= 1 << 40)
    if len(extents) != len(shape) or len(shape) > context.limits.dimensions:
        raise context.refuse("NumPy array with an impossible shape")
    number = np.dtype("?" if dtype.code in ("?", "b1") else dtype.order + dtype.code)
    # The other extents count too, even if one is 0: NumPy raises an error of its own for (0, 2**40, 2**40).
    if math.prod(extents) * number.itemsize != len(data) or math.prod(filter(None, extents)) > 1 << 40:
        raise context.refuse(
            f"NumPy array of shape {extents} and {number.itemsize} bytes an element has {len(data)} bytes of data"
        )
    flat = np.frombuffer(data, number)
    if dtype.order == ">":
        context.charge(len(data))
        flat = flat.astype(number.newbyteorder("<"))
        flat.flags.writeable = False
    return flat.reshape(extents, order="F" if fortran else "C")


def make_tensor(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``_rebuild_tensor(storage, offset, size, stride)`` and ``_v2``, which adds requires_grad, hooks and metadata."""
    if not 4 <= len(arguments) <= 7 or not isinstance(arguments[0], LazyStorage):
        raise context.refuse(f"{class_path!r} without a storage, an offset, a size and a stride")
    trained = len(arguments) > 4 and arguments[4] is True
    return _tensor(context, arguments[0], arguments[1:4], requires_grad=trained)


def make_tensor_v3(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``_rebuild_tensor_v3``: an untyped storage, and the element type after the hooks."""
    if not 7 <= len(arguments) <= 8 or not isinstance(arguments[0], LazyStorage):
        raise context.refuse(f"{class_path!r} without a storage and an element type")
    if not isinstance(arguments[6], Global):
        raise context.refuse(f"{class_path!r} without an element type")
    dtype = TORCH_DTYPES.get(arguments[6].class_path)
    if dtype is None:  # complex numbers and future types, which no network here has
        return Draft(class_path, arguments, foreign=True)
    return _tensor(context, arguments[0].retyped(dtype), arguments[1:4], requires_grad=arguments[4] is True)


def make_parameter(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``_rebuild_parameter(tensor, requires_grad, hooks)``, and the form that adds a state, which is dropped."""
    if len(arguments) < 2 or not isinstance(arguments[0], Tensor):
        raise context.refuse(f"{class_path!r} without a tensor")
    return replace(arguments[0], requires_grad=arguments[1] is True)


def make_of_type(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``_rebuild_from_type_v2(function, type, arguments, state)``: the function's result, without type and state."""
    if len(arguments) < 3 or not isinstance(arguments[0], Global) or not isinstance(arguments[2], tuple):
        raise context.refuse(f"{class_path!r} without a function and its arguments")
    make = _BY_TYPE.get(arguments[0].class_path)
    if make is None:
        raise context.refuse(f"{class_path!r} of {arguments[0].class_path!r}")
    return make(context, arguments[0].class_path, arguments[2])


_BY_TYPE = MappingProxyType(
    {
        "torch._utils._rebuild_tensor": make_tensor,
        "torch._utils._rebuild_tensor_v2": make_tensor,
        "torch._utils._rebuild_tensor_v3": make_tensor_v3,
        "torch._utils._rebuild_parameter": make_parameter,
    }
)


def make_size(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``torch.Size(tuple)``: the tuple."""
    if len(arguments) != 1 or not isinstance(arguments[0], tuple | list):
        raise context.refuse(f"{class_path!r} without extents")
    context.charge(len(arguments[0]))
    return tuple(arguments[0])


def make_opaque(_: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """An object of no use here, kept as its class path and arguments."""
    return Draft(class_path, arguments)


def _tensor(context: Context, storage: LazyStorage, layout: tuple[object, ...], *, requires_grad: bool) -> Tensor:
    offset, size, stride = layout
    shape = _extents(context, size, "size")
    strides = _extents(context, stride, "stride")
    if len(shape) != len(strides):
        raise context.refuse(f"tensor of {len(shape)} axes with {len(strides)} strides")
    if type(offset) is not int or offset < 0:
        raise context.refuse("tensor whose offset is not a position in its storage")
    count = math.prod(shape)
    # The other extents are limited even if one is 0, because NumPy multiplies them.
    if count > context.limits.tensor_elements or math.prod(filter(None, shape)) > context.limits.tensor_elements:
        raise context.refuse(f"tensor of {_sides(shape)} elements is over the limit")
    reach = sum((extent - 1) * step for extent, step in zip(shape, strides, strict=True)) if count else -1
    if offset + reach >= storage.length:
        raise context.refuse(
            f"tensor of size {_sides(shape)}, strides {_sides(strides)} and offset {offset} reaches outside its "
            f"storage of {storage.length} elements"
        )
    if count > storage.length and count > context.limits.expanded_elements:
        raise context.refuse(
            f"tensor of size {_sides(shape)} repeats a storage of {storage.length} elements beyond the limit"
        )
    return Tensor(storage, offset, shape, strides, requires_grad)


def _extents(context: Context, value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or len(value) > context.limits.dimensions:
        raise context.refuse(f"tensor whose {what} is not a list of at most {context.limits.dimensions} integers")
    for extent in value:
        if type(extent) is not int or not 0 <= extent <= 1 << 40:
            raise context.refuse(f"tensor whose {what} holds something other than an integer from 0 to 2^40")
    return tuple(value)


def _sides(extents: tuple[int, ...]) -> str:
    return "×".join(map(str, extents)) or "()"
