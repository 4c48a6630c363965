"""Options that several commands share, each with its help: put ``@options.NAME`` above the command."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship.cli.command import COUNT, FRACTION, flag, option
from yoloship.cli.names import class_names
from yoloship.cli.values import FILE, alias_pair, image_size

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTION_OF: Mapping[str, str] = MappingProxyType(
    {
        "aliases": "--alias",
        "batch": "--batch",
        "class_names": "--names",
        "classes": "--classes",
        "device": "--device",
        "hardware_compatibility": "--hardware-compatibility",
        "imgsz": "--imgsz",
        "input_hw": "--imgsz",
        "iou_threshold": "--iou",
        "labels": "--labels",
        "max_detections": "--max-det",
        "max_drop": "--max-drop",
        "optimization_level": "--optimization-level",
        "score_threshold": "--conf",
        "throughput_s": "--seconds",
        "target": "--target",
        "targets": "--target",
        "workspace_bytes": "--workspace",
    }
)
"""By which option a value of the library is given on the command line, for error lines."""

imgsz = option(
    "--imgsz",
    type=image_size,
    metavar="640|HxW",
    help="Model input in pixels. Default: the graph's own, else 640.",
)
names = option(
    "--names",
    type=class_names,
    metavar="A,B,C|FILE",
    help="Class names in place of those in the model: between commas, or a file with one per line or 'names:' in YAML.",
)
aliases = option(
    "--alias",
    "aliases",
    type=alias_pair,
    multiple=True,
    metavar="OLD.PATH=models.common.C3",
    help="Read a class of a fork as the official one that it equals; may be repeated. The file written says so.",
)
overwrite = flag("--overwrite", help="Replace outputs that exist.")
recursive = flag("--recursive", help="Also take the images in all folders below the folders that are named.")
json_file = option("--json", "json_path", type=FILE, metavar="FILE", help="Write the results as JSON; - is stdout.")

nms_conf = option(
    "--conf", type=FRACTION, metavar="FLOAT", help="With --output nms: drop boxes whose score is not above this."
)
nms_iou = option(
    "--iou",
    type=FRACTION,
    metavar="FLOAT",
    help="With --output nms: drop a box whose IoU with a better box is above this.",
)
nms_max_det = option(
    "--max-det", type=COUNT, metavar="N", help="With --output nms: keep at most this many boxes per image."
)
