"""ResNets of torchvision and of timm: ResNet, ResNeXt, Wide ResNet, with deep stems and squeeze-and-excitation.

The network is not a list of layers: its forward names each child. He et al., Deep Residual Learning, 2015; the order of
the layers in a block as in both libraries' documentation and as the reference outputs show.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from yoloship.graph.blocks import BlockTable, add, emit
from yoloship.graph.config import channels_of
from yoloship.graph.convolution import emit_conv_norm, emit_convolution, read_conv
from yoloship.graph.families.family import Family

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.checkpoint import Module
    from yoloship.graph.blocks import Block
    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.module_view import ModuleView

_NETWORK: Final = re.compile(r"(?:torchvision|timm)\.models\.resnet\.ResNet")


def _block(*pairs: tuple[str, str]) -> Block:
    """A writer of a residual block: convolutions, each with its norm and the activation before the next one."""

    def block(builder: Builder, module: ModuleView, x: Wire) -> Wire:
        y = x
        for number, (conv, norm) in enumerate(pairs, start=1):
            y = emit_conv_norm(builder, module.child(conv), module.optional_child(norm), y)
            if number < len(pairs):
                y = _activated(builder, module, number, y)
            if number == len(pairs) - 1:
                y = _between(builder, module, ("drop_block", "aa"), y)
        se = module.optional_child("se")
        if se is not None:
            y = emit(builder, se, (y,))
        y = _between(builder, module, ("drop_path",), y)
        shortcut = x
        if module.optional_child("downsample") is not None:
            shortcut = emit(builder, module.child("downsample"), (x,))
        y = add(builder, module, y, shortcut, f"{module.place}.add")
        return _activated(builder, module, len(pairs), y)

    return block


def _activated(builder: Builder, module: ModuleView, number: int, x: Wire) -> Wire:
    """The activation after a convolution: timm's block has one for each, torchvision's uses one again and again."""
    name = f"act{number}" if module.optional_child("relu") is None else "relu"
    return emit(builder, module.child(name), (x,))


def _between(builder: Builder, module: ModuleView, names: Sequence[str], x: Wire) -> Wire:
    """Children that are usually absent or do nothing."""
    for name in names:
        child = module.optional_child(name)
        if child is not None and child.class_name != "DropPath":
            x = emit(builder, child, (x,))
    return x


def _squeeze(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Hu et al., Squeeze-and-Excitation Networks, 2017: each channel times a factor computed from all the means."""
    module.require("add_maxpool", False)
    gate = builder.node("GlobalAveragePool", f"{module.place}.means", (x,), (x.shape[0], x.channels, 1, 1))
    gate = emit_convolution(builder, module.child("fc1"), read_conv(module.child("fc1")), gate)
    if module.optional_child("bn") is not None:
        gate = emit(builder, module.child("bn"), (gate,))
    gate = emit(builder, module.child("act"), (gate,))
    gate = emit_convolution(builder, module.child("fc2"), read_conv(module.child("fc2")), gate)
    gate = emit(builder, module.child("gate"), (gate,))
    if gate.shape != (x.shape[0], x.channels, 1, 1):
        raise module.error(
            "gives a different number of factors than channels", expected=str(x.channels), got=gate.shape
        )
    return builder.node("Mul", module.place, (x, gate), x.shape)


def _average(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Timm's pooling over the whole map: a choice of one of several, and a flattening that changes no number."""
    module.require("pool_type", "avg", "fast", "fastavg")
    module.optional_child("flatten")
    return emit(builder, module.child("pool"), (x,))


def _mean(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Timm's mean over the map."""
    module.optional_value("dim")
    return builder.node("GlobalAveragePool", module.place, (x,), (x.shape[0], x.channels, 1, 1))


def _gate(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Timm's own Sigmoid, which its squeeze-and-excitation ends in."""
    return builder.node("Sigmoid", module.place, (x,), x.shape)


class ResNet(Family):
    """Networks whose forward is conv1, bn1, activation, maxpool, layer1 to layer4, pooling, fc."""

    name = "resnet"
    title = "ResNet"
    models = ("timm.models.resnet.ResNet", "torchvision.models.resnet.ResNet")
    blocks = BlockTable(
        path=re.compile(
            r"(?:torchvision|timm)\.models\.resnet\.\w+|timm\.(?:models\.)?layers\.(?:squeeze_excite|adaptive_avgmax_pool|activations)\.\w+"
        ),
        official="torchvision.models.resnet",
        head_package="torchvision.models.resnet",
        blocks=MappingProxyType(
            {
                "BasicBlock": _block(("conv1", "bn1"), ("conv2", "bn2")),
                "Bottleneck": _block(("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
                "SEModule": _squeeze,
                "SelectAdaptivePool2d": _average,
                "FastAdaptiveAvgPool": _mean,
                "FastAdaptiveAvgPool2d": _mean,
                "Sigmoid": _gate,
            }
        ),
        joins=MappingProxyType({}),
    )
    heads: ClassVar[Mapping[str, str]] = MappingProxyType({"ResNet": "yoloship.graph.heads.classify:ResNetHead"})

    def owns(self, module: Module) -> bool:
        """Whether it is a ResNet of torchvision or timm."""
        return _NETWORK.fullmatch(module.class_path) is not None

    def is_head(self, module: Module) -> bool:
        """Whether it is the whole network: its head reads the pooling and ``fc`` of that."""
        return self.owns(module)

    def layers(self, root: ModuleView) -> tuple[ModuleView, ...]:
        """The network itself: its children have names of their own, and none says where its input comes from."""
        return (root,)

    def input_channels(self, root: ModuleView, layers: Sequence[ModuleView]) -> int:  # noqa: ARG002 - one signature
        """Channels of the first convolution's input."""
        return channels_of(root.child("conv1"))

    def write(self, builder: Builder, layers: Sequence[ModuleView], image: Wire) -> tuple[Wire, ...]:
        """Write everything before the pooling."""
        (root,) = layers
        stem = root.child("conv1")
        norm = root.optional_child("bn1")
        if stem.torch_name == "Conv2d":
            x = emit_conv_norm(builder, stem, norm, image)
        else:
            x = emit(builder, stem, (image,))
            x = x if norm is None else emit(builder, norm, (x,))
        x = emit(builder, root.child("relu" if root.optional_child("relu") is not None else "act1"), (x,))
        for name in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
            x = emit(builder, root.child(name), (x,))
        return (x,)
