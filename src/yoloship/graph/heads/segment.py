"""Heads for segmentation: each box has mask coefficients, and the image has prototypes that they weigh.

Bolya et al., YOLACT, 2019: a mask is the sum of the prototypes, each times its coefficient, cut to the box. The graph
gives both; `yoloship.tasks.prototypes` makes the masks of the boxes that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from yoloship.checkpoint.records import Opaque
from yoloship.graph.blocks import add, emit
from yoloship.graph.config import HEIGHT, WIDTH
from yoloship.graph.heads.anchor import AnchorHead
from yoloship.graph.heads.anchor_free import DetectHead
from yoloship.graph.heads.head import batch_axis
from yoloship.graph.layers import upsampled
from yoloship.model import TensorSpec
from yoloship.results.mask_rules import rule_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from yoloship.checkpoint.records import Value
    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.config import GraphConfig
    from yoloship.graph.module_view import ModuleView
    from yoloship.model import Axis

MAX_COEFFICIENTS: Final = 1024
PROTOTYPES: Final = "prototypes"
"""Name of the output with the prototypes. In the standard form it is ``output1``, as in the field's exports."""


@dataclass(frozen=True, slots=True)
class AnchorSegment(AnchorHead):
    """The segmentation head of YOLOv5 7.0: its Segment module.

    Attributes:
        coefficients: How many prototypes there are, and how many mask coefficients each box has.
    """

    task = "segment"
    more_outputs = True

    coefficients: int = 0

    @classmethod
    def read(cls, layer: ModuleView) -> Self:
        """Read a Segment module."""
        coefficients = layer.integer("nm", 1, MAX_COEFFICIENTS)
        layer.integer("npr", 1)
        check_forward(layer)
        return cls(layer, *cls.read_levels(layer, coefficients), coefficients)

    @property
    def extra_columns(self) -> int:
        """How many mask coefficients follow a row's class scores."""
        return self.coefficients

    def mask_rule(self, metadata: Mapping[str, Value]) -> str:  # noqa: ARG002 - one signature
        """That of YOLOv5's ``segment/predict.py``."""
        return "yolov5"

    def emit(self, builder: Builder, config: GraphConfig, inputs: Sequence[Wire], input_hw: tuple[int, int]) -> None:
        """Write the boxes with their coefficients, then the prototypes, from the first level."""
        AnchorHead.emit(self, builder, config, inputs, input_hw)
        prototypes = emit(builder, self.module.child("proto"), inputs[:1])
        output_prototypes(builder, config, self.module, prototypes, self.coefficients, input_hw)


@dataclass(frozen=True, slots=True)
class SegmentHead(DetectHead):
    """The Segment module of YOLOv8 and 11, and the Segment26 of YOLO26, whose prototypes use all levels.

    Attributes:
        coefficients: How many prototypes there are, and how many mask coefficients each box has.
    """

    task = "segment"
    more_outputs = True
    branches = ("cv2", "cv3", "cv4")

    coefficients: int = 0

    @classmethod
    def read(cls, layer: ModuleView) -> Self:
        """Read the module."""
        coefficients = layer.integer("nm", 1, MAX_COEFFICIENTS)
        layer.integer("npr", 1)
        check_forward(layer)
        return replace(super(SegmentHead, cls).read(layer), coefficients=coefficients)

    @property
    def extra_columns(self) -> int:
        """How many mask coefficients follow a row's class scores."""
        return self.coefficients

    def mask_rule(self, metadata: Mapping[str, Value]) -> str:
        """That of the version that wrote the checkpoint."""
        return rule_of(metadata.get("version"))

    def extra_maps(self, builder: Builder, inputs: Sequence[Wire], prefix: str) -> tuple[Wire, ...]:
        """Write the branch of the mask coefficients."""
        return self.branch(builder, f"{prefix}cv4", inputs)

    def emit_more(self, builder: Builder, config: GraphConfig, inputs: Sequence[Wire]) -> None:
        """Write the prototypes, which both heads share."""
        height, width = inputs[0].hw
        input_hw = (height * self.strides[0], width * self.strides[0])
        prototypes = _prototypes(builder, self.module.child("proto"), inputs)
        output_prototypes(builder, config, self.module, prototypes, self.coefficients, input_hw)


def _prototypes(builder: Builder, module: ModuleView, inputs: Sequence[Wire]) -> Wire:
    """A Proto module on the first level, or a Proto26 on all of them."""
    assert builder.blocks is not None
    if module.class_name != "Proto26" or not builder.blocks.owns(module):
        return emit(builder, module, inputs[:1])
    module.leave_out("semseg")  # only the loss reads it
    refine = module.child("feat_refine").submodules()
    if len(refine) != len(inputs) - 1:
        raise module.error("has a different number of levels", expected=str(len(inputs) - 1), got=len(refine))
    total = inputs[0]
    for number, (conv, level) in enumerate(zip(refine, inputs[1:], strict=True), start=1):
        refined = emit(builder, conv, (level,))
        factor = total.hw[0] // max(1, refined.hw[0])
        if (refined.hw[0] * factor, refined.hw[1] * factor) != total.hw:
            raise conv.error("has a level that is not whole cells of the first", expected=str(total.hw), got=refined.hw)
        near = upsampled(builder, f"{module.place}.near.{number}", refined, (factor, factor))
        total = add(builder, module, total, near, f"{module.place}.add.{number}")
    x = emit(builder, module.child("feat_fuse"), (total,))
    for name in ("cv1", "upsample", "cv2", "cv3"):
        x = emit(builder, module.child(name), (x,))
    return x


def check_forward(layer: ModuleView) -> None:
    """Refuse a head whose attribute `detect` is not the forward of Detect, which its own forward calls.

    Raises:
        GraphError: it is another function.
    """
    detect = layer.optional_value("detect")
    if detect is not None and not (isinstance(detect, Opaque) and _is_forward(detect)):
        raise layer.error("its method 'detect' was replaced", expected="Detect.forward", got=detect)


def _is_forward(method: Opaque) -> bool:
    if not method.class_path.endswith(".getattr") or method.arguments[1:] != ("forward",):
        return False
    return str(method.arguments[0]).rpartition(".")[2] == "Detect"


def output_prototypes(
    builder: Builder,
    config: GraphConfig,
    module: ModuleView,
    prototypes: Wire,
    coefficients: int,
    input_hw: tuple[int, int],
) -> None:
    """Declare the output with the prototypes, (B, P, h, w).

    Args:
        builder: Takes the nodes.
        config: The configuration; the standard form calls the output ``output1``.
        module: The head, for messages.
        prototypes: What its Proto module gives.
        coefficients: How many mask coefficients each box has.
        input_hw: (height, width) of the canvas in model pixels.

    Raises:
        GraphError: there are more or fewer prototypes than coefficients, or they are not whole cells of the canvas.
    """
    factor = input_hw[0] // max(1, prototypes.hw[0])
    if prototypes.channels != coefficients:
        raise module.error("has a different number of prototypes", expected=str(coefficients), got=prototypes.channels)
    if (prototypes.hw[0] * factor, prototypes.hw[1] * factor) != input_hw:
        raise module.error("its prototypes are not whole cells of the canvas", got=prototypes.hw)
    hw: tuple[Axis, ...] = (f"{HEIGHT}/{factor}", f"{WIDTH}/{factor}") if builder.dynamic_hw else prototypes.hw
    name = "output1" if config.output_form == "raw" else PROTOTYPES
    builder.output(prototypes, TensorSpec(name, "float32", (batch_axis(config), coefficients, *hw)))
