"""The datatypes of the protocol as types of NumPy, and the bytes of tensors: `to_bytes` and `from_bytes`.

Source: KServe, Open Inference Protocol, version 2, "Tensor Data Types"; Triton, "Binary Tensor Data Extension".
"""

from __future__ import annotations

import math
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.bfloat16 import BFLOAT16
from yoloship.kserve.failures import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Array = npt.NDArray[Any]

BYTES: Final = "BYTES"
NUMPY_TYPES: Final[Mapping[str, np.dtype[Any]]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "UINT8": np.dtype("u1"),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype("i1"),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
        "BF16": BFLOAT16,
        BYTES: np.dtype(object),
    }
)
"""Each datatype of the protocol. NumPy has no bfloat16, so BF16 is `yoloship._util.bfloat16.BFLOAT16`, the two bytes of
each number, with which nobody can compute by mistake. Elements of BYTES are `bytes` in an array of objects."""
BINARY_ONLY: Final = frozenset({"FP16", "BF16"})
"""What the protocol has no JSON form for."""

_OF_NUMPY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bool": "BOOL",
        **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)},
        **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
        "bfloat16": "BF16",
    }
)
_LENGTH: Final = struct.Struct("<I")


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The datatype of an array's type, in any byte order. Objects and texts are BYTES; bfloat16 of `ml_dtypes` is BF16.

    Raises:
        ProtocolError: the protocol has no such type.
    """
    if dtype == BFLOAT16:
        return "BF16"
    if dtype.kind in "OSU":
        return BYTES
    found = _OF_NUMPY.get(dtype.name)
    if found is None:
        raise ProtocolError(
            "the protocol has no such element type", expected=", ".join([*_OF_NUMPY, "bytes"]), got=dtype.name[:60]
        )
    return found


def canonical(array: Array, datatype: str, name: str) -> Array:
    """An array in the type that `NUMPY_TYPES` gives its datatype, C-contiguous; the same array if it is that already.

    Args:
        array: Any array whose datatype this is.
        datatype: Its datatype.
        name: The tensor's name, for messages.

    Raises:
        ProtocolError: an element of a BYTES tensor is neither bytes nor text.
    """
    if datatype == BYTES:
        return objects([_as_bytes(one, name) for one in array.ravel().tolist()], array.shape)
    if datatype == "BF16" and array.dtype != BFLOAT16:
        array = np.ascontiguousarray(array).reshape(array.shape).view(BFLOAT16)
    wanted = NUMPY_TYPES[datatype]
    ordered = array if array.dtype == wanted else array.astype(wanted)
    return ordered if ordered.flags.c_contiguous else ordered.copy(order="C")


def _as_bytes(element: object, name: str) -> bytes:
    if isinstance(element, str):
        try:
            return element.encode()
        except UnicodeEncodeError as error:
            raise ProtocolError("has text with half a character (a surrogate)", subject=name) from error
    if isinstance(element, bytes | bytearray | memoryview):
        return bytes(element)
    raise ProtocolError(
        "an element of a BYTES tensor is neither bytes nor text", subject=name, got=type(element).__name__[:60]
    )


def objects(elements: Sequence[bytes], shape: Sequence[int]) -> Array:
    """An array of objects of this shape, with these elements in row-major order."""
    made = np.empty(len(elements), object)
    made[:] = elements
    return made.reshape(shape)


def to_bytes(array: Array, datatype: str) -> bytes | memoryview:
    """The bytes of a tensor: little-endian in row-major order; each element of BYTES behind its length, 4 bytes.

    Args:
        array: As `canonical` gives it.
        datatype: Its datatype.

    Returns:
        A view of the array's memory if that is possible.

    Raises:
        ProtocolError: an element is longer than 4 bytes can say.
    """
    if datatype != BYTES:
        return array.reshape(-1).view(np.uint8).data if array.size else b""
    elements = array.ravel().tolist()
    if any(len(one) > 0xFFFF_FFFF for one in elements):
        raise ProtocolError("an element of a BYTES tensor is too long", expected="at most 4,294,967,295 bytes")
    return b"".join(part for one in elements for part in (_LENGTH.pack(len(one)), one))


def from_bytes(data: memoryview, datatype: str, shape: Sequence[int], name: str) -> Array:
    """The tensor of some bytes, read only.

    Args:
        data: All bytes of the tensor, and no more. The array may be a view of them.
        datatype: Its datatype.
        shape: Its shape; no extent is negative.
        name: Its name, for messages.

    Raises:
        ProtocolError: they are too many or too few, or not of this datatype.
    """
    count = math.prod(shape)
    if datatype == BYTES:
        found = objects(_split(data, count, name), shape)
        found.flags.writeable = False
        return found
    dtype = NUMPY_TYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise ProtocolError(
            f"the bytes of the tensor are not those of {datatype}{list(shape)}", subject=name,
            expected=f"{count * dtype.itemsize} bytes", got=str(len(data)),
        )  # fmt: skip
    if datatype == "BOOL" and count and np.frombuffer(data, np.uint8).max() > 1:
        raise ProtocolError("has a byte that is neither false nor true", subject=name, expected="0 or 1")
    array = np.frombuffer(data, dtype).reshape(shape)
    if not array.flags.aligned:  # runtimes read whole numbers
        array = array.copy()
        array.flags.writeable = False
    return array


def _split(data: memoryview, count: int, name: str) -> list[bytes]:
    """The elements of a BYTES tensor."""
    elements: list[bytes] = []
    at = 0
    while at < len(data) and len(elements) < count:
        if len(data) - at < _LENGTH.size:
            break
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if size > len(data) - at:
            raise ProtocolError(
                f"element {len(elements)} is cut short", subject=name, expected=f"{size} bytes", got=str(len(data) - at)
            )
        elements.append(bytes(data[at : at + size]))
        at += size
    if at != len(data) or len(elements) != count:
        raise ProtocolError(
            "the bytes of the tensor are not those of its elements", subject=name, expected=f"{count} elements",
            got=f"{len(elements)}, and {len(data) - at} bytes after them",
        )  # fmt: skip
    return elements
