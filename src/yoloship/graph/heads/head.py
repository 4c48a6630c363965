"""`Head`, the base class of all heads, and operators that several heads need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from yoloship.bounds.outline import FLOAT
from yoloship.checkpoint.records import Tensor
from yoloship.errors import GraphError
from yoloship.graph.config import BATCH
from yoloship.model import FASTEST, STANDARD, UsualNms, usual_iou

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from yoloship.checkpoint.records import Value
    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.config import GraphConfig
    from yoloship.graph.module_view import ModuleView
    from yoloship.graph.passes.suppression import Choose
    from yoloship.model import Anchors, Axis, ClassScores, HeadChoice, KeypointShape, TensorSpec


MAX_STRIDE: Final = 4096
BOXES: Final = "boxes"
"""The name of the dynamic axis over all boxes."""
NO_METADATA: Final[Mapping[str, Value]] = MappingProxyType({})
PROBE_ROWS: Final = 4096
"""The number of rows that is assumed if a finished graph leaves it open. No constant holds it."""


@dataclass(frozen=True, slots=True)
class Head(ABC):
    """The last layer of a network, and the writer of its output forms.

    Class attributes:
        task: The task of a model with this head.
        forms: Names of the output forms that it writes, as in the task. The first is the usual one.
        fastest: The form that our own detector uses by default.
        suppressed: The form with suppression inside; None if there is none.
        more_outputs: Whether the standard form has outputs beside the rows of boxes, such as prototypes of masks.
        choose: The way to suppress inside the graph; None is the greedy one, by IoU.
        iou_threshold: For suppression, as the family's own tool has it by default.

    Attributes:
        module: The module.
        classes: How many classes it has.
        strides: Model pixels per cell of each level, in the module's own order.
    """

    task: ClassVar[str]
    forms: ClassVar[tuple[str, ...]]
    fastest: ClassVar[str]
    suppressed: ClassVar[str | None] = None
    more_outputs: ClassVar[bool] = False
    choose: ClassVar[Choose | None] = None
    iou_threshold: ClassVar[float] = usual_iou("yolov5")

    module: ModuleView
    classes: int
    strides: tuple[int, ...]

    @classmethod
    @abstractmethod
    def read(cls, layer: ModuleView) -> Self:
        """Read the module.

        Raises:
            GraphError: it contradicts itself, or is not the kind of head that this class writes.
        """

    @abstractmethod
    def emit(self, builder: Builder, config: GraphConfig, inputs: Sequence[Wire], input_hw: tuple[int, int]) -> None:
        """Write the head in the chosen output form, and declare the graph's outputs.

        Args:
            builder: Takes the nodes.
            config: As `settled` gave it.
            inputs: One map for each level, in the head's order.
            input_hw: (height, width) in model pixels, to check the strides against.

        Raises:
            GraphError: a layer of the head cannot be written, or does not fit its inputs.
        """

    @classmethod
    @abstractmethod
    def shape_text(cls, classes: int) -> str:
        """The shape of the standard form's first output, for messages: ``(B, N, 85)``."""

    @classmethod
    def emit_candidates(
        cls, builder: Builder, decoded: TensorSpec, batch: Axis, columns: tuple[int, int], place: str
    ) -> tuple[tuple[Wire, Wire, Wire], Wire | None]:
        """Write the operators that pick candidates from the standard form, so suppression can follow a finished graph.

        Only heads with a form that has suppression inside need it.

        Args:
            builder: Takes the nodes. The number of rows is open if its height and width are.
            decoded: The first output of the standard form, float32. It becomes the input.
            batch: The batch axis.
            columns: How many classes the model has, and how many further columns (`ModelInfo.extra_columns`).
            place: The beginning of the nodes' names.

        Returns:
            Boxes (B, N, 4) float32 in model pixels, xyxy; scores (B, N) float32; class ids (B, N) int32. And beside
            them the further columns (B, N, E) float32; None if there are none.
        """
        raise NotImplementedError

    @property
    def choices(self) -> tuple[HeadChoice, ...]:
        """The heads between which `GraphConfig.head` chooses; empty for a network that cannot have two."""
        return ()

    @property
    def finest_first(self) -> tuple[int, ...]:
        """Indices of the levels, finest first. In the first release of YOLOv5 the coarsest level comes first."""
        return tuple(sorted(range(len(self.strides)), key=self.strides.__getitem__))

    @property
    def extra_columns(self) -> int:
        """How many numbers follow a row's class scores: mask coefficients, keypoints or an angle."""
        return 0

    @property
    def keypoint_shape(self) -> KeypointShape | None:
        """How many keypoints an object has, and how many numbers a keypoint; None for heads without them."""
        return None

    def keypoint_names(self, root: ModuleView) -> tuple[str, ...]:  # noqa: ARG002 - for heads with keypoints
        """Names of the keypoints, from the attributes of the whole model; empty if there are none.

        Raises:
            GraphError: the model's attributes contradict the head.
        """
        return ()

    def mask_rule(self, metadata: Mapping[str, Value]) -> str | None:  # noqa: ARG002 - for heads with masks
        """How the tool that wrote the checkpoint makes masks, a name in `yoloship.results.mask_rules.MASK_RULES`.

        Args:
            metadata: The plain data beside the network in the checkpoint, such as ``version``.
        """
        return None

    @property
    def anchors_finest_first(self) -> Anchors:
        """The anchors, finest level first, as in `ModelInfo`; empty for a head without anchors."""
        return ()

    @property
    def class_scores(self) -> ClassScores | None:
        """What a classification head gives; None for heads of other tasks."""
        return None

    def settled(self, config: GraphConfig, metadata: Mapping[str, Value] = NO_METADATA) -> GraphConfig:  # noqa: ARG002
        """The configuration with the real name of a form of this head, and with thresholds if the form needs them.

        Args:
            config: As the caller gave it.
            metadata: The plain data beside the network in the checkpoint, for heads whose default depends on them.

        Raises:
            GraphError: the head has no such form, thresholds were given for one that does not suppress, or one of two
                heads was chosen for a network that does not have two.
        """
        if config.head is not None:
            raise self.module.error(
                f"the head {config.head!r} was chosen, but this network has only one head", hint="leave it out"
            )
        return self.with_form(config)

    def with_form(self, config: GraphConfig) -> GraphConfig:
        """`settled` without the choice between two heads."""
        name = {STANDARD: self.forms[0], FASTEST: self.fastest}.get(config.output_form, config.output_form)
        if name not in self.forms:
            raise GraphError(
                "cannot have this value", subject="output_form", expected=f"one of {', '.join(self.forms)}",
                got=repr(name)[:60],
            )  # fmt: skip
        if config.nms is not None and name != self.suppressed:
            raise GraphError(
                "cannot have this value", subject="nms", expected=f"None for the output form {name!r}",
                got=repr(config.nms)[:60],
            )  # fmt: skip
        nms = config.nms or (UsualNms() if name == self.suppressed else None)
        return replace(config, output_form=name, nms=nms.at(self.iou_threshold) if isinstance(nms, UsualNms) else nms)


def read_strides(layer: ModuleView, levels: int) -> tuple[int, ...]:
    """Model pixels per cell of each level: a tensor among the attributes, a buffer, or a plain list.

    Raises:
        GraphError: they are not whole numbers, one for each level.
    """
    value = layer.optional_value("stride")
    if value is None:
        value = layer.optional_tensor("stride")
    if isinstance(value, Tensor):
        value = layer.checked("stride", value).float64().ravel().tolist()
    if isinstance(value, np.ndarray):
        value = value.ravel().tolist()
    if not isinstance(value, list | tuple) or len(value) != levels:
        raise layer.error("bad 'stride'", expected=f"{levels} whole numbers of pixels", got=value)
    strides = tuple(int(one) for one in value if isinstance(one, int | float) and one in range(1, MAX_STRIDE + 1))
    if len(strides) != levels:
        raise layer.error("bad 'stride'", expected=f"{levels} whole numbers of pixels", got=value)
    return strides


def split(builder: Builder, name: str, wire: Wire, sizes: tuple[int, ...], *, axis: int) -> tuple[Wire, ...]:
    """Write a Split into parts of these sizes."""
    lengths = builder.constant(f"{name}.sizes", np.array(sizes), "int64")
    shapes = [(*wire.shape[:axis], size, *wire.shape[axis + 1 :]) for size in sizes]
    return builder.nodes("Split", name, (wire, lengths), shapes, wire.dtype, axis=axis)


def join(builder: Builder, name: str, levels: Sequence[Wire]) -> Wire:
    """Write a Concat of the levels' rows, (B, N_l, …) to (B, N, …)."""
    first = levels[0]
    shape = (first.shape[0], sum(rows.fixed(1) for rows in levels), *first.shape[2:])
    return builder.node("Concat", name, levels, shape, first.dtype, axis=1)


def row_axis(builder: Builder, wire: Wire) -> Axis:
    """The axis over all rows, as an output declares it."""
    return BOXES if builder.dynamic_hw else wire.fixed(1)


def batch_axis(config: GraphConfig) -> Axis:
    """The axis over the images, as an output declares it."""
    return BATCH if config.batch is None else config.batch


def cell_lines(
    builder: Builder, place: str, wire: Wire, target: tuple[int, ...], shape: tuple[Axis, ...]
) -> tuple[Wire, Wire]:
    """Write the row and the column of each cell of a map, computed from the map's size at run time.

    Args:
        builder: Takes the nodes.
        place: The beginning of the nodes' names.
        wire: The map, (B, C, h, w).
        target: The shape of each result, with -1 for the axis over the h·w cells.
        shape: The same, with the probe size in place of -1.

    Returns:
        The rows and the columns, float32.
    """
    height, width = wire.hw
    scalar = builder.constant(f"{place}.grid.zero", np.int64(0), "int64")
    step = builder.constant(f"{place}.grid.one", np.int64(1), "int64")
    extents = builder.node("Shape", f"{place}.grid.shape", (wire,), (2,), "int64", start=2)
    lines = []
    for index, (name, count) in enumerate((("rows", height), ("columns", width))):
        which = builder.constant(f"{place}.grid.{name}.index", np.int64(index), "int64")
        length = builder.node("Gather", f"{place}.grid.{name}.count", (extents, which), (), "int64", axis=0)
        line = builder.node("Range", f"{place}.grid.{name}", (scalar, length, step), (count,), "int64")
        line = builder.node("Cast", f"{place}.grid.{name}.cast", (line,), (count,), to=FLOAT)
        if name == "rows":
            column = builder.constant(f"{place}.grid.{name}.axes", np.array([1]), "int64")
            line = builder.node("Unsqueeze", f"{place}.grid.{name}.column", (line, column), (count, 1))
        line = builder.node("Expand", f"{place}.grid.{name}.expand", (line, extents), (height, width))
        flat = builder.constant(f"{place}.grid.{name}.flat", np.array(target), "int64")
        lines.append(builder.node("Reshape", f"{place}.grid.{name}.reshape", (line, flat), shape))
    rows, columns = lines
    return rows, columns
