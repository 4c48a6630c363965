"""Blocks that train with parallel convolutions and answer with one: their branches are added up in float64.

Source: Ding et al., RepVGG, 2021, section 3.3; Wang et al., YOLOv9, 2024; Wang et al., YOLOv10, 2024.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from yoloship.graph import activations
from yoloship.graph.convolution import Convolution, emit_convolution, folded, is_norm, read_conv, read_norm, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.graph.blocks import Block
    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.module_view import ModuleView


def _rep_conv(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """act(conv1 x + conv2 x + bn x), where conv2 is 1x1 and bn may be missing; `conv` stands for all after fusing."""
    if module.optional_child("conv") is not None:
        merged = read_conv(module.child("conv"))
    else:
        merged = _sum(module, _branch(builder, module.child("conv1")), _branch(builder, module.child("conv2")))
        norm = module.optional_child("bn")
        if norm is not None:
            merged = _sum(module, merged, _identity(norm, merged))
    y = emit_convolution(builder, module, merged, x)
    return activations.activate(builder, module.child("act"), y)


def _rep_depthwise(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """RepVGGDW: act(conv x + conv1 x), both depthwise, of 7x7 and 3x3; `conv` alone, a plain Conv2d, after fusing."""
    inner = module.child("conv")
    if inner.torch_name == "Conv2d":
        merged = read_conv(inner)
    else:
        merged = _sum(module, _branch(builder, inner), _branch(builder, module.child("conv1")))
    y = emit_convolution(builder, module, merged, x)
    return activations.activate(builder, module.child("act"), y)


def _double_conv(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Conv2: act(bn(conv x + cv2 x)), where cv2 is 1x1; `conv` stands for both after fusing."""
    merged = read_conv(module.child("conv"))
    if module.optional_child("cv2") is not None:
        merged = _sum(module, merged, read_conv(module.child("cv2")))
    norm = module.optional_child("bn")
    if norm is not None:
        merged = scaled(merged, *read_norm(_batch_norm(norm), merged.out_channels))
    return activations.activate(builder, module.child("act"), emit_convolution(builder, module, merged, x))


def _branch(builder: Builder, module: ModuleView) -> Convolution:
    """A Conv without an activation, as one convolution."""
    builder.visit(module)
    if module.class_name not in {"Conv", "DWConv"} or builder.blocks is None or not builder.blocks.owns(module):
        raise module.error("is not supported in this place", expected="a Conv")
    if module.child("act").torch_name != "Identity":
        raise module.error("has an activation, so its branch cannot be added to the others", expected="Identity")
    convolution, left = folded(module.child("conv"), module.optional_child("bn"))
    if left is not None:
        raise left.error("is not supported in this place", expected="torch.nn.BatchNorm2d with running statistics")
    return convolution


def _sum(module: ModuleView, wide: Convolution, narrow: Convolution) -> Convolution:
    """The convolution that gives the sum of two: the smaller kernel lies in the middle of the larger one."""
    pads = [(a - b) // 2 for a, b in zip(wide.weight.shape[2:], narrow.weight.shape[2:], strict=True)]
    same = (
        wide.weight.shape[:2] == narrow.weight.shape[:2]
        and (wide.stride, wide.groups) == (narrow.stride, narrow.groups)
        and wide.dilation == narrow.dilation == (1, 1)
        and min(pads) >= 0
        and wide.pads == tuple(pad + more for pad, more in zip(narrow.pads, pads * 2, strict=True))
        and all((a - b) % 2 == 0 for a, b in zip(wide.weight.shape[2:], narrow.weight.shape[2:], strict=True))
    )
    if not same:
        raise module.error(
            "its branches do not fit each other", got=f"kernels {wide.weight.shape} and {narrow.weight.shape}"
        )
    (vertical, horizontal) = pads
    weight = wide.weight + np.pad(narrow.weight, ((0, 0), (0, 0), (vertical, vertical), (horizontal, horizontal)))
    bias = np.zeros(wide.out_channels)
    for part in (wide, narrow):
        bias += 0 if part.bias is None else part.bias
    return replace(wide, weight=weight, bias=bias)


def _identity(norm: ModuleView, like: Convolution) -> Convolution:
    """A batch-norm as a 1x1 convolution of the same groups."""
    channels, inside = like.weight.shape[:2]
    scale, shift = read_norm(_batch_norm(norm), channels)
    weight = np.zeros((channels, inside, 1, 1))
    weight[np.arange(channels), np.arange(channels) % inside, 0, 0] = scale
    return Convolution(weight, shift, like.stride, groups=like.groups)


def _batch_norm(norm: ModuleView) -> ModuleView:
    if not is_norm(norm):
        raise norm.error("is not supported in this place", expected="torch.nn.BatchNorm2d")
    return norm


BLOCKS: Mapping[str, Block] = MappingProxyType(
    {"RepConv": _rep_conv, "RepVGGDW": _rep_depthwise, "Conv2": _double_conv}
)
"""By class name, of ``ultralytics.nn.modules``."""
