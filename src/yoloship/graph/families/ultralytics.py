"""Networks of Ultralytics' package: YOLOv8, 9, 10, 11, 12 and 26, and YOLOv3u, 5u and 6u.

One family, because a checkpoint holds its network layer by layer, whatever design it began as; people mix the blocks.
The modules of version 8.0 were in one file, ``ultralytics.nn.modules``; later they are in ``conv``, ``block`` and
``head`` below it. The package of YOLOv10's authors has the same class paths, and so has that of YOLOv12's authors,
whose area attention has other attributes.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from yoloship.graph import aggregation, attention, reparametrised
from yoloship.graph.blocks import BLOCKS, JOINS, BlockTable
from yoloship.graph.families.family import Family

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.checkpoint import Module

_MODEL: Final = re.compile(
    r"ultralytics\.nn\.tasks\.(?:Detection|YOLOv10Detection|Segmentation|Pose|OBB|Classification)Model"
)
_MODULE: Final = re.compile(r"ultralytics\.nn\.modules\.(?:(?:conv|block|head|transformer)\.)?\w+")
_SHARED: Final = (
    "Conv", "DWConv", "Bottleneck", "BottleneckCSP", "C3", "C3TR", "C3Ghost", "C3x", "SPP", "Focus", "GhostConv",
    "GhostBottleneck", "Proto",
)  # fmt: skip
"""Blocks that compute the same as YOLOv5's of the same name."""


_DESIGNS: Final[tuple[tuple[frozenset[str], str], ...]] = (
    (frozenset({"A2C2f"}), "YOLO12"),
    (frozenset({"C3k2"}), "YOLO11"),
    (frozenset({"SCDown", "C2fCIB", "v10Detect"}), "YOLOv10"),
    (frozenset({"RepNCSPELAN4", "ELAN1", "ADown", "AConv"}), "YOLOv9"),
    (frozenset({"C2f"}), "YOLOv8"),
    (frozenset({"C3"}), "YOLOv5u"),
)
"""Blocks that a design brought in, and its name; the first that fits counts. Newer designs keep older blocks."""


class Ultralytics(Family):
    """Networks that are a list of layers, each with the numbers of its input layers, and a head without anchors."""

    name = "ultralytics"
    title = "Ultralytics"
    models = ("ultralytics.nn.tasks.DetectionModel",)
    blocks = BlockTable(
        path=_MODULE,
        official="ultralytics.nn.modules.block",
        head_package="ultralytics.nn.modules.head",
        blocks=MappingProxyType(
            {
                **{name: BLOCKS[name] for name in _SHARED},
                "C3k": BLOCKS["C3"],
                "RepCSP": BLOCKS["C3"],
                "RepBottleneck": BLOCKS["Bottleneck"],
                **aggregation.BLOCKS,
                **attention.BLOCKS,
                **reparametrised.BLOCKS,
            }
        ),
        joins=MappingProxyType({"Concat": JOINS["Concat"], **aggregation.JOINS}),
    )
    heads: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            **dict.fromkeys(("Detect", "v10Detect"), "yoloship.graph.heads.anchor_free:DetectHead"),
            **dict.fromkeys(("Segment", "Segment26"), "yoloship.graph.heads.segment:SegmentHead"),
            "Pose": "yoloship.graph.heads.pose:PoseHead",
            "Pose26": "yoloship.graph.heads.pose:Pose26Head",
            "OBB": "yoloship.graph.heads.oriented:ObbHead",
            "OBB26": "yoloship.graph.heads.oriented:Obb26Head",
            "Classify": "yoloship.graph.heads.classify:UltralyticsClassifyHead",
        }
    )

    def owns(self, module: Module) -> bool:
        """Whether it is a model class of the package."""
        return _MODEL.fullmatch(module.class_path) is not None

    def design(self, module: Module) -> str:
        """The design that its blocks belong to. YOLO26 has YOLO11's, with a head without distributions."""
        names = {part.class_name for _, part in module.walk()}
        bins = next((part.attributes["reg_max"] for _, part in module.walk() if "reg_max" in part.attributes), None)
        if "C3k2" in names and bins in {None, 1}:  # classifiers of YOLO11 and YOLO26 do not differ in their blocks
            return self.title if bins is None else "YOLO26"
        return next((name for blocks, name in _DESIGNS if blocks & names), self.title)

    def is_head(self, module: Module) -> bool:
        """Whether its class is where the package has its heads."""
        return _MODULE.fullmatch(module.class_path) is not None
