"""The anchor-free head of YOLOv8 and later: reading it, and writing each of its output forms.

Each level has two branches of convolutions. ``cv2`` gives the distances l, t, r, b from a cell's centre to the sides of
a box, in cells; ``cv3`` gives the class logits. With ``reg_max`` above 1, a distance is a distribution over 0 to
reg_max − 1 (Li et al., Generalized Focal Loss, 2020, section 3.2): Σ j·softmax(t)_j. With ``reg_max`` 1 the numbers are
the distances. score = σ(class logit); there is no objectness.

    x1 = (cx − l)·stride, y1 = (cy − t)·stride, x2 = (cx + r)·stride, y2 = (cy + b)·stride, (cx, cy) = (column, row) + ½

**Two heads.** YOLOv10 and YOLO26 train a second pair of branches, ``one2one_cv2`` and ``one2one_cv3``, that gives one
box for an object (Wang et al., YOLOv10, 2024, section 3.1). `GraphConfig.head` chooses. ``one2many`` has the forms
``raw``, ``heads``, ``compact`` and ``nms``; ``one2one`` has ``end2end`` and ``heads``.

**Forms.** With C classes, E further columns (0 here; see below), N cells in all, in the order level, row, column:

- ``raw``: ``output0`` (B, 4 + C + E, N): cx, cy, w, h in model pixels, scores, further columns.
- ``heads``: nothing decoded. For each level l, finest first, ``box{l}`` (B, 4·reg_max, h, w), whose channels are l, t,
  r, b with reg_max each; ``class{l}`` (B, C, h, w) logits; with E > 0 also ``extra{l}`` (B, E, h, w). A decoder reads
  the small class map first, and the rest only where a class passes.
- ``compact``: ``boxes_xyxy`` (B, N, 4), ``scores`` (B, N), ``class_ids`` (B, N); with E > 0 also ``extras`` (B, N, E).
- ``nms``: see `yoloship.graph.passes.suppression`; with E > 0 also ``extras`` (B, M, E).
- ``end2end``: ``output0`` (B, k, 6 + E), k = min(300, N): x1, y1, x2, y2, score, class id, further columns; best first.
  If height and width are open, k is 300, and rows beyond the last cell are 0.

**To derive a head** (masks, keypoints, angles): set `task`; add the names of the module's further branches to
`branches`; give their number of columns in `extra_columns`; write their maps in `extra_maps` and their decoding in
`decode_extras`. Override `decode_boxes` if the boxes depend on them, and `emit_more` to declare outputs beside the
form's own, such as prototypes. On the CPU, `yoloship.tasks.detect.HeadsForm.decoders` gives two functions of the same
names.

This file is long because the output forms are read and written from the same branches; what a task adds has a file of
its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from yoloship.bounds.outline import FLOAT, INT32
from yoloship.graph.blocks import emit
from yoloship.graph.config import HEIGHT, WIDTH
from yoloship.graph.heads.head import (
    BOXES,
    NO_METADATA,
    PROBE_ROWS,
    Head,
    batch_axis,
    cell_lines,
    read_strides,
    split,
)
from yoloship.graph.passes.suppression import emit_suppression
from yoloship.model import FASTEST, MAX_CLASSES, MAX_FINAL, MAX_LEVELS, STANDARD, TensorSpec, usual_iou

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from yoloship.checkpoint.records import Value
    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.config import GraphConfig
    from yoloship.graph.module_view import ModuleView
    from yoloship.model import Axis, HeadChoice

RAW, HEADS, COMPACT, NMS, END2END = "raw", "heads", "compact", "nms", "end2end"
MAX_REG: Final = 64
_ONE2ONE: Final = "one2one_"
_PREFIX: Final[dict[HeadChoice, str]] = {"one2many": "", "one2one": _ONE2ONE}
_FORMS: Final[dict[HeadChoice, tuple[str, ...]]] = {
    "one2many": (RAW, HEADS, COMPACT, NMS),
    "one2one": (END2END, HEADS),
}
_MANY_BY_DEFAULT: Final = (8, 4, 190)
"""The first version that is known to answer with the one-to-many head by default; 8.4.60 still used the other one."""
_NOTHING: Final = -1e4
"""A class logit whose score is 0, also in float16."""
_GATHER_AXIS: Final = 2

Layout = Literal["xyxy", "xywh"]


@dataclass(frozen=True, slots=True)
class Maps:
    """What the convolutions of a head give, level by level in the head's order.

    Attributes:
        boxes: (B, 4·reg_max, h, w).
        classes: (B, C, h, w) logits.
        extras: (B, E, h, w); empty without further columns.
    """

    boxes: tuple[Wire, ...]
    classes: tuple[Wire, ...]
    extras: tuple[Wire, ...] = ()


@dataclass(frozen=True, slots=True)
class Cells:
    """The maps of all levels, side by side.

    Attributes:
        boxes: (B, 4·reg_max, N).
        classes: (B, C, N) logits.
        extras: (B, E, N); None without further columns.
        points: (1, 3, N): x and y of the cell's centre in cells, and its stride in model pixels.
    """

    boxes: Wire
    classes: Wire
    extras: Wire | None
    points: Wire


@dataclass(frozen=True, slots=True)
class DetectHead(Head):
    """The Detect module of YOLOv8, 9, 10, 11, 12 and 26, and of YOLOv3u, 5u and 6u.

    Class attributes:
        branches: Names of the module's branches; the second head has them with the prefix ``one2one_``.
        end2end_layout: How the form ``end2end`` has boxes: corners, or centre and size.

    Attributes:
        reg_max: Entries of a distance's distribution; 1 if the distance is given itself.
        present: The heads that the module has: one or both.
    """

    task = "detect"
    forms = (RAW, HEADS, COMPACT, NMS, END2END)
    fastest = HEADS
    suppressed = NMS
    iou_threshold = usual_iou("ultralytics")
    branches: ClassVar[tuple[str, ...]] = ("cv2", "cv3")
    end2end_layout: ClassVar[Layout] = "xyxy"

    reg_max: int
    present: tuple[HeadChoice, ...]

    @classmethod
    def read(cls, layer: ModuleView) -> Self:
        """Read the module."""
        classes, levels = layer.integer("nc", 1, MAX_CLASSES), layer.integer("nl", 1, MAX_LEVELS)
        reg_max = layer.integer("reg_max", 1, MAX_REG)
        layer.require("no", classes + 4 * reg_max)
        for stale in ("anchors", "strides", "shape"):  # of the size of the last run
            layer.optional_value(stale)
        _check_distribution(layer, reg_max)
        choices: tuple[HeadChoice, ...] = tuple(
            choice for choice, prefix in _PREFIX.items() if layer.module.children.get(f"{prefix}cv2") is not None
        )
        if not choices:
            raise layer.error("has no convolutions", expected="'cv2' and 'cv3'")
        return cls(layer, classes, read_strides(layer, levels), reg_max, choices)

    @property
    def choices(self) -> tuple[HeadChoice, ...]:
        """The heads that the module has: one or both."""
        return self.present

    @classmethod
    def shape_text(cls, classes: int) -> str:
        """The shape of the raw form: a column for each cell."""
        return f"(B, {4 + classes}, N)"

    # What derived heads change.

    def extra_maps(self, builder: Builder, inputs: Sequence[Wire], prefix: str) -> tuple[Wire, ...]:  # noqa: ARG002
        """Write the branches of the further columns, with `branch`; one map (B, E, h, w) for each level.

        Args:
            builder: Takes the nodes.
            inputs: One map for each level, in the head's order.
            prefix: Of the chosen head's branches.
        """
        return ()

    def decode_extras(self, builder: Builder, raw: Wire, points: Wire) -> Wire:  # noqa: ARG002
        """Write the decoding of further columns.

        Args:
            builder: Takes the nodes.
            raw: (B, E, M), as `extra_maps` has them, of any M cells.
            points: (1 or B, 3, M), as in `Cells`.

        Returns:
            (B, E, M) as users get them, in model pixels.
        """
        return raw

    def decode_boxes(
        self,
        builder: Builder,
        sides: Wire,
        points: Wire,
        extras: Wire | None,  # noqa: ARG002 - for boxes that depend on them
        layout: Layout,
    ) -> Wire:
        """Write the way from distances to boxes.

        Args:
            builder: Takes the nodes.
            sides: (B, 4, M): l, t, r, b in cells.
            points: (1 or B, 3, M), as in `Cells`.
            extras: What `decode_extras` gave for the same cells.
            layout: Corners, or centre and size.

        Returns:
            (B, 4, M) in model pixels.
        """
        place = f"{self.module.place}.box"
        shape = (sides.shape[0], 2, sides.shape[2])
        centres, strides = split(builder, f"{place}.points", points, (2, 1), axis=1)
        near, far = split(builder, f"{place}.sides", sides, (2, 2), axis=1)
        low = builder.node("Sub", f"{place}.low", (centres, near), shape)
        high = builder.node("Add", f"{place}.high", (centres, far), shape)
        if layout == "xywh":
            half = builder.constant(f"{place}.half", np.float64(0.5))
            both = builder.node("Add", f"{place}.both", (low, high), shape)
            size = builder.node("Sub", f"{place}.size", (high, low), shape)
            low, high = builder.node("Mul", f"{place}.centre", (both, half), shape), size
        box = builder.node("Concat", f"{place}.concat", (low, high), sides.shape, axis=1)
        return builder.node("Mul", f"{place}.pixels", (box, strides), sides.shape)

    def emit_more(self, builder: Builder, config: GraphConfig, inputs: Sequence[Wire]) -> None:
        """Write outputs beside those of the form."""

    # What all of them share.

    def settled(self, config: GraphConfig, metadata: Mapping[str, Value] = NO_METADATA) -> GraphConfig:
        """See `Head.settled`; the form also decides about the head, or the reverse."""
        asked = config.output_form
        head = config.head or self._default(asked, metadata)
        if head not in self.choices:
            reason = "it was fused, which removed it" if f"{_PREFIX[head]}cv2" in self.module.module.children else ""
            reason = reason or "it was trained with one head"
            raise self.module.error(
                f"does not have the head {head!r}: {reason}",
                expected=f"the output form {' or '.join(_FORMS[self.choices[0]])}" if config.head is None else None,
                got=f"the output form {asked!r}" if config.head is None else None,
                hint=None if config.head is None else f"leave out head (--head): {self.choices[0]!r} is its only head",
            )  # fmt: skip
        form = {STANDARD: _FORMS[head][0], FASTEST: self.fastest}.get(asked, asked)
        if form in self.forms and form not in _FORMS[head]:
            raise self.module.error(
                f"the head {head!r} does not give the output form {form!r}", expected=" or ".join(_FORMS[head])
            )
        named = head if head == "one2one" or len(self.choices) > 1 else None
        return replace(self.with_form(replace(config, output_form=form)), head=named)

    def _default(self, form: str, metadata: Mapping[str, Value]) -> HeadChoice:
        """The head that answers if the caller leaves the choice open."""
        able = [head for head in self.choices if form in _FORMS[head] or form not in self.forms]
        if len(able) == 1:
            return able[0]
        if not able:
            return "one2one" if form == END2END else "one2many"  # refused, with the reason
        for name in ("_end2end", "end2end"):  # the second up to version 8.3
            if isinstance(stored := self.module.optional_value(name), bool):
                return "one2one" if stored else "one2many"
        numbers = re.match(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", str(metadata.get("version")))
        many = numbers is not None and tuple(map(int, numbers.groups())) >= _MANY_BY_DEFAULT
        return "one2many" if many else "one2one"

    def emit(self, builder: Builder, config: GraphConfig, inputs: Sequence[Wire], input_hw: tuple[int, int]) -> None:
        """Write the convolutions of the chosen head, then the chosen output form."""
        head = config.head or self.choices[0]
        for other, prefix in _PREFIX.items():
            if other != head:
                self.module.leave_out(*(f"{prefix}{name}" for name in self.branches))
        maps = self._maps(builder, inputs, input_hw, _PREFIX[head])
        if config.output_form == HEADS:
            self._emit_heads(builder, config, maps)
        else:
            cells = self._cells(builder, maps)
            if config.output_form == RAW:
                self._emit_raw(builder, config, cells)
            elif config.output_form == END2END:
                self._emit_end2end(builder, config, cells)
            else:
                self._emit_selected(builder, config, cells)
        self.emit_more(builder, config, inputs)

    def branch(self, builder: Builder, name: str, inputs: Sequence[Wire]) -> tuple[Wire, ...]:
        """Write a branch: one module for each level."""
        modules = self.module.child(name).submodules()
        if len(modules) != len(inputs):
            raise self.module.error(
                f"{name!r} has a different number of levels", expected=str(len(inputs)), got=len(modules)
            )
        return tuple(emit(builder, module, (x,)) for module, x in zip(modules, inputs, strict=True))

    def _maps(self, builder: Builder, inputs: Sequence[Wire], input_hw: tuple[int, int], prefix: str) -> Maps:
        if len(inputs) != len(self.strides):
            raise self.module.error(
                "takes a different number of levels", expected=str(len(self.strides)), got=len(inputs)
            )
        boxes = self.branch(builder, f"{prefix}cv2", inputs)
        classes = self.branch(builder, f"{prefix}cv3", inputs)
        extras = self.extra_maps(builder, inputs, prefix)
        kinds = [(boxes, 4 * self.reg_max), (classes, self.classes)]
        if self.extra_columns:
            kinds.append((extras, self.extra_columns))
        for maps, channels in kinds:
            for level, (stride, wire) in enumerate(zip(self.strides, maps, strict=True)):
                want = (channels, input_hw[0] // stride, input_hw[1] // stride)
                if wire.shape[1:] != want:
                    raise self.module.error(
                        f"map of level {level} has another shape", expected=str(want), got=wire.shape[1:]
                    )
        return Maps(boxes, classes, extras)

    def _emit_heads(self, builder: Builder, config: GraphConfig, maps: Maps) -> None:
        for number, level in enumerate(self.finest_first):
            hw: tuple[Axis, ...] = maps.boxes[level].hw
            if builder.dynamic_hw:
                hw = (f"{HEIGHT}/{self.strides[level]}", f"{WIDTH}/{self.strides[level]}")
            for name, wires in (("box", maps.boxes), ("class", maps.classes), ("extra", maps.extras)):
                if wires:
                    shape = (batch_axis(config), wires[level].channels, *hw)
                    builder.output(wires[level], TensorSpec(f"{name}{number}", "float32", shape))

    def _cells(self, builder: Builder, maps: Maps) -> Cells:
        place = self.module.place
        return Cells(
            self._flat(builder, f"{place}.boxes", maps.boxes),
            self._flat(builder, f"{place}.classes", maps.classes),
            self._flat(builder, f"{place}.extras", maps.extras) if maps.extras else None,
            self._points(builder, maps.classes),
        )

    def _flat(self, builder: Builder, place: str, maps: Sequence[Wire]) -> Wire:
        """(B, K, h, w) of each level to (B, K, N)."""
        flat = []
        for level, wire in enumerate(maps):
            count = wire.fixed(2) * wire.fixed(3)
            target = np.array([0, wire.channels, -1 if builder.dynamic_hw else count])
            shape = builder.constant(f"{place}.{level}.shape", target, "int64")
            flat.append(builder.node("Reshape", f"{place}.{level}", (wire, shape), (*wire.shape[:2], count)))
        return _concat(builder, place, flat, axis=2)

    def _points(self, builder: Builder, maps: Sequence[Wire]) -> Wire:
        place, levels = f"{self.module.place}.points", []
        if not builder.dynamic_hw:
            for wire, stride in zip(maps, self.strides, strict=True):
                row, column = np.divmod(np.arange(wire.hw[0] * wire.hw[1]), wire.hw[1])
                levels.append(np.stack([column + 0.5, row + 0.5, np.full(len(row), stride)]))
            return builder.constant(place, np.concatenate(levels, axis=1)[None])
        points = []
        for level, (wire, stride) in enumerate(zip(maps, self.strides, strict=True)):
            count = wire.hw[0] * wire.hw[1]
            rows, columns = cell_lines(builder, f"{place}.{level}", wire, (1, 1, -1), (1, 1, count))
            line = _concat(builder, f"{place}.{level}.lines", (columns, rows, rows), axis=1)
            factor = builder.constant(f"{place}.{level}.factor", np.array([1, 1, 0]).reshape(1, 3, 1))
            shift = builder.constant(f"{place}.{level}.shift", np.array([0.5, 0.5, stride]).reshape(1, 3, 1))
            line = builder.node("Mul", f"{place}.{level}.scaled", (line, factor), line.shape)
            points.append(builder.node("Add", f"{place}.{level}", (line, shift), line.shape))
        return _concat(builder, place, points, axis=2)

    def _decoded(self, builder: Builder, cells: Cells, layout: Layout) -> tuple[Wire, Wire | None]:
        """Boxes (B, 4, M) and further columns (B, E, M) of any cells."""
        extras = None if cells.extras is None else self.decode_extras(builder, cells.extras, cells.points)
        return self.decode_boxes(builder, self._sides(builder, cells.boxes), cells.points, extras, layout), extras

    def _sides(self, builder: Builder, boxes: Wire) -> Wire:
        """(B, 4·reg_max, M) to the distances (B, 4, M) in cells."""
        if self.reg_max == 1:
            return boxes
        place, bins = f"{self.module.place}.distribution", self.reg_max
        count = boxes.fixed(2)
        target = builder.constant(
            f"{place}.shape", np.array([0, 4, bins, -1 if builder.dynamic_hw else count]), "int64"
        )
        four = builder.node("Reshape", place, (boxes, target), (boxes.shape[0], 4, bins, count))
        share = builder.node("Softmax", f"{place}.softmax", (four,), four.shape, axis=2)
        steps = builder.constant(f"{place}.steps", np.arange(bins).reshape(1, 1, bins, 1))
        weighed = builder.node("Mul", f"{place}.weighed", (share, steps), four.shape)
        axes = builder.constant(f"{place}.axes", np.array([2]), "int64")
        return builder.node("ReduceSum", f"{place}.mean", (weighed, axes), (boxes.shape[0], 4, count), keepdims=0)

    def _emit_raw(self, builder: Builder, config: GraphConfig, cells: Cells) -> None:
        boxes, extras = self._decoded(builder, cells, "xywh")
        scores = builder.node("Sigmoid", f"{self.module.place}.scores", (cells.classes,), cells.classes.shape)
        parts = [boxes, scores] if extras is None else [boxes, scores, extras]
        output = _concat(builder, f"{self.module.place}.concat", parts, axis=1)
        shape = (batch_axis(config), output.channels, _cell_axis(builder, output.shape[2]))
        builder.output(output, TensorSpec("output0", "float32", shape))

    def _emit_selected(self, builder: Builder, config: GraphConfig, cells: Cells) -> None:
        """Write the best class of every cell, and suppression after it if the form has it."""
        place, batch = self.module.place, batch_axis(config)
        boxes, extras = self._decoded(builder, cells, "xyxy")
        boxes = _rows(builder, f"{place}.boxes_xyxy", boxes)
        extras = None if extras is None else _rows(builder, f"{place}.extras.rows", extras)
        scores, class_ids = _best_class(builder, place, cells.classes, logits=True)
        if config.nms is not None:
            emit_suppression(builder, config.nms, batch, (boxes, scores, class_ids), extras, self.choose)
            return
        outputs = [("boxes_xyxy", boxes), ("scores", scores), ("class_ids", class_ids)]
        for name, wire in outputs if extras is None else [*outputs, ("extras", extras)]:
            axis = _cell_axis(builder, wire.shape[1])
            builder.output(wire, TensorSpec(name, wire.dtype, (batch, axis, *wire.shape[2:])))

    def _emit_end2end(self, builder: Builder, config: GraphConfig, cells: Cells) -> None:
        """Write the best rows: of the best cells by their best class, the best pairs of a cell and a class."""
        place, batch = f"{self.module.place}.end2end", cells.classes.shape[0]
        limit = MAX_FINAL if builder.dynamic_hw else min(MAX_FINAL, cells.classes.fixed(2))
        if builder.dynamic_hw:  # a small input may have fewer cells than TopK must give
            cells = _padded(builder, place, cells, limit)
        best = builder.node(
            "ReduceMax", f"{place}.best", (cells.classes,), (batch, cells.classes.shape[2]), axes=(1,), keepdims=0
        )
        _, places = _top(builder, f"{place}.cells", best, limit)
        chosen = _gathered_cells(builder, place, cells, places, limit)
        flat = builder.constant(f"{place}.flat.shape", np.array([0, self.classes * limit]), "int64")
        pairs = builder.node("Reshape", f"{place}.flat", (chosen.classes, flat), (batch, self.classes * limit))
        logits, pair = _top(builder, f"{place}.pairs", pairs, limit)
        width = builder.constant(f"{place}.limit", np.int64(limit), "int64")
        class_ids = builder.node("Div", f"{place}.class", (pair, width), pair.shape, "int64")
        first = builder.node("Mul", f"{place}.first", (class_ids, width), pair.shape, "int64")
        cell = builder.node("Sub", f"{place}.cell", (pair, first), pair.shape, "int64")
        boxes, extras = self._decoded(builder, chosen, self.end2end_layout)
        scores = builder.node("Sigmoid", f"{place}.scores", (logits,), logits.shape)
        ids = builder.node("Cast", f"{place}.class_ids", (class_ids,), pair.shape, to=FLOAT)
        parts = [_gathered(builder, f"{place}.boxes", boxes, cell, limit)]
        parts += [_as_column(builder, f"{place}.{name}", wire) for name, wire in (("score", scores), ("id", ids))]
        if extras is not None:
            parts.append(_gathered(builder, f"{place}.extras", extras, cell, limit))
        rows = _rows(builder, f"{place}.rows", _concat(builder, f"{place}.columns", parts, axis=1))
        builder.output(rows, TensorSpec("output0", "float32", (batch_axis(config), limit, rows.fixed(2))))

    @classmethod
    def emit_candidates(
        cls, builder: Builder, decoded: TensorSpec, batch: Axis, columns: tuple[int, int], place: str
    ) -> tuple[tuple[Wire, Wire, Wire], Wire | None]:
        """Write what picks candidates, with the arithmetic and order of `yoloship.tasks.anchor_free.ChannelRows`."""
        axis = decoded.shape[2] if len(decoded.shape) == 3 else BOXES
        count = axis if isinstance(axis, int) else PROBE_ROWS
        spec = TensorSpec(decoded.name, "float32", (batch, 4 + sum(columns), axis))
        rows = builder.input(spec, (batch, 4 + sum(columns), count))
        sizes = (2, 2, *columns) if columns[1] else (2, 2, columns[0])
        xy, wh, scores, *further = split(builder, f"{place}.split", rows, sizes, axis=1)
        half = builder.node("Mul", f"{place}.half", (wh, builder.constant(f"{place}.half.factor", 0.5)), wh.shape)
        low = builder.node("Sub", f"{place}.low", (xy, half), xy.shape)
        high = builder.node("Add", f"{place}.high", (xy, half), xy.shape)
        boxes = builder.node("Concat", f"{place}.corners", (low, high), (batch, 4, count), axis=1)
        best, class_ids = _best_class(builder, place, scores, logits=False)
        extras = _rows(builder, f"{place}.extras", further[0]) if further else None
        return (_rows(builder, f"{place}.boxes_xyxy", boxes), best, class_ids), extras


def _check_distribution(layer: ModuleView, reg_max: int) -> None:
    """Refuse a head whose distances are not the means of 0, 1, 2, …, as every version has it."""
    child = layer.child("dfl")
    if reg_max == 1:
        if child.torch_name != "Identity":
            raise child.error("is not supported in this place", expected="torch.nn.Identity, because reg_max is 1")
        return
    child.require("c1", reg_max)
    weight = child.child("conv").array("weight", 1, reg_max, 1, 1)
    if (weight.ravel() != np.arange(reg_max)).any():
        raise child.error("its weights were changed", expected=f"0, 1, … {reg_max - 1}", got=weight.ravel()[:4])


def _cell_axis(builder: Builder, count: Axis) -> Axis:
    return BOXES if builder.dynamic_hw else count


def _concat(builder: Builder, name: str, parts: Sequence[Wire], *, axis: int) -> Wire:
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] = sum(part.fixed(axis) for part in parts)
    return builder.node("Concat", name, parts, tuple(shape), axis=axis)


def _rows(builder: Builder, name: str, wire: Wire) -> Wire:
    """(B, K, M) to (B, M, K)."""
    batch, columns, count = wire.shape
    return builder.node("Transpose", name, (wire,), (batch, count, columns), perm=(0, 2, 1))


def _as_column(builder: Builder, name: str, wire: Wire) -> Wire:
    """(B, M) to (B, 1, M)."""
    axes = builder.constant(f"{name}.axes", np.array([1]), "int64")
    return builder.node("Unsqueeze", name, (wire, axes), (wire.shape[0], 1, wire.shape[1]), wire.dtype)


def _best_class(builder: Builder, place: str, classes: Wire, *, logits: bool) -> tuple[Wire, Wire]:
    """Score and id of the best class of each cell, both (B, N); of equal ones, the first."""
    shape = (classes.shape[0], classes.shape[2])
    best = builder.node("ReduceMax", f"{place}.best", (classes,), shape, axes=(1,), keepdims=0)
    if logits:
        best = builder.node("Sigmoid", f"{place}.scores", (best,), shape)
    index = builder.node("ArgMax", f"{place}.argmax", (classes,), shape, "int64", axis=1, keepdims=0)
    return best, builder.node("Cast", f"{place}.class_ids", (index,), shape, "int32", to=INT32)


def _top(builder: Builder, name: str, wire: Wire, count: int) -> tuple[Wire, Wire]:
    """The largest values of each row, sorted, and their indices: both (B, count)."""
    k = builder.constant(f"{name}.k", np.array([count]), "int64")
    shape = (wire.shape[0], count)
    values, places = builder.nodes("TopK", name, (wire, k), (shape, shape), ("float32", "int64"), axis=1)
    return values, places


def _gathered(builder: Builder, name: str, wire: Wire, places: Wire, count: int) -> Wire:
    """(B, K, M) at the indices (B, count): (B, K, count)."""
    batch, columns = wire.shape[0], wire.fixed(1)
    index = _as_column(builder, f"{name}.index", places)
    target = builder.constant(f"{name}.expand.shape", np.array([1, columns, 1]), "int64")
    shape = (batch, columns, count)
    index = builder.node("Expand", f"{name}.expand", (index, target), shape, "int64")
    return builder.node("GatherElements", name, (wire, index), shape, axis=_GATHER_AXIS)


def _gathered_cells(builder: Builder, place: str, cells: Cells, places: Wire, count: int) -> Cells:
    """Those cells, image by image. The points are one table for all images."""
    batch, total = places.shape[0], cells.points.shape[2]
    axes = builder.constant(f"{place}.points.axes", np.array([0]), "int64")
    table = builder.node("Squeeze", f"{place}.points.table", (cells.points, axes), (3, total))
    points = builder.node("Gather", f"{place}.points.gather", (table, places), (3, batch, count), axis=1)
    points = builder.node("Transpose", f"{place}.points", (points,), (batch, 3, count), perm=(1, 0, 2))
    extras = cells.extras
    return Cells(
        _gathered(builder, f"{place}.chosen.boxes", cells.boxes, places, count),
        _gathered(builder, f"{place}.chosen.classes", cells.classes, places, count),
        None if extras is None else _gathered(builder, f"{place}.chosen.extras", extras, places, count),
        points,
    )


def _padded(builder: Builder, place: str, cells: Cells, count: int) -> Cells:
    """The cells and `count` more that have no score and no size."""

    def pad(name: str, wire: Wire, value: float) -> Wire:
        amount = builder.constant(f"{place}.{name}.pads", np.array([0, 0, 0, 0, 0, count]), "int64")
        filler = builder.constant(f"{place}.{name}.value", np.float64(value))
        shape = (*wire.shape[:2], wire.fixed(2) + count)
        return builder.node("Pad", f"{place}.{name}.padded", (wire, amount, filler), shape, mode="constant")

    return Cells(
        pad("boxes", cells.boxes, 0.0),
        pad("classes", cells.classes, _NOTHING),
        None if cells.extras is None else pad("extras", cells.extras, 0.0),
        pad("points", cells.points, 0.0),
    )
