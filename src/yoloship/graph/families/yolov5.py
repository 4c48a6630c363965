"""YOLOv5: all releases, and forks that keep the names of its modules."""

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
"""People import the training repository under other folder names."""
_MODEL: Final = re.compile(rf"{_PACKAGES}models\.yolo\.(?:Model|DetectionModel|SegmentationModel|ClassificationModel)")
_HEAD: Final = re.compile(rf"{_PACKAGES}models\.(?:yolo\.\w+|common\.Classify)")


class Yolov5(Family):
    """Networks that are a list of layers, each with the numbers of its input layers, and a head: anchors or classes."""

    name = "yolov5"
    title = "YOLOv5"
    models = (
        "models.yolo.Model", "models.yolo.SegmentationModel", "models.yolo.ClassificationModel",
        "models.yolo.DetectionModel",
    )  # fmt: skip
    blocks = BlockTable(
        path=re.compile(rf"{_PACKAGES}models\.(?:common|experimental)\.\w+"),
        official="models.common",
        head_package="models.yolo",
        blocks=BLOCKS,
        joins=JOINS,
    )
    heads: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "Detect": "yoloship.graph.heads.anchor:AnchorHead",
            "Segment": "yoloship.graph.heads.segment:AnchorSegment",
            "Classify": "yoloship.graph.heads.classify:Yolov5ClassifyHead",
        }
    )

    def owns(self, module: Module) -> bool:
        """Whether it is a model of the training repository."""
        return _MODEL.fullmatch(module.class_path) is not None

    def is_head(self, module: Module) -> bool:
        """Whether its class is in one of the modules where the training repository has its heads."""
        return _HEAD.fullmatch(module.class_path) is not None
