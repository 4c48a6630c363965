"""Non-maximum suppression inside the graph: in a graph that we write, or appended to a finished one.

TensorRT-RTX parses ONNX's NonMaxSuppression but does not build it, and it refuses plugins and NonZero. So the graph
takes the best K candidates (TopK), computes a K×K matrix of clashes (IoU above the threshold, same class), and finds
the greedy choice as a fixed point. A candidate is kept if no kept candidate before it clashes with it. The map
k ↦ ¬(clashes · k), started with all candidates, reaches the only fixed point after as many steps as the longest chain
of clashes. Each step is one product with a 0/1 matrix, which is exact in float32 (sums are at most 3840).

The map reverses inclusions. So after an even number of steps the set contains the greedy choice and perhaps more. If
the iterations do not suffice, the output has extra boxes and misses none, and suppressing it once more gives exactly
the greedy choice. `exact` says for each image whether that is needed. It also says if that would not help, because
candidates beyond the K best, which the graph ignores, may be missing.

The arithmetic is that of `yoloship.tasks.nms.nms_reference`, operation by operation. One thing depends on the runtime:
which of two equal scores TopK puts first. ONNX requires the lower index, but TensorRT does not promise it.

For a finished graph, the head of its family says how candidates are picked from the decoded output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from yoloship._version import __version__
from yoloship.bounds.outline import FLOAT, INT32
from yoloship.errors import GraphError
from yoloship.graph.builder import Builder
from yoloship.graph.onnx_file import opset, tensor_spec
from yoloship.graph.passes.half import at_opset
from yoloship.graph.serialize import OPSET, to_onnx
from yoloship.model import METADATA_KEY, ModelInfo, NmsConfig, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from yoloship.graph.builder import Attribute, Graph, Wire
    from yoloship.graph.heads.head import Head
    from yoloship.model import Axis, DType


PLACE = "nms"
_LARGEST = float(np.finfo(np.float32).max)
_DROPPED = -1.0
"""Score of an empty candidate. Real scores are not negative."""
_PLACE: Final = "candidates"


@dataclass(frozen=True, slots=True)
class Best:
    """The K candidates with the best scores, best first.

    Attributes:
        boxes: (B, K, 4) float32, model pixels.
        scores: (B, K) float32.
        class_ids: (B, K) int32.
        extras: (B, K, E) float32; None if a candidate has nothing beside.
    """

    boxes: Wire
    scores: Wire
    class_ids: Wire
    extras: Wire | None

    @property
    def count(self) -> int:
        """K."""
        return self.scores.fixed(1)


class Choose(Protocol):
    """A way to suppress."""

    def __call__(self, writer: Writer, nms: NmsConfig, best: Best, alive: Wire) -> tuple[Wire, Wire | None]:
        """Write which of the best candidates are kept.

        Args:
            writer: Takes the nodes.
            nms: Thresholds.
            best: The candidates.
            alive: (B, 1, K) bool: above the threshold, with finite coordinates.

        Returns:
            (B, 1, K) float32 of 0 and 1; and (B, 1) bool, whether that is final, or None if it always is.
        """


def emit_suppression(
    builder: Builder,
    nms: NmsConfig,
    batch: Axis,
    candidates: tuple[Wire, Wire, Wire],
    extras: Wire | None = None,
    choose: Choose | None = None,
) -> None:
    """Write the operators and declare the outputs.

    With M = `nms.max_detections`, the outputs have the best rows first. Rows past the count are zero, with class id −1:

    - ``boxes_xyxy`` (B, M, 4) float32, model pixels;
    - ``scores`` (B, M) float32;
    - ``class_ids`` (B, M) int32;
    - ``count`` (B,) int32;
    - ``exact`` (B,) int32: 1 if the iteration converged and no candidate beyond the K best could matter. 0 if it did
      not converge, so suppressing once more gives the exact result. −1 if there are candidates beyond the K best and
      fewer than M boxes were kept, so boxes may be missing.
    - ``extras`` (B, M, E) float32: what each kept candidate has beside; only if there is something.

    Args:
        builder: Takes the nodes.
        nms: Thresholds and limits.
        batch: The batch axis.
        candidates: Boxes (B, N, 4) float32 in model pixels, scores (B, N) float32, class ids (B, N) int32.
        extras: (B, N, E) float32: mask coefficients or the like.
        choose: The way to suppress; None is the greedy one, by IoU.
    """
    writer = Writer(builder, batch)
    boxes, scores, class_ids = candidates
    threshold = writer.scalar("score_threshold", nms.score_threshold)
    above = writer.op("Greater", "above", (scores, threshold), scores.shape, "bool")
    usable = writer.op("Where", "usable_scores", (above, scores, writer.scalar("dropped", _DROPPED)), scores.shape)
    limit = nms.candidates if builder.dynamic_hw else min(nms.candidates, scores.fixed(1))
    if builder.dynamic_hw:  # a small input may have fewer cells than TopK must give
        usable = writer.pad("padded_scores", usable, 1, limit, _DROPPED)
        boxes = writer.pad("padded_boxes", boxes, 1, limit, 0.0)
        class_ids = writer.pad("padded_class_ids", class_ids, 1, limit, 0)
        extras = None if extras is None else writer.pad("padded_extras", extras, 1, limit, 0.0)

    best_scores, places = writer.top("best", usable, limit)
    best = Best(
        writer.gather("best_boxes", boxes, places, limit),
        best_scores,
        writer.gather("best_classes", class_ids, places, limit),
        None if extras is None else writer.gather("best_extras", extras, places, limit),
    )
    alive = _alive(writer, best.boxes, best.scores, threshold, limit)
    kept, rests = (choose or _greedy)(writer, nms, best, alive)
    front = _emit_kept(writer, nms, kept, best)
    _emit_exact(writer, nms, rests, kept, above, limit)
    if best.extras is not None:
        _emit_extras(writer, nms, best.extras, front)


def _greedy(writer: Writer, nms: NmsConfig, best: Best, alive: Wire) -> tuple[Wire, Wire]:
    """Write the greedy choice by IoU."""
    return _fixed_point(writer, nms, alive, _clashes(writer, nms, best.boxes, best.class_ids, best.count))


def _alive(writer: Writer, boxes: Wire, scores: Wire, threshold: Wire, limit: int) -> Wire:
    """(B, 1, K) bool: above the threshold and all coordinates finite. |NaN| ≤ x is false, so NaN is dropped too."""
    batch = writer.batch
    passes = writer.op("Greater", "passes", (scores, threshold), scores.shape, "bool")
    size = writer.op("Abs", "magnitude", (boxes,), boxes.shape)
    finite = writer.op("LessOrEqual", "finite", (size, writer.scalar("largest", _LARGEST)), boxes.shape, "bool")
    number = writer.op("Cast", "finite.number", (finite,), boxes.shape, to=FLOAT)
    least = writer.op("ReduceMin", "finite.all", (number,), (batch, limit), axes=(2,), keepdims=0)
    half = writer.scalar("half", 0.5)
    all_finite = writer.op("Greater", "finite.box", (least, half), (batch, limit), "bool")
    alive = writer.op("And", "alive", (passes, all_finite), (batch, limit), "bool")
    return writer.unsqueeze("alive.row", alive, 1, (batch, 1, limit))


def _clashes(writer: Writer, nms: NmsConfig, boxes: Wire, class_ids: Wire, limit: int) -> Wire:
    """(B, K, K) float32: 1 if candidate j, which comes before i and so is better, removes i if j itself is kept."""
    batch, square = writer.batch, (writer.batch, limit, limit)
    sides = writer.split("sides", boxes, 4)
    rows = [writer.reshaped(f"side{k}.row", side, (0, limit, 1), (batch, limit, 1)) for k, side in enumerate(sides)]
    columns = [writer.reshaped(f"side{k}.column", s, (0, 1, limit), (batch, 1, limit)) for k, s in enumerate(sides)]
    zero = writer.scalar("zero", 0.0)

    def extent(name: str, ends: list[Wire], axis: int, shape: tuple[Axis, ...]) -> Wire:
        length = writer.op("Sub", f"{name}.difference", (ends[axis + 2], ends[axis]), shape)
        return writer.op("Max", name, (length, zero), shape)

    def area(name: str, ends: list[Wire], shape: tuple[Axis, ...]) -> Wire:
        width, height = extent(f"{name}.width", ends, 0, shape), extent(f"{name}.height", ends, 1, shape)
        return writer.op("Mul", name, (width, height), shape)

    low = [writer.op("Max", f"overlap.low{k}", (rows[k], columns[k]), square) for k in range(2)]
    high = [writer.op("Min", f"overlap.high{k}", (rows[k], columns[k]), square) for k in range(2, 4)]
    overlap = area("overlap", [*low, *high], square)
    areas = area("area.row", rows, (batch, limit, 1)), area("area.column", columns, (batch, 1, limit))
    both = writer.op("Add", "area.sum", areas, square)
    union = writer.op("Sub", "union", (both, overlap), square)
    iou = writer.op("Div", "iou", (overlap, union), square)
    over = writer.op("Greater", "iou.above", (iou, writer.scalar("iou_threshold", nms.iou_threshold)), square, "bool")
    solid = writer.op("Greater", "union.solid", (union, zero), square, "bool")
    clash = writer.op("And", "clash.solid", (over, solid), square, "bool")
    clash = clash if nms.class_agnostic else writer.of_one_class(clash, class_ids, limit)
    number = writer.op("Cast", "clash.number", (clash,), square, to=FLOAT)
    earlier = writer.constant("earlier", np.triu(np.ones((1, limit, limit)), 1))
    return writer.op("Mul", "clashes", (number, earlier), square)


def _fixed_point(writer: Writer, nms: NmsConfig, alive: Wire, clashes: Wire) -> tuple[Wire, Wire]:
    """Which candidates are kept, (B, 1, K), and whether the last step changed nothing, (B, 1): float32 of 0 and 1.

    A candidate that is not alive gets a limit that no sum is below, so each step is one product and one comparison.
    """
    shape = alive.shape
    half, never = writer.scalar("half", 0.5), writer.scalar("never", -1.0)
    bound = writer.op("Where", "bound", (alive, half, never), shape)
    kept = writer.op("Cast", "kept0", (alive,), shape, to=FLOAT)
    before = kept
    for step in range(1, nms.iterations + 1):
        before = kept
        hits = writer.op("MatMul", f"hits{step}", (before, clashes), shape)
        free = writer.op("Less", f"free{step}", (hits, bound), shape, "bool")
        kept = writer.op("Cast", f"kept{step}", (free,), shape, to=FLOAT)
    difference = writer.op("Sub", "rest.difference", (kept, before), shape)
    change = writer.op("Abs", "rest.change", (difference,), shape)
    most = writer.op("ReduceMax", "rest.most", (change,), (writer.batch, 1), axes=(2,), keepdims=0)
    rests = writer.op("Less", "rest", (most, half), (writer.batch, 1), "bool")
    return kept, rests


def _emit_kept(writer: Writer, nms: NmsConfig, kept: Wire, best: Best) -> tuple[Wire, Wire]:
    """Write the outputs: the kept candidates moved to the front and padded to M rows.

    Returns:
        The indices of the front rows, and which of them were kept, both (B, min(M, K)).
    """
    limit, rows = best.count, min(nms.max_detections, best.count)
    shape = (writer.batch, rows)
    flat = writer.reshaped("kept.flat", kept, (0, limit), (writer.batch, limit))
    rank = writer.constant("rank", np.arange(limit, 0, -1)[None])
    key = writer.op("Mul", "kept.rank", (flat, rank), flat.shape)
    front, places = writer.top("front", key, rows)
    valid = writer.op("Greater", "valid", (front, writer.scalar("half", 0.5)), shape, "bool")
    column = writer.unsqueeze("valid.column", valid, 2, (*shape, 1))
    zero, none = writer.scalar("zero", 0.0), writer.scalar("none", -1, "int32")
    boxes, scores, class_ids = (
        writer.gather(f"front{k}", wire, places, rows)
        for k, wire in enumerate((best.boxes, best.scores, best.class_ids))
    )
    boxes = writer.op("Where", "final_boxes", (column, boxes, zero), boxes.shape)
    scores = writer.op("Where", "final_scores", (valid, scores, zero), shape)
    class_ids = writer.op("Where", "final_class_ids", (valid, class_ids, none), shape, "int32")
    if missing := nms.max_detections - rows:
        boxes = writer.pad("all_boxes", boxes, 1, missing, 0.0)
        scores = writer.pad("all_scores", scores, 1, missing, 0.0)
        class_ids = writer.pad("all_class_ids", class_ids, 1, missing, -1)
    number = writer.op("Cast", "valid.number", (valid,), shape, "int32", to=INT32)
    writer.output("boxes_xyxy", boxes, (nms.max_detections, 4))
    writer.output("scores", scores, (nms.max_detections,))
    writer.output("class_ids", class_ids, (nms.max_detections,))
    writer.output("count", writer.total("count", number), ())
    return places, valid


def _emit_extras(writer: Writer, nms: NmsConfig, best: Wire, front: tuple[Wire, Wire]) -> None:
    """Write the further columns of the kept candidates, (B, K, E), in the order of the other outputs."""
    places, valid = front
    rows = places.fixed(1)
    column = writer.unsqueeze("extras.valid", valid, 2, (*valid.shape, 1))
    extras = writer.gather("front_extras", best, places, rows)
    extras = writer.op("Where", "final_extras", (column, extras, writer.scalar("zero", 0.0)), extras.shape)
    if missing := nms.max_detections - rows:
        extras = writer.pad("all_extras", extras, 1, missing, 0.0)
    writer.output("extras", extras, (nms.max_detections, extras.fixed(2)))


def _emit_exact(writer: Writer, nms: NmsConfig, converged: Wire | None, kept: Wire, above: Wire, limit: int) -> None:
    """Write `exact`. An image is complete if every candidate was considered, or if as many were kept as fit.

    With both conditions as numbers, `exact` is (converged + 1) · complete − 1.
    """
    column = (writer.batch, 1)
    settled = writer.scalar("one", 1.0)
    if converged is not None:
        settled = writer.op("Cast", "rest.number", (converged,), column, to=FLOAT)
    found = writer.total("found", writer.op("Cast", "above.number", (above,), above.shape, to=FLOAT), keep=True)
    seen = writer.op("Less", "found.all", (found, writer.scalar("room", limit + 0.5)), column, "bool")
    flat = writer.reshaped("kept.row", kept, (0, limit), (writer.batch, limit))
    full = writer.op(
        "Greater", "full", (writer.total("kept.sum", flat, keep=True), writer.scalar("most", nms.max_detections - 0.5)),
        column, "bool",
    )  # fmt: skip
    complete = writer.op(
        "Cast", "enough", (writer.op("Or", "seen_or_full", (seen, full), column, "bool"),), column, to=1
    )
    one = writer.scalar("one", 1.0)
    either = writer.op("Add", "exact.rest", (settled, one), settled.shape)
    exact = writer.op("Sub", "exact.state", (writer.op("Mul", "exact.both", (either, complete), column), one), column)
    number = writer.op("Cast", "exact.number", (exact,), column, "int32", to=INT32)
    writer.output("exact", writer.reshaped("exact.flat", number, (-1,), (writer.batch,)), ())


class Writer:
    """The builder, with a prefix for names, and with operators that take their shape as an input."""

    def __init__(self, builder: Builder, batch: Axis) -> None:
        self._builder = builder
        self.batch = batch
        self._scalars: dict[str, Wire] = {}

    def op(
        self,
        op: str,
        name: str,
        inputs: tuple[Wire, ...],
        shape: tuple[Axis, ...],
        dtype: DType = "float32",
        **attributes: Attribute,
    ) -> Wire:
        """An operator with one output; see `Builder.node`."""
        return self._builder.node(op, f"{PLACE}.{name}", inputs, shape, dtype, **attributes)

    def scalar(self, name: str, value: float, dtype: DType = "float32") -> Wire:
        """A number, stored once for each name."""
        if name not in self._scalars:
            self._scalars[name] = self.constant(name, np.array(value), dtype)
        return self._scalars[name]

    def constant(self, name: str, values: npt.ArrayLike, dtype: DType = "float32") -> Wire:
        """An initializer."""
        return self._builder.constant(f"{PLACE}.{name}", values, dtype)

    def top(self, name: str, wire: Wire, count: int) -> tuple[Wire, Wire]:
        """The largest values of each row and their indices, (B, count)."""
        k = self.constant(f"{name}.k", np.array([count]), "int64")
        shape = (self.batch, count)
        values, places = self._builder.nodes("TopK", f"{PLACE}.{name}", (wire, k), (shape, shape), ("float32", "int64"))
        return values, places

    def gather(self, name: str, wire: Wire, places: Wire, count: int) -> Wire:
        """Rows (B, count, …) of (B, N, …) by indices (B, count), image by image."""
        index = self.unsqueeze(f"{name}.index", places, 2, (self.batch, count, 1))
        shape = (self.batch, count, *wire.shape[2:])
        return self.op("GatherND", name, (wire, index), shape, wire.dtype, batch_dims=1)

    def split(self, name: str, wire: Wire, parts: int) -> tuple[Wire, ...]:
        """(B, K, n) to n parts (B, K, 1)."""
        sizes = self.constant(f"{name}.sizes", np.ones(parts), "int64")
        shapes = [(*wire.shape[:2], 1)] * parts
        return self._builder.nodes("Split", f"{PLACE}.{name}", (wire, sizes), shapes, wire.dtype, axis=2)

    def of_one_class(self, clash: Wire, class_ids: Wire, limit: int) -> Wire:
        """The clashes (B, K, K) of candidates that have the same class."""
        row = self.reshaped("class.row", class_ids, (0, limit, 1), (self.batch, limit, 1))
        column = self.reshaped("class.column", class_ids, (0, 1, limit), (self.batch, 1, limit))
        same = self.op("Equal", "class.same", (row, column), clash.shape, "bool")
        return self.op("And", "clash.same", (clash, same), clash.shape, "bool")

    def reshaped(self, name: str, wire: Wire, target: tuple[int, ...], shape: tuple[Axis, ...]) -> Wire:
        """A Reshape to `target`, where 0 keeps an extent; `shape` is the result."""
        return self.op(
            "Reshape", name, (wire, self.constant(f"{name}.shape", np.array(target), "int64")), shape, wire.dtype
        )

    def unsqueeze(self, name: str, wire: Wire, axis: int, shape: tuple[Axis, ...]) -> Wire:
        """A new axis of one entry; `shape` is the result."""
        return self.op(
            "Unsqueeze", name, (wire, self.constant(f"{name}.axes", np.array([axis]), "int64")), shape, wire.dtype
        )

    def pad(self, name: str, wire: Wire, axis: int, count: int, value: float) -> Wire:
        """Append `count` entries of one value along an axis."""
        rank = len(wire.shape)
        pads = np.zeros(2 * rank)
        pads[rank + axis] = count
        amount = self.constant(f"{name}.pads", pads, "int64")
        filler = self.constant(f"{name}.value", np.array(value), wire.dtype)
        extents = list(wire.shape)
        extents[axis] = wire.fixed(axis) + count
        return self.op("Pad", name, (wire, amount, filler), tuple(extents), wire.dtype, mode="constant")

    def total(self, name: str, wire: Wire, *, keep: bool = False) -> Wire:
        """Sums of (B, n) over n: (B,), or (B, 1)."""
        axes = self.constant(f"{name}.axes", np.array([1]), "int64")
        shape = (self.batch, 1) if keep else (self.batch,)
        return self.op("ReduceSum", name, (wire, axes), shape, wire.dtype, keepdims=int(keep))

    def output(self, name: str, wire: Wire, tail: tuple[int, ...]) -> None:
        """Declare an output (B, …)."""
        self._builder.output(wire, TensorSpec(name, wire.dtype, (self.batch, *tail)))


def append_suppression(model: onnx.ModelProto, info: ModelInfo, nms: NmsConfig) -> onnx.ModelProto:
    """Append suppression to a graph whose output is decoded.

    Args:
        model: One of its outputs has the standard form of its family, in float32 or float16. Prototypes of masks stay
            an output; all others are dropped. The model is not changed.
        info: The model's record.
        nms: Thresholds and limits.

    Returns:
        A new model whose output form has suppression inside, with our record.

    Raises:
        GraphError: its output has another form, prototypes are missing, or it has values with the names of the new
            outputs.
    """
    from onnx import ModelProto, helper

    subject = model.graph.name[:60] or "graph"
    named = {value.name: value for value in model.graph.output}
    spec = tensor_spec(named.get(info.decoded_output or "", model.graph.output[0]), subject)
    head = _head_of(info, subject)
    if info.output_form != head.forms[0] or spec.dtype not in {"float32", "float16"}:
        raise GraphError(
            f"suppression follows the {head.forms[0]} form only",
            subject=subject,
            expected=f"an output float32{head.shape_text(len(info.class_names))}",
            got=f"{info.output_form}, {spec}",
        )
    kept = _more_outputs(model, info, subject) if head.more_outputs else []
    whole = ModelProto()
    whole.CopyFrom(at_opset(model, OPSET))
    graph = whole.graph
    if spec.dtype == "float16":
        wide = replace(spec, name=f"{spec.name}.{_PLACE}", dtype="float32")
        graph.node.append(helper.make_node("Cast", [spec.name], [wide.name], wide.name, to=FLOAT))
        spec = wide
    tail = at_opset(to_onnx(_tail(spec, info, nms, head), {}), opset(whole)).graph
    taken = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    made = {name for node in tail.node for name in node.output} | {tensor.name for tensor in tail.initializer}
    if clash := sorted(taken & made):
        raise GraphError("has a value with a name that suppression needs", subject=subject, got=clash[0][:60])
    graph.node.extend(tail.node)
    graph.initializer.extend(tail.initializer)
    del graph.output[:]
    graph.output.extend([*tail.output, *kept])
    ours = replace(
        info, output_form=head.suppressed or "", nms=nms, decoded_output=None, producer=f"yoloship {__version__}"
    )
    texts = {entry.key: entry.value for entry in model.metadata_props} | {METADATA_KEY: ours.to_json()}
    del whole.metadata_props[:]
    helper.set_model_props(whole, texts)
    return whole


def _head_of(info: ModelInfo, subject: str) -> type[Head]:
    """The head that writes such a model.

    Raises:
        GraphError: the family is not known here, or suppression cannot follow its output.
    """
    from yoloship.graph.families import FAMILIES

    if info.family not in FAMILIES:
        raise GraphError(
            f"is of the family {info.family[:40]!r}, whose output is not known here",
            subject=subject,
            expected=", ".join(FAMILIES),
        )
    head = FAMILIES.load(info.family)().head_for(info.task)
    if head is None or head.suppressed is None:
        raise GraphError("has no output that suppression can follow", subject=subject)
    return head


def _more_outputs(model: onnx.ModelProto, info: ModelInfo, subject: str) -> list[onnx.ValueInfoProto]:
    """The output with the prototypes of masks, (B, P, h, w), one for each further column.

    Raises:
        GraphError: there is none.
    """
    for value in reversed(model.graph.output):
        shape = tensor_spec(value, subject).shape
        if len(shape) == 4 and shape[1] == info.extra_columns:
            return [value]
    raise GraphError(
        "has no prototypes, which masks are made of", subject=subject,
        expected=f"an output (B, {info.extra_columns}, h, w)",
    )  # fmt: skip


def _tail(decoded: TensorSpec, info: ModelInfo, nms: NmsConfig, head: type[Head]) -> Graph:
    """A graph from the decoded output to final detections. Its input has the name of that output."""
    batch = decoded.shape[0] if info.batch is None else info.batch
    is_open = len(decoded.shape) != 3 or any(isinstance(axis, str) for axis in decoded.shape[1:])
    builder = Builder(dynamic_hw=is_open)
    columns = len(info.class_names), info.extra_columns
    candidates, extras = head.emit_candidates(builder, decoded, batch, columns, _PLACE)
    emit_suppression(builder, nms, batch, candidates, extras, head.choose)
    return builder.build("suppression")
