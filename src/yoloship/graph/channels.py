"""How many channels a network's input has: 3 for colour images, 1 for grey ones, or any other number.

No attribute says it for sure. The first convolution that the image reaches does: its weight has one slice for each
channel. What the walk assumes is checked when the graph is written, since each convolution checks its input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from yoloship.checkpoint.records import Module, Tensor
from yoloship.model import MAX_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.graph.part import Part

_MAX_DEPTH: Final = 16
_USUAL: Final = 3
_STACKS: Final = frozenset({"Contract", "Expand", "Concat", "Sum", "ADD"})
"""Blocks after which the number of channels is another one, or that take more than one value."""
_FOCUS_GAIN: Final = 4
"""Focus stacks four quarters of the image before its convolution."""


def input_channels(root: Part, layers: Sequence[Part]) -> int:
    """Channels of the input.

    Args:
        root: The model.
        layers: Its layers in order.
    """
    for layer in layers:
        found = _taken(layer.module, _MAX_DEPTH) if layer.module.attributes.get("f") in (-1, [-1]) else 0
        if found is not None:
            return found if 1 <= found <= MAX_CHANNELS else _declared(root.module)
    return _declared(root.module)


def _taken(module: Module, depth: int) -> int | None:
    """Channels that the first convolution in a module takes: None if there is none, 0 if it cannot be known."""
    if depth == 0 or module.class_name in _STACKS:
        return 0
    if module.class_path.startswith("torch.nn.modules.conv."):
        weight, groups = module.parameters.get("weight"), module.attributes.get("groups")
        if isinstance(weight, Tensor) and len(weight.shape) == 4 and isinstance(groups, int):
            return weight.shape[1] * groups
        return 0
    for child in module.children.values():
        found = _taken(child, depth - 1) if isinstance(child, Module) else None
        if found is not None:
            return found // _FOCUS_GAIN if module.class_name == "Focus" else found
    return None


def _declared(model: Module) -> int:
    """What the model's own description of its architecture says, else the usual number."""
    described = model.attributes.get("yaml")
    channels = described.get("ch") if isinstance(described, dict) else None
    if not isinstance(channels, int) or isinstance(channels, bool) or not 1 <= channels <= MAX_CHANNELS:
        return _USUAL
    return channels
