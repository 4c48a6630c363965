"""Heads for oriented boxes: each box has an angle, about which it is turned.

A third branch of each level, ``cv4``, gives the angle θ, in radians from the x axis to the side of the box's width:

    YOLOv8, 11:  θ = (σ(t) − ¼)·π, from −π/4 to 3π/4        YOLO26:  θ = t

With l, t, r, b the distances to the sides, along the box's own axes, and f = ((r − l)/2, (b − t)/2):

    centre = (cx + fx·cos θ − fy·sin θ, cy + fx·sin θ + fy·cos θ)·stride, w = (l + r)·stride, h = (t + b)·stride

Where a form has corners x1, y1, x2, y2, they are those of the box before it is turned about its centre; so the angle
alone is missing, which is the one further column. In the forms ``raw`` and ``end2end`` boxes are cx, cy, w, h, as the
field's exports have them. In the form ``heads``, ``extra{l}`` is θ itself, whatever the version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from yoloship.graph.heads.anchor_free import DetectHead
from yoloship.graph.heads.head import split
from yoloship.graph.heads.segment import check_forward
from yoloship.graph.passes.rotated import choose_rotated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.heads.anchor_free import Layout
    from yoloship.graph.module_view import ModuleView
    from yoloship.graph.passes.suppression import Choose

_QUARTER: Final = 0.25


@dataclass(frozen=True, slots=True)
class ObbHead(DetectHead):
    """The OBB module of YOLOv8 and 11."""

    task = "obb"
    branches = ("cv2", "cv3", "cv4")
    end2end_layout: ClassVar[Layout] = "xywh"
    choose: ClassVar[Choose | None] = staticmethod(choose_rotated)

    @classmethod
    def read(cls, layer: ModuleView) -> Self:
        """Read the module. A head with several angles is refused."""
        layer.require("ne", 1)
        layer.optional_value("angle")  # of the last run
        check_forward(layer)
        base = DetectHead.read(layer)
        return cls(base.module, base.classes, base.strides, base.reg_max, base.choices)

    @property
    def extra_columns(self) -> int:
        """The angle."""
        return 1

    def extra_maps(self, builder: Builder, inputs: Sequence[Wire], prefix: str) -> tuple[Wire, ...]:
        """Write the branch of the angle, in radians."""
        return tuple(
            self.to_radians(builder, f"{self.module.place}.angle.{level}", wire)
            for level, wire in enumerate(self.branch(builder, f"{prefix}cv4", inputs))
        )

    def to_radians(self, builder: Builder, place: str, wire: Wire) -> Wire:
        """Write the way from what the branch gives to the angle."""
        quarter = builder.constant(f"{place}.quarter", np.float64(_QUARTER))
        pi = builder.constant(f"{place}.pi", np.float64(np.pi))
        share = builder.node("Sigmoid", f"{place}.sigmoid", (wire,), wire.shape)
        share = builder.node("Sub", f"{place}.share", (share, quarter), wire.shape)
        return builder.node("Mul", f"{place}.radians", (share, pi), wire.shape)

    def decode_boxes(self, builder: Builder, sides: Wire, points: Wire, extras: Wire | None, layout: Layout) -> Wire:
        """Write the way from distances along the box's own axes to its centre and size, or to its corners."""
        assert extras is not None  # the angle
        place = f"{self.module.place}.box"
        one, two = (sides.shape[0], 1, sides.shape[2]), (sides.shape[0], 2, sides.shape[2])
        centres, strides = split(builder, f"{place}.points", points, (2, 1), axis=1)
        near, far = split(builder, f"{place}.sides", sides, (2, 2), axis=1)
        half = builder.constant(f"{place}.half", np.float64(0.5))
        size = builder.node("Add", f"{place}.size", (near, far), two)
        offset = builder.node("Sub", f"{place}.difference", (far, near), two)
        offset = builder.node("Mul", f"{place}.offset", (offset, half), two)
        x, y = split(builder, f"{place}.offsets", offset, (1, 1), axis=1)
        cosine = builder.node("Cos", f"{place}.cosine", (extras,), one)
        sine = builder.node("Sin", f"{place}.sine", (extras,), one)
        terms = {
            name: builder.node("Mul", f"{place}.{name}", pair, one)
            for name, pair in (
                ("x.cosine", (x, cosine)), ("y.sine", (y, sine)), ("x.sine", (x, sine)), ("y.cosine", (y, cosine)),
            )
        }  # fmt: skip
        turned_x = builder.node("Sub", f"{place}.turned.x", (terms["x.cosine"], terms["y.sine"]), one)
        turned_y = builder.node("Add", f"{place}.turned.y", (terms["x.sine"], terms["y.cosine"]), one)
        turned = builder.node("Concat", f"{place}.turned", (turned_x, turned_y), two, axis=1)
        centre = builder.node("Add", f"{place}.centre", (centres, turned), two)
        if layout == "xyxy":
            reach = builder.node("Mul", f"{place}.reach", (size, half), two)
            low = builder.node("Sub", f"{place}.low", (centre, reach), two)
            centre, size = low, builder.node("Add", f"{place}.high", (centre, reach), two)
        box = builder.node("Concat", f"{place}.concat", (centre, size), sides.shape, axis=1)
        return builder.node("Mul", f"{place}.pixels", (box, strides), sides.shape)


@dataclass(frozen=True, slots=True)
class Obb26Head(ObbHead):
    """The OBB26 module of YOLO26, whose angle may be any number."""

    def to_radians(self, builder: Builder, place: str, wire: Wire) -> Wire:  # noqa: ARG002 - one signature
        """The branch gives radians."""
        return wire
