"""The choices for a graph, `GraphConfig`, and the graph's image input.

No attribute says reliably how many channels the input has. The first convolution that the image reaches does: its
weight has one slice for each channel. A wrong guess is found when the graph is written, because each convolution checks
its input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np

from yoloship._util.fields import is_int
from yoloship.checkpoint.records import Module, Tensor
from yoloship.errors import InputError
from yoloship.graph.builder import Normalisation
from yoloship.model import (
    MAX_CHANNELS,
    MAX_SIDE,
    STANDARD,
    WORD,
    Axis,
    HeadChoice,
    InputForm,
    NmsConfig,
    OutputForm,
    TensorSpec,
)
from yoloship.transforms import Transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.module_view import ModuleView


_MAX_DEPTH: Final = 16
_USUAL: Final = 3
_STACKS: Final = frozenset({"Contract", "Expand", "Concat", "Sum", "ADD"})
"""Blocks that change the number of channels, or that take more than one value."""
_FOCUS_GAIN: Final = 4
"""Focus stacks four quarters of the image before its convolution."""


def input_channels(root: ModuleView, layers: Sequence[ModuleView]) -> int:
    """Channels of the input.

    Args:
        root: The model.
        layers: Its layers in order.
    """
    for layer in layers:
        found = _first_input_channels(layer.module, _MAX_DEPTH) if layer.module.attributes.get("f") in (-1, [-1]) else 0
        if found is not None:
            return found if 1 <= found <= MAX_CHANNELS else _declared(root.module)
    return _declared(root.module)


def channels_of(stem: ModuleView) -> int:
    """Channels that the first convolution in a module takes; the usual number if that cannot be known."""
    found = _first_input_channels(stem.module, _MAX_DEPTH)
    return found if found is not None and 1 <= found <= MAX_CHANNELS else _USUAL


def _first_input_channels(module: Module, depth: int) -> int | None:
    """Input channels of the first convolution in a module: None if there is none, 0 if they cannot be known."""
    if depth == 0 or module.class_name in _STACKS:
        return 0
    if module.class_path.startswith("torch.nn.modules.conv."):
        weight, groups = module.parameters.get("weight"), module.attributes.get("groups")
        if isinstance(weight, Tensor) and len(weight.shape) == 4 and isinstance(groups, int):
            return weight.shape[1] * groups
        return 0
    for child in module.children.values():
        found = _first_input_channels(child, depth - 1) if isinstance(child, Module) else None
        if found is not None:
            return found // _FOCUS_GAIN if module.class_name == "Focus" else found
    return None


def _declared(model: Module) -> int:
    """The number of channels in the model's own description of its architecture; without one, the usual number."""
    described = model.attributes.get("yaml")
    found = (described.get(name) for name in ("ch", "channels")) if isinstance(described, dict) else ()
    return next((channels for channels in found if is_int(channels, 1, MAX_CHANNELS)), _USUAL)


FloatPrecision: TypeAlias = Literal["float32", "float16", "bfloat16"]
"""Precisions for which a checkpoint is enough; int8 and float8 need images as well."""


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """The choices for a graph. Each is independent of the others.

    Attributes:
        input_hw: (height, width) in model pixels, fixed in the graph; None leaves both open. ``usual`` takes the size
            of `usual_hw`: the training's own if the checkpoint says it.
        batch: Images in each run; None leaves it open.
        input_form: See `yoloship.model.InputForm`.
        output_form: The name of a form that the network's head writes, or `STANDARD` or `FASTEST`.
        precision: Element type in which the network's body computes. Inputs, outputs and the head's decoding stay
            float32.
        nms: Thresholds for an output form with suppression inside; None takes the defaults. Other forms take None only.
        head: Which head answers, of a network with two. None takes the one that the output form needs, or else the one
            that the version that wrote the checkpoint uses by default. For other networks only None is possible.
        transform: For classification: how an image becomes the input, as a record or by name (`transform_of`). None
            takes what the checkpoint says. ``none`` leaves it open; with it, images can be classified only if it is
            given when the file is loaded.

    Raises:
        InputError: a value outside its range.
    """

    input_hw: tuple[int, int] | Literal["usual"] | None = (640, 640)
    batch: int | None = 1
    input_form: InputForm = "float"
    output_form: OutputForm = STANDARD
    precision: FloatPrecision = "float32"
    nms: NmsConfig | None = None
    head: HeadChoice | None = None
    transform: Transform | str | None = None

    def __post_init__(self) -> None:
        if self.input_hw not in {None, "usual"} and (
            not isinstance(self.input_hw, tuple)
            or len(self.input_hw) != 2
            or not all(is_int(side, 1, MAX_SIDE) for side in self.input_hw)
        ):
            raise _refused("input_hw", f"None or (height, width), each 1 to {MAX_SIDE}", self.input_hw)
        if self.batch is not None and not is_int(self.batch, 1, MAX_SIDE):
            raise _refused("batch", f"None or 1 to {MAX_SIDE}", self.batch)
        if self.input_form not in get_args(InputForm):
            raise _refused("input_form", " or ".join(get_args(InputForm)), self.input_form)
        if not isinstance(self.output_form, str) or not WORD.fullmatch(self.output_form):
            raise _refused("output_form", "the name of an output form", self.output_form)
        if self.precision not in get_args(FloatPrecision):
            raise _refused("precision", f"one of {', '.join(get_args(FloatPrecision))}", self.precision)
        if self.nms is not None and not isinstance(self.nms, NmsConfig):
            raise _refused("nms", "None or an NmsConfig", self.nms)
        if self.head is not None and self.head not in get_args(HeadChoice):
            raise _refused("head", f"None, {' or '.join(get_args(HeadChoice))}", self.head)
        if self.transform is not None and not isinstance(self.transform, Transform | str):
            raise _refused("transform", "None, a Transform or the name of one", self.transform)

    @property
    def settled_hw(self) -> tuple[int, int] | None:
        """The input size of a configuration that was settled for a checkpoint."""
        assert self.input_hw != "usual", "the configuration is settled"
        return self.input_hw

    def check_multiple(self, multiple: int) -> None:
        """Refuse a fixed size that the network's downsampling does not divide.

        Args:
            multiple: In pixels; both sides must be multiples of it.

        Raises:
            InputError: one is not; the nearest valid sizes are named.
        """
        size = self.settled_hw
        if size is None or all(side % multiple == 0 for side in size):
            return
        raise InputError(
            f"input size is not a multiple of {multiple}",
            subject="input_hw",
            expected=" or ".join(f"{h}x{w}" for h, w in nearest_sizes(size, multiple)),
            got="{}x{}".format(*size),
        )


def nearest_sizes(input_hw: Sequence[int], multiple: int) -> tuple[tuple[int, int], ...]:
    """The nearest valid sizes (height, width) below and above, in pixels, without zeros and duplicates."""
    below = tuple(side // multiple * multiple for side in input_hw)
    above = tuple(-(-side // multiple) * multiple for side in input_hw)
    sizes = ((below[0], below[1]), (above[0], above[1]))
    return tuple(dict.fromkeys(size for size in sizes if min(size) > 0))


def _refused(name: str, expected: str, got: object) -> InputError:
    return InputError("cannot have this value", subject=name, expected=expected, got=repr(got)[:60])


INPUT = "images"
COLOURS = 3
"""Channels of a colour image. Only these have an order that can be confused (RGB or BGR)."""
BATCH, HEIGHT, WIDTH = "batch", "height", "width"
"""Names of the dynamic axes."""


def emit_input(builder: Builder, config: GraphConfig, probe_hw: tuple[int, int], channels: int) -> Wire:
    """Declare the input and bring it to (B, C, H, W) float32.

    Args:
        builder: Takes the nodes.
        config: Says the form and the sizes.
        probe_hw: (height, width) used in place of dynamic ones.
        channels: The channels of the network's input.
    """
    batch: Axis = BATCH if config.batch is None else config.batch
    hw: tuple[Axis, Axis] = config.settled_hw or (HEIGHT, WIDTH)
    if config.input_form == "float":
        return builder.input(TensorSpec(INPUT, "float32", (batch, channels, *hw)), (batch, channels, *probe_hw))
    image = builder.input(TensorSpec(INPUT, "uint8", (batch, *hw, channels)), (batch, *probe_hw, channels))
    transform = config.transform
    assert not isinstance(transform, str), "the configuration is settled"
    return image_input(builder, image, transform)


def image_input(builder: Builder, image: Wire, transform: Transform | None = None) -> Wire:
    """(B, H, W, C) uint8 to (B, C, H, W) float32, still 0..255 and BGR (if C is 3); the next convolution changes both.

    If a transform subtracts means, an operator subtracts them here, so that the zeros with which a convolution pads are
    means. The division by the standard deviations goes into the convolution, too.

    The Cast comes first because TensorRT RTX takes uint8 in no other operator. ONNX Runtime would like the Transpose
    first, on a quarter of the bytes: 0.6 ms instead of 1.0 ms at 640x640 (1.32, one thread of an AMD Zen 3, minimum of
    60 runs). That is 1% of a yolov5n's time, a fair price for one file that every runtime takes.
    """
    batch, height, width, _ = image.shape
    channels = image.fixed(3)
    real = builder.node("Cast", "preprocess.cast", (image,), image.shape, to=_FLOAT)
    planes = builder.node(
        "Transpose", "preprocess.transpose", (real,), (batch, channels, height, width), perm=(0, 3, 1, 2)
    )
    order = (2, 1, 0) if channels == COLOURS else tuple(range(channels))
    if transform is None or not transform.normalises:
        return replace(planes, pending=Normalisation(order, scale=1 / 255))
    if any(transform.mean):
        means = builder.constant("preprocess.mean", 255 * np.array([transform.mean[c] for c in order])[:, None, None])
        planes = builder.node("Sub", "preprocess.subtract", (planes, means), planes.shape)
    return replace(planes, pending=Normalisation(order, tuple(1 / (255 * transform.std[c]) for c in order)))


_FLOAT = 1
"""onnx.TensorProto.FLOAT"""
