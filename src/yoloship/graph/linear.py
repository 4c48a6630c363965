"""Linear layers. On (B, C, h, w) values each works on every pixel alone, so it is written as a 1x1 convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.graph.convolution import Convolution, emit_convolution

if TYPE_CHECKING:
    from yoloship.graph.builder import Builder
    from yoloship.graph.convolution import Array
    from yoloship.graph.ir import Wire
    from yoloship.graph.part import Part


def is_linear(part: Part) -> bool:
    """Whether this is torch's own linear layer."""
    return part.torch_name in {"Linear", "NonDynamicallyQuantizableLinear"}


def read_linear(part: Part, inputs: int, outputs: int | None = None) -> tuple[Array, Array | None]:
    """Weight (out, in) and bias (out,) of a torch.nn Linear."""
    if not is_linear(part):
        raise part.error("is not supported in this place", expected="torch.nn.Linear")
    weight = part.array("weight", outputs, inputs)
    return weight, part.optional_array("bias", weight.shape[0])


def emit_linear(builder: Builder, part: Part, weight: Array, bias: Array | None, x: Wire) -> Wire:
    """Write weight·x + bias for each pixel, under the name of `part`."""
    return emit_convolution(builder, part, Convolution(weight[:, :, None, None], bias), x)
