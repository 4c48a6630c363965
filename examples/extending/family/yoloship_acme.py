"""A family for yoloship: checkpoints of a fork that has its modules in packages of its own, and a block of its own."""

from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship.graph.blocks import emit
from yoloship.graph.families.yolov5 import Yolov5

if TYPE_CHECKING:
    from yoloship.checkpoint import Module
    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.module_view import ModuleView


def emit_twice(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Write ``acme.layers.Twice``, whose forward is ``self.second(self.first(x))``."""
    return emit(builder, module.child("second"), (emit(builder, module.child("first"), (x,)),))


class Acme(Yolov5):
    """Detectors of the acme package. They are YOLOv5's, under other class paths, and may hold `Twice`."""

    name = "acme"
    title = "acme"
    models = ("acme.nets.Detector",)
    blocks = replace(
        Yolov5.blocks,
        path=re.compile(r"acme\.layers\.\w+"),
        official="acme.layers",
        head_package="acme.nets",
        blocks=MappingProxyType({**Yolov5.blocks.blocks, "Twice": emit_twice}),
    )

    def owns(self, module: Module) -> bool:
        """Whether this is the class that acme trains."""
        return module.class_path == "acme.nets.Detector"

    def is_head(self, module: Module) -> bool:
        """Whether this is acme's head."""
        return module.class_path == "acme.nets.Detect"
