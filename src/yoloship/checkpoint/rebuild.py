"""Tensors inside a pickle: the arguments of torch's rebuilding functions, checked and turned into `Tensor` records.

Source: the arguments that torch.save of torch 1.5 to 2.13 writes for these names, seen in its files.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship.checkpoint.drafts import Context, Draft, Global
from yoloship.checkpoint.records import Tensor
from yoloship.checkpoint.storages import LazyStorage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.tensors import DType

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


def make_tensor(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``_rebuild_tensor(storage, offset, size, stride)`` and ``_v2``, which adds requires_grad, hooks and metadata."""
    if not 4 <= len(arguments) <= 7 or not isinstance(arguments[0], LazyStorage):
        raise context.refuse(f"{class_path!r} without a storage, an offset, a size and a stride")
    trained = len(arguments) > 4 and arguments[4] is True
    return _tensor(context, arguments[0], arguments[1:4], requires_grad=trained)


def make_tensor_v3(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``_rebuild_tensor_v3``: an untyped storage, and the element type behind the hooks."""
    if not 7 <= len(arguments) <= 8 or not isinstance(arguments[0], LazyStorage):
        raise context.refuse(f"{class_path!r} without a storage and an element type")
    if not isinstance(arguments[6], Global):
        raise context.refuse(f"{class_path!r} without an element type")
    dtype = TORCH_DTYPES.get(arguments[6].class_path)
    if dtype is None:  # complex numbers, and whatever torch will have; no network here holds one
        return Draft(class_path, arguments, foreign=True)
    return _tensor(context, arguments[0].retyped(dtype), arguments[1:4], requires_grad=arguments[4] is True)


def make_parameter(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``_rebuild_parameter(tensor, requires_grad, hooks)``, and the form that adds a state, which is dropped."""
    if len(arguments) < 2 or not isinstance(arguments[0], Tensor):
        raise context.refuse(f"{class_path!r} without a tensor")
    return replace(arguments[0], requires_grad=arguments[1] is True)


def make_of_type(context: Context, class_path: str, arguments: tuple[object, ...]) -> object:
    """``_rebuild_from_type_v2(function, type, arguments, state)``: what the function gives; the rest is dropped."""
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
    """An object of no use here: kept as its class path and arguments."""
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
    # Where an extent is 0 the others are still bounded: NumPy multiplies them.
    if count > context.limits.tensor_elements or math.prod(filter(None, shape)) > context.limits.tensor_elements:
        raise context.refuse(f"tensor of {_short(shape)} elements is over the limit")
    reach = sum((extent - 1) * step for extent, step in zip(shape, strides, strict=True)) if count else -1
    if offset + reach >= storage.length:
        raise context.refuse(
            f"tensor of size {_short(shape)}, strides {_short(strides)} and offset {offset} reaches outside its "
            f"storage of {storage.length} elements"
        )
    if count > storage.length and count > context.limits.expanded_elements:
        raise context.refuse(
            f"tensor of size {_short(shape)} repeats a storage of {storage.length} elements beyond the limit"
        )
    return Tensor(storage, offset, shape, strides, requires_grad)


def _extents(context: Context, value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or len(value) > context.limits.dimensions:
        raise context.refuse(f"tensor whose {what} is not a list of at most {context.limits.dimensions} integers")
    for extent in value:
        if type(extent) is not int or not 0 <= extent <= 1 << 40:
            raise context.refuse(f"tensor whose {what} holds something else than an integer from 0 to 2^40")
    return tuple(value)


def _short(extents: tuple[int, ...]) -> str:
    return "×".join(map(str, extents)) or "()"
