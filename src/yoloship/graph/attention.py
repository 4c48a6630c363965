"""Attention over the cells of a map: the block of YOLOv10, 11 and 26, and the area attention of YOLOv12.

softmax(q·kᵀ/√d)·v for each head (Vaswani et al., Attention Is All You Need, 2017, section 3.2), over all cells or, in
area attention, over the cells of one horizontal band (Tian et al., YOLOv12, 2025, section 3.2). q, k and v come
from 1x1 convolutions, and a depthwise convolution of v stands for the position (`pe`).

There are two forms of area attention. Ultralytics' has one convolution `qkv`, in whose output each head has its q, k
and v side by side. The authors' own has `qk`, with all of q before all of k, and `v`. The attribute names tell them
apart.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from yoloship.graph.blocks import add, emit
from yoloship.graph.heads.head import split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.graph.blocks import Block
    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.module_view import ModuleView


def _attention(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    heads, key, size = (module.integer(name, 1) for name in ("num_heads", "key_dim", "head_dim"))
    qkv = emit(builder, module.child("qkv"), (x,))
    _expect_channels(module, qkv, heads * (2 * key + size))
    parts = _in_heads(builder, f"{module.place}.heads", qkv, heads, 1)
    query, keys, values = split(builder, f"{module.place}.split", parts, (key, key, size), axis=2)
    mixed = _attended(builder, module, query, keys, values, module.number("scale"))
    return _finished(builder, module, mixed, _image(builder, f"{module.place}.v", values, x), x)


def _area_attention(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """The cells of a band are consecutive in the flat map, so bands are one more axis before the cells."""
    heads, size, area = (module.integer(name, 1) for name in ("num_heads", "head_dim", "area"))
    channels, place = heads * size, module.place
    if module.has("all_head_dim"):
        module.require("all_head_dim", channels)
    if (x.hw[0] * x.hw[1]) % area:
        raise module.error(f"its map does not divide into {area} areas", got=x.hw)
    if module.optional_child("qkv") is not None:
        qkv = emit(builder, module.child("qkv"), (x,))
        _expect_channels(module, qkv, 3 * channels)
        parts = _in_heads(builder, f"{place}.heads", qkv, heads, area)
        query, keys, values = split(builder, f"{place}.split", parts, (size, size, size), axis=2)
        image = _image(builder, f"{place}.v", values, x)
    else:
        both, image = emit(builder, module.child("qk"), (x,)), emit(builder, module.child("v"), (x,))
        _expect_channels(module, both, 2 * channels)
        _expect_channels(module, image, channels)
        flat = split(builder, f"{place}.split", both, (channels, channels), axis=1)
        query, keys, values = (
            _in_heads(builder, f"{place}.{name}", wire, heads, area)
            for name, wire in zip("qkv", (*flat, image), strict=True)
        )
    return _finished(builder, module, _attended(builder, module, query, keys, values, size**-0.5), image, x)


def _expect_channels(module: ModuleView, wire: Wire, channels: int) -> None:
    if wire.channels != channels:
        raise module.error("its heads do not fit its channels", expected=str(channels), got=wire.channels)


def _in_heads(builder: Builder, name: str, wire: Wire, heads: int, area: int) -> Wire:
    """(B, heads·K, h, w) to (B, heads, K, n), or to (B, heads, K, area, n) with several areas."""
    each, cells = wire.channels // heads, wire.hw[0] * wire.hw[1]
    middle = (area,) if area > 1 else ()
    target = builder.constant(f"{name}.shape", np.array([0, heads, each, *middle, -1]), "int64")
    return builder.node("Reshape", name, (wire, target), (wire.shape[0], heads, each, *middle, cells // area))


def _attended(builder: Builder, module: ModuleView, query: Wire, keys: Wire, values: Wire, scale: float) -> Wire:
    """The mixed values, of the shape of the values; cells are the last axis, and a head's numbers the third."""
    place, areas = module.place, values.shape[3:-1]
    batch, heads, size, cells = *values.shape[:3], values.shape[-1]
    rows_last, back = ((0, 1, 3, 4, 2), (0, 1, 4, 2, 3)) if areas else ((0, 1, 3, 2), (0, 1, 3, 2))
    factor = builder.constant(f"{place}.scale", np.float64(scale))
    query = builder.node("Mul", f"{place}.scaled", (query, factor), query.shape)
    across = (batch, heads, *areas, cells, query.shape[2])
    query = builder.node("Transpose", f"{place}.q.transpose", (query,), across, perm=rows_last)
    if areas:
        shape = (batch, heads, *areas, keys.shape[2], cells)
        keys = builder.node("Transpose", f"{place}.k.transpose", (keys,), shape, perm=(0, 1, 3, 2, 4))
    square, mixed = (batch, heads, *areas, cells, cells), (batch, heads, *areas, cells, size)
    scores = builder.node("MatMul", f"{place}.scores", (query, keys), square)
    weights = builder.node("Softmax", f"{place}.softmax", (scores,), square, axis=-1)
    transposed = builder.node("Transpose", f"{place}.v.transpose", (values,), mixed, perm=rows_last)
    mix = builder.node("MatMul", f"{place}.mix", (weights, transposed), mixed)
    return builder.node("Transpose", f"{place}.mix.transpose", (mix,), values.shape, perm=back)


def _finished(builder: Builder, module: ModuleView, mixed: Wire, image: Wire, like: Wire) -> Wire:
    """Add the position and project: `mixed` are values in heads, `image` are the values as a map."""
    mixed = _image(builder, f"{module.place}.image", mixed, like)
    position = emit(builder, module.child("pe"), (image,))
    return emit(builder, module.child("proj"), (add(builder, module, mixed, position, f"{module.place}.add"),))


def _image(builder: Builder, name: str, wire: Wire, like: Wire) -> Wire:
    """(B, heads, K, …) to (B, heads·K, h, w), of the size of another map."""
    channels = wire.fixed(1) * wire.fixed(2)
    shape = (like.shape[0], channels, *like.hw)
    if not builder.dynamic_hw:
        target = builder.constant(f"{name}.shape", np.array([0, *shape[1:]]), "int64")
    else:
        first = builder.constant(f"{name}.first", np.array([0, channels]), "int64")
        tail = builder.node("Shape", f"{name}.tail", (like,), (2,), "int64", start=2)
        target = builder.node("Concat", f"{name}.shape", (first, tail), (4,), "int64", axis=0)
    return builder.node("Reshape", name, (wire, target), shape)


BLOCKS: Mapping[str, Block] = MappingProxyType({"Attention": _attention, "AAttn": _area_attention})
"""By class name, of ``ultralytics.nn.modules``."""
