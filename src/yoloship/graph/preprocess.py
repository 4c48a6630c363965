"""How pictures come in: the input's declaration for each form."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from yoloship.graph.ir import Normalisation
from yoloship.tensors import Axis, TensorSpec

if TYPE_CHECKING:
    from yoloship.graph.builder import Builder
    from yoloship.graph.config import GraphConfig
    from yoloship.graph.ir import Wire

INPUT = "images"
COLOURS = 3
"""Channels of a colour image; no other number has an order that could be mixed up."""
BATCH, HEIGHT, WIDTH = "batch", "height", "width"
"""Names of the dynamic axes."""


def emit_input(builder: Builder, config: GraphConfig, probe_hw: tuple[int, int], channels: int) -> Wire:
    """Declare the input and bring it to (B, C, H, W) float32.

    Args:
        builder: Takes the nodes.
        config: Which form, which sizes.
        probe_hw: Stands for the size where that is dynamic.
        channels: Of the network's input.
    """
    batch: Axis = BATCH if config.batch is None else config.batch
    hw: tuple[Axis, Axis] = (HEIGHT, WIDTH) if config.input_hw is None else config.input_hw
    if config.input_form == "float":
        return builder.input(TensorSpec(INPUT, "float32", (batch, channels, *hw)), (batch, channels, *probe_hw))
    picture = builder.input(TensorSpec(INPUT, "uint8", (batch, *hw, channels)), (batch, *probe_hw, channels))
    return image_input(builder, picture)


def image_input(builder: Builder, picture: Wire) -> Wire:
    """(B, H, W, C) uint8 to (B, C, H, W) float32, still 0..255 and BGR (if C is 3): the next convolution does the rest.

    The Cast comes first because TensorRT RTX takes uint8 in no other operator. ONNX Runtime would like the Transpose
    first, on a quarter of the bytes: 0.6 ms instead of 1.0 ms at 640x640 (1.32, one thread of an AMD Zen 3, minimum of
    60 runs), 1% of a yolov5n; one file for every runtime is worth that.
    """
    batch, height, width, _ = picture.shape
    channels = picture.fixed(3)
    real = builder.node("Cast", "preprocess.cast", (picture,), picture.shape, to=_FLOAT)
    planes = builder.node(
        "Transpose", "preprocess.transpose", (real,), (batch, channels, height, width), perm=(0, 3, 1, 2)
    )
    order = (2, 1, 0) if channels == COLOURS else tuple(range(channels))
    return replace(planes, pending=Normalisation(order, scale=1 / 255))


_FLOAT = 1
"""onnx.TensorProto.FLOAT"""
