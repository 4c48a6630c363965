"""YOLOv5, all releases, and the forks that keep its modules' names."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from yoloship.graph.blocks import BLOCKS, JOINS, BlockTable
from yoloship.graph.families.family import Family

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.checkpoint import Module

_PACKAGES: Final = r"(?:[A-Za-z_]\w*\.)*"
"""People import the training repository from folders of their own."""
_MODEL: Final = re.compile(rf"{_PACKAGES}models\.yolo\.(?:Model|DetectionModel)")
_HEAD: Final = re.compile(rf"{_PACKAGES}models\.yolo\.\w+")


class Yolov5(Family):
    """Layers in a row, each with the numbers of the layers that it takes; a head with anchors."""

    name = "yolov5"
    title = "YOLOv5"
    models = ("models.yolo.Model", "models.yolo.DetectionModel")
    blocks = BlockTable(
        path=re.compile(rf"{_PACKAGES}models\.(?:common|experimental)\.\w+"),
        official="models.common",
        head_package="models.yolo",
        blocks=BLOCKS,
        joins=JOINS,
    )
    heads: ClassVar[Mapping[str, str]] = MappingProxyType({"Detect": "yoloship.graph.heads.anchor:AnchorHead"})

    def owns(self, module: Module) -> bool:
        """Whether it is a detection model of the training repository."""
        return _MODEL.fullmatch(module.class_path) is not None

    def is_head(self, module: Module) -> bool:
        """Whether it stands where the training repository has its heads."""
        return _HEAD.fullmatch(module.class_path) is not None
