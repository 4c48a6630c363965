"""Suppression of oriented boxes inside the graph, by probabilistic IoU: what `yoloship.tasks.rotated` computes.

A box goes if a better one of its class clashes with it, also if that one has gone itself. So one look at the K×K matrix
of clashes decides, without the iteration of the greedy choice, and the result is always final. All operators are plain,
and none is a matrix product, so the decoding before it does not count as part of the network's body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.bounds.outline import FLOAT

if TYPE_CHECKING:
    from yoloship.graph.builder import Wire
    from yoloship.graph.passes.suppression import Best, Writer
    from yoloship.model import Axis, NmsConfig

_SMALL: Final = 1e-7
_FARTHEST: Final = 100.0
_LARGEST: Final = float(np.finfo(np.float32).max)
_MOMENTS: Final = ("x", "y", "a", "b", "c")


def choose_rotated(writer: Writer, nms: NmsConfig, best: Best, alive: Wire) -> tuple[Wire, None]:
    """Write which of the best candidates are kept.

    Args:
        writer: Takes the nodes.
        nms: Thresholds.
        best: The candidates: boxes before they are turned about their centre, and as extras (B, K, 1) the angle in
            radians.
        alive: (B, 1, K) bool: above the threshold, with finite coordinates.

    Returns:
        (B, 1, K) float32 of 0 and 1; and None, because it is final.
    """
    assert best.extras is not None  # the angle
    batch, count, row = writer.batch, best.count, alive.shape
    magnitude = writer.op("Abs", "angle.magnitude", (best.extras,), best.extras.shape)
    finite = writer.op(
        "LessOrEqual", "angle.finite", (magnitude, writer.scalar("largest", _LARGEST)), magnitude.shape, "bool"
    )
    alive = writer.op(
        "And", "alive.angle", (alive, writer.reshaped("angle.row", finite, (0, 1, count), row)), row, "bool"
    )
    clash = _clashes(writer, nms, best, best.extras)
    better = writer.reshaped("alive.better", alive, (0, count, 1), (batch, count, 1))
    clash = writer.op("And", "clash.alive", (clash, better), clash.shape, "bool")
    number = writer.op("Cast", "clash.number", (clash,), clash.shape, to=FLOAT)
    earlier = writer.constant("earlier", np.triu(np.ones((1, count, count)), 1))
    number = writer.op("Mul", "clashes", (number, earlier), clash.shape)
    hits = writer.op("ReduceMax", "hits", (number,), row, axes=(1,), keepdims=1)
    free = writer.op("Less", "free", (hits, writer.scalar("half", 0.5)), row, "bool")
    kept = writer.op("And", "kept.alive", (free, alive), row, "bool")
    return writer.op("Cast", "kept", (kept,), row, to=FLOAT), None


def _clashes(writer: Writer, nms: NmsConfig, best: Best, angle: Wire) -> Wire:
    """(B, K, K) bool: the probabilistic IoU of two candidates of one class is above the threshold."""
    count, square = best.count, (writer.batch, best.count, best.count)
    moments = _moments(writer, best, angle)
    first, second = (
        {
            name: writer.reshaped(f"{side}.{name}", wire, (0, *tail), (writer.batch, *tail))
            for name, wire in zip(_MOMENTS, moments, strict=True)
        }
        for side, tail in (("row", (count, 1)), ("column", (1, count)))
    )

    def op(name: str, kind: str, *inputs: Wire, shape: tuple[Axis, ...] = square) -> Wire:
        return writer.op(kind, f"probiou.{name}", inputs, shape)

    def own(side: dict[str, Wire], name: str) -> Wire:
        """The determinant of a candidate's own moments, at least 0."""
        shape = side["a"].shape
        ab = op(f"{name}.ab", "Mul", side["a"], side["b"], shape=shape)
        cc = op(f"{name}.cc", "Mul", side["c"], side["c"], shape=shape)
        return op(f"{name}.own", "Max", op(f"{name}.det", "Sub", ab, cc, shape=shape), zero, shape=shape)

    zero, small = writer.scalar("zero", 0.0), writer.scalar("small", _SMALL)
    half, quarter = writer.scalar("half", 0.5), writer.scalar("quarter", 0.25)
    one, four = writer.scalar("one", 1.0), writer.scalar("four", 4.0)
    dx, dy = (op(f"d{axis}", "Sub", first[axis], second[axis]) for axis in "xy")
    a, b, c = (op(name, "Add", first[name], second[name]) for name in "abc")
    determinant = op("determinant", "Sub", op("ab", "Mul", a, b), op("cc", "Mul", c, c))
    safe = op("safe", "Add", determinant, small)
    ayy = op("ayy", "Mul", op("ay", "Mul", a, dy), dy)
    bxx = op("bxx", "Mul", op("bx", "Mul", b, dx), dx)
    straight = op("straight", "Mul", op("straight.share", "Div", op("ayy.bxx", "Add", ayy, bxx), safe), quarter)
    cxy = op("cxy", "Mul", op("cx", "Mul", c, dx), dy)
    mixed = op("mixed", "Mul", op("mixed.share", "Div", cxy, safe), half)
    centres = op("centres", "Sub", straight, mixed)
    both = op("own", "Mul", own(first, "row"), own(second, "column"))
    spread = op("spread", "Add", op("spread.four", "Mul", op("root", "Sqrt", both), four), small)
    ratio = op("ratio", "Add", op("ratio.share", "Div", determinant, spread), small)
    shapes = op("shapes", "Mul", op("log", "Log", ratio), half)
    distance = op("distance.low", "Max", op("distance", "Add", centres, shapes), small)
    distance = op("distance.high", "Min", distance, writer.scalar("farthest", _FARTHEST))
    power = op("power", "Exp", op("minus", "Neg", distance))
    hellinger = op("hellinger", "Sqrt", op("rest.small", "Add", op("rest", "Sub", one, power), small))
    probiou = op("probiou", "Sub", one, hellinger)
    threshold = writer.scalar("iou_threshold", nms.iou_threshold)
    clash = writer.op("Greater", "probiou.above", (probiou, threshold), square, "bool")
    known = writer.op("Greater", "probiou.known", (ratio, zero), square, "bool")  # else the logarithm is NaN
    clash = writer.op("And", "clash.known", (clash, known), square, "bool")
    return clash if nms.class_agnostic else writer.of_one_class(clash, best.class_ids, count)


def _moments(writer: Writer, best: Best, angle: Wire) -> tuple[Wire, ...]:
    """The centre's x and y, and the second moments along x, along y and mixed, each (B, K, 1)."""
    shape = angle.shape

    def op(name: str, kind: str, *inputs: Wire) -> Wire:
        return writer.op(kind, f"moments.{name}", inputs, shape)

    half, twelve = writer.scalar("half", 0.5), writer.scalar("twelve", 12.0)
    left, top, right, bottom = writer.split("sides", best.boxes, 4)
    centres, squares = [], []
    for name, low, high in (("x", left, right), ("y", top, bottom)):
        centres.append(op(name, "Mul", op(f"{name}.both", "Add", low, high), half))
        side = op(f"{name}.side", "Sub", high, low)
        squares.append(op(f"{name}.moment", "Div", op(f"{name}.square", "Mul", side, side), twelve))
    along, across = squares
    cosine, sine = op("cosine", "Cos", angle), op("sine", "Sin", angle)

    def turned(name: str, first: Wire, second: Wire) -> Wire:
        """first·cos² + second·sin²."""
        near = op(f"{name}.near", "Mul", op(f"{name}.cosine", "Mul", first, cosine), cosine)
        far = op(f"{name}.far", "Mul", op(f"{name}.sine", "Mul", second, sine), sine)
        return op(name, "Add", near, far)

    mixed = op("c.cosine", "Mul", op("c.difference", "Sub", along, across), cosine)
    return (*centres, turned("a", along, across), turned("b", across, along), op("c", "Mul", mixed, sine))
