"""Heads for segmentation: each box has mask coefficients, and the image has prototypes that they weigh.

Bolya et al., YOLACT, 2019: a mask is the sum of the prototypes, each times its coefficient, cut to the box. The graph
gives both; `yoloship.tasks.prototypes` makes the masks of the boxes that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yoloship.checkpoint.records import Opaque
from yoloship.graph.blocks import emit
from yoloship.graph.config import HEIGHT, WIDTH
from yoloship.graph.heads.anchor import AnchorHead
from yoloship.graph.heads.head import batch_axis
from yoloship.model import TensorSpec

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


def check_forward(layer: ModuleView) -> None:
    """Refuse a head whose attribute `detect` is not the forward of Detect, which its own forward calls.

    Raises:
        GraphError: it is another function.
    """
    detect = layer.optional_value("detect")
    if detect is not None and (not isinstance(detect, Opaque) or detect.arguments[1:] != ("forward",)):
        raise layer.error("its method 'detect' was replaced", expected="Detect.forward", got=detect)


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
        raise module.error("has another number of prototypes", expected=str(coefficients), got=prototypes.channels)
    if (prototypes.hw[0] * factor, prototypes.hw[1] * factor) != input_hw:
        raise module.error("its prototypes are not whole cells of the canvas", got=prototypes.hw)
    hw: tuple[Axis, ...] = (f"{HEIGHT}/{factor}", f"{WIDTH}/{factor}") if builder.dynamic_hw else prototypes.hw
    name = "output1" if config.output_form == "raw" else PROTOTYPES
    builder.output(prototypes, TensorSpec(name, "float32", (batch_axis(config), coefficients, *hw)))
