"""Tensors as JSON: `to_json` and `from_json`, and `parse`, which reads the JSON of strangers within limits."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.fields import shown
from yoloship._util.strict_json import parse_strict_json
from yoloship.kserve.datatypes import BINARY_ONLY, BYTES, NUMPY_TYPES, canonical, objects
from yoloship.kserve.failures import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.kserve.datatypes import Array
    from yoloship.kserve.tensors import Limits

_AS_BYTES: Final = "ask for it as bytes: the parameter binary_data"


def parse(text: bytes, limits: Limits) -> dict[str, Any]:
    """Read a JSON object of a stranger.

    Args:
        text: The document, in UTF-8.
        limits: How many lists, objects and numbers it may have.

    Raises:
        ProtocolError: it is not one object: it has NaN or a key twice, is too deep or too large, or is not JSON at all.
    """
    for what, count, most in (
        ("numbers", text.count(b","), limits.json_commas),
        ("lists and objects", text.count(b"[") + text.count(b"{"), limits.json_brackets),
    ):
        if count > most:
            raise ProtocolError(
                f"the JSON has too many {what}", expected=f"at most {most:,}", got=f"{count:,}",
                hint="send tensors as bytes: the binary tensor data extension",
            )  # fmt: skip
    try:
        data = parse_strict_json(text.decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the JSON is not valid", got=str(error)[:100]) from error
    if not isinstance(data, dict):
        raise ProtocolError("the JSON is not an object", got=type(data).__name__)
    return data


def to_json(array: Array, datatype: str, name: str) -> list[Any]:
    """The elements of a tensor in row-major order, for JSON. Floats keep their exact values.

    Args:
        array: As `yoloship.kserve.tensors.Tensor` has it.
        datatype: Its datatype.
        name: Its name, for messages.

    Raises:
        ProtocolError: JSON has no form for the datatype or for a value: NaN, infinity, bytes that are not UTF-8.
    """
    if datatype in BINARY_ONLY:
        raise ProtocolError(f"{datatype} cannot be expressed in JSON", subject=name, hint=_AS_BYTES)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ProtocolError("has NaN or infinity, which JSON cannot express", subject=name, hint=_AS_BYTES)
    elements: list[Any] = array.ravel().tolist()
    if datatype != BYTES:
        return elements
    try:
        return [one.decode() for one in elements]
    except UnicodeDecodeError as error:
        raise ProtocolError(
            "has bytes that are not UTF-8, which JSON cannot express", subject=name, hint=_AS_BYTES
        ) from (error)


def from_json(data: object, datatype: str, shape: Sequence[int], name: str) -> Array:
    """The tensor of elements in JSON, read only.

    Args:
        data: A list of all elements in row-major order, or lists in lists as the shape says.
        datatype: Its datatype.
        shape: Its shape; no extent is negative.
        name: Its name, for messages.

    Raises:
        ProtocolError: they are too many or too few, of another type, or out of its range.
    """
    if datatype in BINARY_ONLY:
        raise ProtocolError(
            f"{datatype} cannot be expressed in JSON", subject=name, hint="send it as bytes: binary_data_size"
        )
    elements = _flat(data, shape, name)
    if datatype == BYTES:
        _check_types(elements, {str}, "texts", name)
        array = canonical(objects(elements, shape), BYTES, name)
    elif datatype == "BOOL":
        _check_types(elements, {bool}, "true and false", name)
        array = np.array(elements, np.bool_).reshape(shape)
    else:
        array = _numbers(elements, datatype, name).reshape(shape)
    array.flags.writeable = False
    return array


def _flat(data: object, shape: Sequence[int], name: str) -> list[Any]:
    if not isinstance(data, list):
        raise ProtocolError("data is not a list", subject=name, got=type(data).__name__)
    items = data
    if len(shape) > 1 and items and isinstance(items[0], list):
        if len(items) != shape[0]:
            raise _other_shape(shape, name)
        for extent in shape[1:]:
            if not all(isinstance(one, list) and len(one) == extent for one in items):
                raise _other_shape(shape, name)
            items = list(chain.from_iterable(items))
    if len(items) != math.prod(shape):
        raise ProtocolError(
            "data has a different number of elements than the shape", subject=name,
            expected=f"{math.prod(shape)} for {list(shape)}", got=str(len(items)),
        )  # fmt: skip
    return items


def _other_shape(shape: Sequence[int], name: str) -> ProtocolError:
    return ProtocolError("the lists in data do not have the tensor's shape", subject=name, expected=str(list(shape)))


def _check_types(elements: Sequence[Any], allowed: set[type], words: str, name: str) -> None:
    if not set(map(type, elements)) <= allowed:
        wrong = next(one for one in elements if type(one) not in allowed)
        raise ProtocolError("data has an element of a different type", subject=name, expected=words, got=shown(wrong))


def _numbers(elements: list[Any], datatype: str, name: str) -> Array:
    dtype = NUMPY_TYPES[datatype]
    if dtype.kind == "f":
        _check_types(elements, {int, float}, "numbers", name)
        try:
            with np.errstate(over="ignore"):
                floats = np.array(elements, np.float64).astype(dtype)
        except OverflowError as error:
            raise _out_of_range(datatype, name) from error
        if not np.isfinite(floats).all():
            raise _out_of_range(datatype, name)
        return floats
    _check_types(elements, {int}, "whole numbers", name)
    limits = np.iinfo(dtype)
    if elements and (min(elements) < limits.min or max(elements) > limits.max):
        raise _out_of_range(datatype, name)
    return np.array(elements, dtype)


def _out_of_range(datatype: str, name: str) -> ProtocolError:
    return ProtocolError("data has a number that is out of range", subject=name, expected=f"values of {datatype}")
