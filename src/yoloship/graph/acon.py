"""Activations that learn whether to activate: Ma, Zhang, Liu and Sun, Activate or Not, 2020.

(p1 − p2)·x·σ(β·(p1 − p2)·x) + p2·x. β is a parameter (ACON-C), or two small convolutions compute it from the means of
the channels (meta-ACON, section 3.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yoloship.graph.convolution import emit_convolution, read_conv

if TYPE_CHECKING:
    from yoloship.graph.builder import Builder
    from yoloship.graph.ir import Wire
    from yoloship.graph.part import Part


def acon(builder: Builder, part: Part, x: Wire) -> Wire:
    """Write ACON-C."""
    beta = builder.constant(f"{part.place}.beta", part.array("beta", 1, x.channels, 1, 1))
    return _gated(builder, part, x, beta)


def meta_acon(builder: Builder, part: Part, x: Wire) -> Wire:
    """Write meta-ACON."""
    means = builder.node("GlobalAveragePool", f"{part.place}.means", (x,), (x.shape[0], x.channels, 1, 1))
    for name in ("fc1", "fc2"):
        means = emit_convolution(builder, part.child(name), read_conv(part.child(name)), means)
    if means.channels != x.channels:
        raise part.error("its switch has another number of channels", expected=str(x.channels), got=means.channels)
    return _gated(builder, part, x, builder.node("Sigmoid", f"{part.place}.switch", (means,), means.shape))


def _gated(builder: Builder, part: Part, x: Wire, beta: Wire) -> Wire:
    place = part.place
    first, second = (part.array(name, 1, x.channels, 1, 1) for name in ("p1", "p2"))
    slope = builder.constant(f"{place}.slope", first - second)
    scaled = builder.node("Mul", f"{place}.scaled", (x, slope), x.shape)
    gate = builder.node("Mul", f"{place}.beta.scaled", (scaled, beta), x.shape)
    gate = builder.node("Sigmoid", f"{place}.gate", (gate,), x.shape)
    gated = builder.node("Mul", f"{place}.gated", (scaled, gate), x.shape)
    if not np.any(second):
        return gated
    rest = builder.node("Mul", f"{place}.rest", (x, builder.constant(f"{place}.p2", second)), x.shape)
    return builder.node("Add", place, (gated, rest), x.shape)
