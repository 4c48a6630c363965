"""The transformer block that C3TR holds, on (B, C, h, w) values throughout.

Every linear layer works on each pixel alone, so it is written as a 1x1 convolution; chains of them without anything in
between (q, k, v before the attention's own projection; fc1 before fc2; p + linear(p)) are multiplied out in float64.
Vaswani et al., Attention Is All You Need, 2017, section 3.2, without layer norms, as the checkpoints' modules show.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from yoloship.graph.linear import emit_linear, read_linear

if TYPE_CHECKING:
    from yoloship.graph.builder import Builder
    from yoloship.graph.convolution import Array
    from yoloship.graph.ir import Wire
    from yoloship.graph.part import Part

_LAYER_PATH = re.compile(r"(?:[A-Za-z_]\w*\.)*models\.common\.TransformerLayer")


def transformer(builder: Builder, part: Part, x: Wire) -> Wire:
    """Write a TransformerBlock after its own convolution: position embedding, then each of its layers."""
    channels = x.channels
    embedding = part.child("linear")
    weight, bias = read_linear(embedding, channels)
    tokens = emit_linear(builder, embedding, weight + np.eye(channels), bias, x)
    for layer in part.child("tr").parts():
        builder.visit(layer)
        if _LAYER_PATH.fullmatch(layer.module.class_path) is None:
            raise layer.error("is not supported in this place", expected="models.common.TransformerLayer")
        tokens = _layer(builder, layer, tokens)
    return tokens


def _layer(builder: Builder, part: Part, x: Wire) -> Wire:
    attended = _attention(builder, part, x)
    x = builder.node("Add", f"{part.place}.add", (attended, x), x.shape)
    first, first_bias = read_linear(part.child("fc1"), x.channels)
    second, second_bias = read_linear(part.child("fc2"), first.shape[0], x.channels)
    bias = _through(second, first_bias, second_bias)
    forward = emit_linear(builder, part.child("fc2"), second @ first, bias, x)
    return builder.node("Add", part.place, (forward, x), x.shape)


def _attention(builder: Builder, part: Part, x: Wire) -> Wire:
    channels, (height, width) = x.channels, x.hw
    attention = part.child("ma")
    if attention.torch_name != "MultiheadAttention":
        raise attention.error("is not supported in this place", expected="torch.nn.MultiheadAttention")
    attention.require("bias_k", None)
    attention.require("bias_v", None)
    attention.require("add_zero_attn", False)
    attention.require("batch_first", False, None)  # with it, torch would attend across the pictures of a batch
    heads = attention.integer("num_heads", 1)
    if channels % heads:
        raise attention.error("heads do not divide the channels", got=f"{channels} in {heads} heads")
    size, pixels, place = channels // heads, height * width, attention.place

    joined = attention.array("in_proj_weight", 3 * channels, channels)
    joined_bias = attention.optional_array("in_proj_bias", 3 * channels)
    split: list[Wire] = []
    for index, name in enumerate("qkv"):
        rows = slice(index * channels, (index + 1) * channels)
        inner, inner_bias = read_linear(part.child(name), channels, channels)
        bias = _through(joined[rows], inner_bias, None if joined_bias is None else joined_bias[rows])
        factor = 1 / math.sqrt(size) if name == "q" else 1.0
        weight = factor * (joined[rows] @ inner)
        bias = None if bias is None else factor * bias
        flat = emit_linear(builder, part.child(name), weight, bias, x)
        shape = builder.constant(f"{place}.{name}.shape", np.array([0, heads, size, -1]), "int64")
        split.append(builder.node("Reshape", f"{place}.{name}", (flat, shape), (x.shape[0], heads, size, pixels)))
    query, key, value = split

    across = (x.shape[0], heads, pixels, size)
    query = builder.node("Transpose", f"{place}.q.transpose", (query,), across, perm=(0, 1, 3, 2))
    value = builder.node("Transpose", f"{place}.v.transpose", (value,), across, perm=(0, 1, 3, 2))
    square = (x.shape[0], heads, pixels, pixels)
    scores = builder.node("MatMul", f"{place}.scores", (query, key), square)
    weights = builder.node("Softmax", f"{place}.softmax", (scores,), square, axis=-1)
    mixed = builder.node("MatMul", f"{place}.mix", (weights, value), across)
    mixed = builder.node(
        "Transpose", f"{place}.mix.transpose", (mixed,), (x.shape[0], heads, size, pixels), perm=(0, 1, 3, 2)
    )
    if builder.dynamic_hw:
        target = builder.node("Shape", f"{place}.shape", (x,), (4,), "int64")
    else:
        target = builder.constant(f"{place}.shape", np.array([0, channels, height, width]), "int64")
    image = builder.node("Reshape", f"{place}.reshape", (mixed, target), x.shape)
    out = attention.child("out_proj")
    return emit_linear(builder, out, *read_linear(out, channels, channels), image)


def _through(weight: Array, inner: Array | None, outer: Array | None) -> Array | None:
    """The bias of two linear layers in a row, `weight` that of the second."""
    if inner is None:
        return outer
    passed: Array = weight @ inner
    return passed if outer is None else passed + outer
