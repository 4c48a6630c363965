"""What graph is asked for: `GraphConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from yoloship.errors import GraphError
from yoloship.model import MAX_SIDE, InputForm, NmsConfig, OutputForm

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatPrecision: TypeAlias = Literal["float32", "float16", "bfloat16"]
"""What a checkpoint alone is enough for; int8 and float8 need pictures as well, see `yoloship.graph.quantize`."""


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """The choices a graph leaves open; each is independent of the others.

    Attributes:
        input_hw: (height, width) in model pixels, fixed in the graph; None leaves both open.
        batch: Pictures a run; None leaves it open.
        input_form: See `yoloship.model.InputForm`.
        output_form: See `yoloship.model.OutputForm`.
        precision: What the network's body computes in; inputs, outputs and the head's decoding stay float32.
        nms: For the output form ``nms`` and no other; None takes the defaults there.

    Raises:
        GraphError: a value outside its range.
    """

    input_hw: tuple[int, int] | None = (640, 640)
    batch: int | None = 1
    input_form: InputForm = "float"
    output_form: OutputForm = "raw"
    precision: FloatPrecision = "float32"
    nms: NmsConfig | None = None

    def __post_init__(self) -> None:
        if self.input_hw is not None and (
            not isinstance(self.input_hw, tuple) or len(self.input_hw) != 2 or not all(map(_is_extent, self.input_hw))
        ):
            raise _refused("input_hw", f"None or (height, width), each 1 to {MAX_SIDE}", self.input_hw)
        if self.batch is not None and not _is_extent(self.batch):
            raise _refused("batch", f"None or 1 to {MAX_SIDE}", self.batch)
        if self.input_form not in get_args(InputForm):
            raise _refused("input_form", " or ".join(get_args(InputForm)), self.input_form)
        if self.output_form not in get_args(OutputForm):
            raise _refused("output_form", f"one of {', '.join(get_args(OutputForm))}", self.output_form)
        if self.precision not in get_args(FloatPrecision):
            raise _refused("precision", f"one of {', '.join(get_args(FloatPrecision))}", self.precision)
        if self.nms is not None and not isinstance(self.nms, NmsConfig):
            raise _refused("nms", "None or an NmsConfig", self.nms)
        if self.output_form == "nms" and self.nms is None:
            object.__setattr__(self, "nms", NmsConfig())
        if self.output_form != "nms" and self.nms is not None:
            raise _refused("nms", f"None for the output form {self.output_form!r}", self.nms)

    def check_multiple(self, multiple: int) -> None:
        """Refuse a fixed size that the network's downsampling does not divide.

        Args:
            multiple: In pixels; both sides must be multiples of it.

        Raises:
            GraphError: one is not; the nearest valid sizes are named.
        """
        if self.input_hw is None or all(side % multiple == 0 for side in self.input_hw):
            return
        raise GraphError(
            f"input size is not a multiple of {multiple}",
            subject="input_hw",
            expected=" or ".join(f"{h}x{w}" for h, w in nearest_sizes(self.input_hw, multiple)),
            got="{}x{}".format(*self.input_hw),
        )


def nearest_sizes(input_hw: Sequence[int], multiple: int) -> tuple[tuple[int, int], ...]:
    """The next (height, width) in multiples below and above, without those of no extent; pixels, no doubles."""
    below = tuple(side // multiple * multiple for side in input_hw)
    above = tuple(-(-side // multiple) * multiple for side in input_hw)
    sizes = ((below[0], below[1]), (above[0], above[1]))
    return tuple(dict.fromkeys(size for size in sizes if min(size) > 0))


def _is_extent(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE


def _refused(name: str, expected: str, got: object) -> GraphError:
    return GraphError("cannot have this value", subject=name, expected=expected, got=repr(got)[:60])
