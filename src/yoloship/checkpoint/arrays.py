"""NumPy arrays and scalars inside a pickle, rebuilt from their bytes by our own code.

Source: the state tuples that NumPy 1.26 and 2.x write, seen in pickles of both: a dtype's state is (version, byte
order, subarray, names, fields, item size, alignment, flags), an array's is (version, shape, dtype, Fortran order,
data).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from yoloship.checkpoint.drafts import ArrayDraft, Context, Draft, DTypeDraft

if TYPE_CHECKING:
    import numpy.typing as npt

CODES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "?"})
"""Element types that are plain numbers. Objects and structures stay opaque: they have no use here."""
_TEXT = re.compile(r"[US][1-9][0-9]{0,4}")
"""Element types that are texts of a fixed length: U of four bytes a character, S of bytes."""
_TEXT_COST = 16
"""What a text counts at least, however short: it is an object of its own."""


def make_dtype(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``numpy.dtype(code, align, copy)``; a code that is neither a number nor a text stays opaque."""
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
    """``_reconstruct(ndarray, shape, code)``: empty until its state comes."""
    return ArrayDraft()


def build_array(context: Context, draft: ArrayDraft, state: object) -> None:
    """Fill an array from its state."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise context.refuse("NumPy array with an unknown state")
    _, shape, dtype, fortran, data = state
    if isinstance(dtype, Draft):
        return  # an array of objects or strings: stays opaque
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
    """The bytes of an array; Python 2 wrote them as a text of Latin-1 characters."""
    if isinstance(data, str):
        context.charge(len(data))
        try:
            return data.encode("latin-1")
        except UnicodeEncodeError:
            raise context.refuse("NumPy data that are no bytes") from None
    if not isinstance(data, bytes):
        raise context.refuse("NumPy data that are no bytes")
    return data


def _texts(context: Context, dtype: DTypeDraft, count: object, data: bytes) -> list[str | bytes]:
    """Texts of a fixed length, the zeros behind each taken off; what is not a character becomes U+FFFD."""
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
    # Extents other than 0 are counted too: NumPy refuses (0, 2**40, 2**40) by an error of its own.
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
