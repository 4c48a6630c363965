"""YOLOv5's head with anchors: reading it, and writing each of its output forms.

xy = (2σ(t) − 0.5 + grid)·stride, wh = (2σ(t))²·anchor, score = σ(objectness)·σ(class). Grids are computed from the
maps' sizes, because the file's own `grid` may be stale.

Releases 1 to 5 register two buffers: `anchors` in units of each level's stride, for training, and `anchor_grid` in
pixels. Their forward reads `anchor_grid`. From release 6 on there is no such buffer: the forward multiplies `anchors`
with `stride`, and `anchor_grid` is a list of tensors that is computed again when a size changes, so it may be stale
and is never read here.

Where an architecture lists its levels coarsest first and its anchors finest first (or the other way round), releases
1 to 5 reverse both buffers after `anchors` was divided by the strides. Then `anchors` holds the right pixels divided
by the strides of the opposite levels, and only `anchor_grid` is right. Measured on the checkpoints of the releases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.bounds.outline import INT32
from yoloship.checkpoint.traits import other_head
from yoloship.graph.config import HEIGHT, WIDTH
from yoloship.graph.convolution import emit_convolution, read_conv
from yoloship.graph.heads.head import (
    BOXES,
    PROBE_ROWS,
    Head,
    batch_axis,
    cell_lines,
    join,
    read_strides,
    row_axis,
    split,
)
from yoloship.graph.passes.suppression import emit_suppression
from yoloship.model import MAX_CLASSES, MAX_LEVELS, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.config import GraphConfig
    from yoloship.graph.convolution import Array
    from yoloship.graph.module_view import ModuleView
    from yoloship.model import Anchors, Axis

_RAW, _HEADS, _COMPACT, _NMS = "raw", "heads", "compact", "nms"
_OBJECT_COLUMNS: Final = 5
"""Columns of a row before its class scores: four for position and size, and the objectness."""


@dataclass(frozen=True, slots=True)
class AnchorHead(Head):
    """The head with anchors of YOLOv5: its Detect module.

    Attributes:
        anchors: (levels, anchors, 2) width and height in model pixels, in the module's own order.
    """

    task = "detect"
    forms = (_RAW, _HEADS, _COMPACT, _NMS)
    fastest = _HEADS
    suppressed = _NMS

    anchors: Array

    @classmethod
    def read(cls, layer: ModuleView) -> Self:
        """Read a Detect module. A head that predicts more for each box is refused by its own name."""
        other = other_head(layer.module)
        if other is not None:
            raise layer.error(other.problem, hint=other.hint)
        return cls(layer, *cls.read_levels(layer, 0))

    @classmethod
    def read_levels(cls, layer: ModuleView, extras: int) -> tuple[int, tuple[int, ...], Array]:
        """The number of classes, the strides and the anchors of a module that predicts `extras` more for each box."""
        classes = layer.integer("nc", 1, MAX_CLASSES)
        levels = layer.integer("nl", 1, MAX_LEVELS)
        anchors_per_level = layer.integer("na", 1, 64)
        layer.require("no", cls.row_columns(classes) + extras)
        strides = read_strides(layer, levels)
        for stale in ("grid", "anchor_grid"):  # lists of tensors that are computed again when a size changes
            layer.optional_value(stale)
        return classes, strides, read_anchors(layer, strides, anchors_per_level)

    @classmethod
    def shape_text(cls, classes: int) -> str:
        """The shape of the raw form: one row for each anchor of each cell."""
        return f"(B, N, {cls.row_columns(classes)})"

    @classmethod
    def row_columns(cls, classes: int) -> int:
        """Columns of a row: four for position and size, the objectness, the classes."""
        return _OBJECT_COLUMNS + classes

    @property
    def anchors_finest_first(self) -> Anchors:
        """The anchors, finest level first, as in `ModelInfo`."""
        return tuple(tuple((float(w), float(h)) for w, h in self.anchors[level]) for level in self.finest_first)

    @property
    def numbers(self) -> int:
        """How many numbers it predicts for each box."""
        return self.row_columns(self.classes) + self.extra_columns

    def emit(self, builder: Builder, config: GraphConfig, inputs: Sequence[Wire], input_hw: tuple[int, int]) -> None:
        """Write the head's convolutions, then the chosen output form."""
        maps = emit_maps(builder, self, inputs, input_hw)
        if config.output_form == _HEADS:
            _emit_heads(builder, config, self, maps)
        elif config.output_form == _RAW:
            _emit_raw(builder, config, self, maps)
        else:
            _emit_selected(builder, config, self, maps)

    @classmethod
    def emit_candidates(
        cls, builder: Builder, decoded: TensorSpec, batch: Axis, columns: tuple[int, int], place: str
    ) -> tuple[tuple[Wire, Wire, Wire], Wire | None]:
        """Write what picks candidates, with the arithmetic and order of `yoloship.tasks.decode.raw_candidates`."""
        classes, more = columns
        axis = decoded.shape[1] if len(decoded.shape) == 3 else BOXES
        count = axis if isinstance(axis, int) else PROBE_ROWS
        width = cls.row_columns(classes) + more
        spec = TensorSpec(decoded.name, "float32", (batch, axis, width))
        rows = builder.input(spec, (batch, count, width))
        sizes = (2, 2, 1, classes, more) if more else (2, 2, 1, classes)
        xy, wh, objectness, class_scores, *others = split(builder, f"{place}.split", rows, sizes, axis=2)
        half = builder.node("Mul", f"{place}.half", (wh, builder.constant(f"{place}.half.factor", 0.5)), wh.shape)
        low = builder.node("Sub", f"{place}.low", (xy, half), xy.shape)
        high = builder.node("Add", f"{place}.high", (xy, half), xy.shape)
        boxes = builder.node("Concat", f"{place}.boxes_xyxy", (low, high), (batch, count, 4), axis=2)
        scores = builder.node("Mul", f"{place}.class_scores", (class_scores, objectness), class_scores.shape)
        row = (batch, count)
        best = builder.node("ReduceMax", f"{place}.scores", (scores,), row, axes=(2,), keepdims=0)
        index = builder.node("ArgMax", f"{place}.argmax", (scores,), row, "int64", axis=2, keepdims=0)
        class_ids = builder.node("Cast", f"{place}.class_ids", (index,), row, "int32", to=INT32)
        extras = [builder.node("Mul", f"{place}.extras", (part, objectness), part.shape) for part in others]
        return (boxes, best, class_ids), extras[0] if extras else None


def emit_maps(
    builder: Builder, head: AnchorHead, inputs: Sequence[Wire], input_hw: tuple[int, int]
) -> tuple[Wire, ...]:
    """Write the head's own convolutions.

    Args:
        builder: Takes the nodes.
        head: The head.
        inputs: One map for each level, in the head's order.
        input_hw: (height, width) in model pixels, to check the strides against.

    Returns:
        One map (B, A·(5+C), h, w) for each level, in the head's order.
    """
    module = head.module
    convolutions = module.optional_child("m")
    if len(inputs) != len(head.strides):
        raise module.error("takes a different number of levels", expected=str(len(head.strides)), got=len(inputs))
    if convolutions is None:  # in the first release they are layers before the head
        maps = tuple(inputs)
    else:
        convs = convolutions.submodules()
        if len(convs) != len(inputs):
            raise module.error("has a different number of convolutions", expected=str(len(inputs)), got=len(convs))
        maps = tuple(emit_convolution(builder, conv, read_conv(conv), x) for conv, x in zip(convs, inputs, strict=True))
    for level, (stride, wire) in enumerate(zip(head.strides, maps, strict=True)):
        want = (head.anchors.shape[1] * head.numbers, input_hw[0] // stride, input_hw[1] // stride)
        if wire.shape[1:] != want:
            raise module.error(f"map of level {level} has another shape", expected=str(want), got=wire.shape[1:])
    return maps


def _emit_heads(builder: Builder, config: GraphConfig, head: AnchorHead, maps: Sequence[Wire]) -> None:
    """Write the undecoded maps as outputs, finest level first."""
    for number, level in enumerate(head.finest_first):
        wire, stride = maps[level], head.strides[level]
        hw: tuple[Axis, ...] = (f"{HEIGHT}/{stride}", f"{WIDTH}/{stride}") if builder.dynamic_hw else wire.hw
        builder.output(wire, TensorSpec(f"head{number}", "float32", (batch_axis(config), wire.channels, *hw)))


def _emit_selected(builder: Builder, config: GraphConfig, head: AnchorHead, maps: Sequence[Wire]) -> None:
    """Write the best class of every cell, and suppression after it if the form has it."""
    boxes, scores, class_ids, extras = _emit_candidates(builder, config, head, maps)
    if config.nms is not None:
        emit_suppression(builder, config.nms, batch_axis(config), (boxes, scores, class_ids), extras)
        return
    for name, wire in (("boxes_xyxy", boxes), ("scores", scores), ("class_ids", class_ids), ("extras", extras)):
        if wire is not None:
            shape = (batch_axis(config), row_axis(builder, wire), *wire.shape[2:])
            builder.output(wire, TensorSpec(name, wire.dtype, shape))


def _emit_raw(builder: Builder, config: GraphConfig, head: AnchorHead, maps: Sequence[Wire]) -> None:
    """Write (B, N, 5 + C): level by level in the head's order; within a level by anchor, then row, then column."""
    batch, numbers, parts = batch_axis(config), head.numbers, []
    for level, wire in enumerate(maps):
        place = f"{head.module.place}.{level}"
        cells = head_cells(builder, head, wire, place)
        shape = (batch, cells.shape[1], cells.shape[3], numbers)
        cells = builder.node("Transpose", f"{place}.transpose", (cells,), shape, perm=(0, 1, 3, 2))
        extras: list[Wire] = []
        if head.extra_columns:
            sizes = (numbers - head.extra_columns, head.extra_columns)
            cells, *extras = split(builder, f"{place}.extras", cells, sizes, axis=3)
        cells = builder.node("Sigmoid", f"{place}.sigmoid", (cells,), cells.shape)
        xy, wh, rest = split(builder, f"{place}.split", cells, (2, 2, cells.fixed(3) - 4), axis=3)
        xy = centres(builder, head, level, wire, xy, axis=3)
        wh = extents(builder, head, level, wh, 4.0, axis=3)
        box = builder.node("Concat", f"{place}.concat", (xy, wh, rest, *extras), shape, axis=3)
        parts.append(flat_rows(builder, place, box))
    output = join(builder, f"{head.module.place}.concat", parts)
    builder.output(output, TensorSpec("output0", "float32", (batch, row_axis(builder, output), numbers)))


def _emit_candidates(
    builder: Builder, config: GraphConfig, head: AnchorHead, maps: Sequence[Wire]
) -> tuple[Wire, Wire, Wire, Wire | None]:
    """Boxes (B, N, 4), scores (B, N), class ids (B, N) and extras (B, N, E), with the rows of the raw form.

    The best class is the one with the largest logit; of equal ones, the first. Only its sigmoid is computed.
    """
    batch = batch_axis(config)
    boxes, scores, classes, extras = [], [], [], []
    for level, wire in enumerate(maps):
        place = f"{head.module.place}.{level}"
        cells = head_cells(builder, head, wire, place)
        sizes = (4, 1, head.classes, head.extra_columns) if head.extra_columns else (4, 1, head.classes)
        xywh, objectness, logits, *others = split(builder, f"{place}.split", cells, sizes, axis=2)
        xywh = builder.node("Sigmoid", f"{place}.box.sigmoid", (xywh,), xywh.shape)
        xy, wh = split(builder, f"{place}.box.split", xywh, (2, 2), axis=2)
        centre = centres(builder, head, level, wire, xy, axis=2)
        half = extents(builder, head, level, wh, 2.0, axis=2)
        low = builder.node("Sub", f"{place}.box.low", (centre, half), centre.shape)
        high = builder.node("Add", f"{place}.box.high", (centre, half), centre.shape)
        box = builder.node("Concat", f"{place}.box.concat", (low, high), xywh.shape, axis=2)
        shape = (batch, xywh.shape[1], xywh.shape[3], 4)
        box = builder.node("Transpose", f"{place}.box.transpose", (box,), shape, perm=(0, 1, 3, 2))
        boxes.append(flat_rows(builder, f"{place}.box", box))

        one = objectness.shape
        best = builder.node("ReduceMax", f"{place}.class.max", (logits,), one, axes=(2,), keepdims=1)
        best = builder.node("Sigmoid", f"{place}.class.sigmoid", (best,), one)
        objectness = builder.node("Sigmoid", f"{place}.objectness.sigmoid", (objectness,), one)
        for part in others:  # times the objectness, as in `raw_candidates`
            weighed = builder.node("Mul", f"{place}.extras.weighed", (part, objectness), part.shape)
            shape = (batch, part.shape[1], part.shape[3], head.extra_columns)
            weighed = builder.node("Transpose", f"{place}.extras.transpose", (weighed,), shape, perm=(0, 1, 3, 2))
            extras.append(flat_rows(builder, f"{place}.extras", weighed))
        score = builder.node("Mul", f"{place}.score", (best, objectness), one)
        scores.append(flat_rows(builder, f"{place}.score", score, last=False))
        index = builder.node("ArgMax", f"{place}.class.argmax", (logits,), one, "int64", axis=2, keepdims=1)
        index = builder.node("Cast", f"{place}.class.cast", (index,), one, "int32", to=INT32)
        classes.append(flat_rows(builder, f"{place}.class", index, last=False))
    place = head.module.place
    return (
        join(builder, f"{place}.boxes_xyxy", boxes),
        join(builder, f"{place}.scores", scores),
        join(builder, f"{place}.class_ids", classes),
        join(builder, f"{place}.extras", extras) if extras else None,
    )


def head_cells(builder: Builder, head: AnchorHead, wire: Wire, place: str) -> Wire:
    """(B, A·(5+C), h, w) to (B, A, 5+C, h·w)."""
    anchors, (height, width) = head.anchors.shape[1], wire.hw
    target = np.array([0, anchors, head.numbers, -1 if builder.dynamic_hw else height * width])
    shape = (wire.shape[0], anchors, head.numbers, height * width)
    return builder.node(
        "Reshape", f"{place}.cells", (wire, builder.constant(f"{place}.cells.shape", target, "int64")), shape
    )


def centres(builder: Builder, head: AnchorHead, level: int, wire: Wire, xy: Wire, *, axis: int) -> Wire:
    """σ(t) to pixels: 2·stride·σ + (grid − 0.5)·stride. Coordinates are along `axis`, cells along the other axis."""
    place, stride = f"{head.module.place}.{level}", head.strides[level]
    offset = _dynamic_offset(builder, place, wire, stride, axis) if builder.dynamic_hw else None
    if offset is None:
        rows, columns = np.divmod(np.arange(wire.hw[0] * wire.hw[1]), wire.hw[1])
        grid = (np.stack([columns, rows], axis=axis - 2) - 0.5) * stride
        offset = builder.constant(f"{place}.grid", grid[None, None])
    factor = builder.constant(f"{place}.stride", np.float64(2 * stride))
    scaled = builder.node("Mul", f"{place}.xy.scale", (xy, factor), xy.shape)
    return builder.node("Add", f"{place}.xy", (scaled, offset), xy.shape)


def _dynamic_offset(builder: Builder, place: str, wire: Wire, stride: int, axis: int) -> Wire:
    """(grid − 0.5)·stride, computed from the map's size at run time. It has the shape of the constant in `centres`."""
    cells = wire.fixed(2) * wire.fixed(3)
    target, shape = ((1, 1, -1, 1), (1, 1, cells, 1)) if axis == 3 else ((1, 1, 1, -1), (1, 1, 1, cells))
    rows, columns = cell_lines(builder, place, wire, target, shape)
    both = (1, 1, cells, 2) if axis == 3 else (1, 1, 2, cells)
    grid = builder.node("Concat", f"{place}.grid.concat", (columns, rows), both, axis=axis)
    factor = builder.constant(f"{place}.grid.stride", np.float64(stride))
    grid = builder.node("Mul", f"{place}.grid.scale", (grid, factor), both)
    half = builder.constant(f"{place}.grid.half", np.float64(-0.5 * stride))
    return builder.node("Add", f"{place}.grid", (grid, half), both)


def extents(builder: Builder, head: AnchorHead, level: int, wh: Wire, factor: float, *, axis: int) -> Wire:
    """σ(t) to factor·σ²·anchor, width and height along `axis`. A factor of 4 gives the sizes, 2 gives half of them."""
    place, anchors = f"{head.module.place}.{level}", factor * head.anchors[level]
    constant = builder.constant(
        f"{place}.anchors", anchors[None, :, None, :] if axis == 3 else anchors[None, :, :, None]
    )
    squared = builder.node("Mul", f"{place}.wh.square", (wh, wh), wh.shape)
    return builder.node("Mul", f"{place}.wh", (squared, constant), wh.shape)


def flat_rows(builder: Builder, place: str, wire: Wire, *, last: bool = True) -> Wire:
    """(B, A, h·w, K) to (B, A·h·w, K); without `last`, (B, A, 1, h·w) to (B, A·h·w)."""
    count = wire.fixed(1) * wire.fixed(2) * (1 if last else wire.fixed(3))
    rows = -1 if builder.dynamic_hw else count
    tail = (wire.fixed(3),) if last else ()
    target = builder.constant(f"{place}.flat.shape", np.array([0, rows, *tail]), "int64")
    return builder.node("Reshape", f"{place}.flat", (wire, target), (wire.shape[0], count, *tail), wire.dtype)


_TOLERANCE: Final = 0.01
"""The largest relative difference. bfloat16 rounds by 0.004 at most; a wrong stride is off by a factor of 2 or more."""


def read_anchors(layer: ModuleView, strides: Sequence[int], anchors_per_level: int) -> Array:
    """Read the anchors of a Detect module.

    Args:
        layer: The Detect module.
        strides: The strides of its levels in pixels, in the module's own order.
        anchors_per_level: How many anchors each level has.

    Returns:
        (levels, anchors, 2) width and height in model pixels, with the levels in the module's own order.

    Raises:
        GraphError: they have no size, are not finite, or contradict each other.
    """
    levels, steps = len(strides), np.array(strides, np.float64)[:, None, None]
    anchors = layer.array("anchors", levels, anchors_per_level, 2)
    anchors_px: Array = anchors * steps
    pixels = layer.optional_array("anchor_grid", levels, 1, anchors_per_level, 1, 1, 2)
    if pixels is not None:
        pixels = pixels.reshape(levels, anchors_per_level, 2)
        if not _agree(pixels, anchors_px) and not _agree(pixels, anchors * steps[::-1]):
            raise layer.error(
                "'anchors' and 'anchor_grid' contradict each other in a way that no release explains",
                expected=f"{_level(anchors_px)} pixels in 'anchor_grid'",
                got=_level(pixels),
                hint="correct one of the two in the training environment and save the model again",
            )
        anchors_px = pixels
    if (anchors_px <= 0).any() and not _is_placeholder(anchors_px):
        raise layer.error(
            "has anchors of no size, which can only give boxes of no size",
            expected="widths and heights above 0 pixels",
            got=_level(anchors_px[(anchors_px <= 0).any(axis=(1, 2))]),
            hint="train the model, or set its anchors, and save it again",
        )
    return anchors_px


def _agree(first: Array, second: Array) -> bool:
    return bool((np.abs(first - second) <= _TOLERANCE * np.abs(second)).all())


def _is_placeholder(anchors_px: Array) -> bool:
    """Whether these are 0, 1, 2, …, the numbers that the official code uses for anchors that are not fitted yet.

    Only an architecture that gives a count in place of anchors has them. Every release computes with them.
    """
    numbers = np.arange(anchors_px[0].size).reshape(anchors_px[0].shape)
    return bool((anchors_px == numbers).all())


def _level(anchors_px: Array) -> str:
    return " ".join(f"{width:g}x{height:g}" for width, height in anchors_px[0][:3])
