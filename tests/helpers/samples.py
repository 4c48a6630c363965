"""A small network of each family, made by hand, for the suites that run over all of them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from helpers.modules import Maker, checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yoloship.checkpoint import Checkpoint, Module


def _yolov5() -> Checkpoint:
    """Three levels, each one convolution after the one before."""
    make = Maker(7)
    layers: list[tuple[Module, int | list[int]]] = [
        (make.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (make.conv(8, 8, 3, 2), -1),
        (make.conv(8, 8, 3, 2), -1),
        (make.detect([8, 8, 8], [8, 16, 32]), [0, 1, 2]),
    ]
    return checkpoint(layers, strides=(8, 16, 32))


SAMPLES: Mapping[tuple[str, str], Callable[[], Checkpoint]] = MappingProxyType({("yolov5", "detect"): _yolov5})
"""By family and task; a new head adds one."""
