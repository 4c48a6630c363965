"""Options that several commands share, each with its help: put ``@options.NAME`` above the command."""

from __future__ import annotations

from yoloship.cli.command import COUNT, FRACTION, flag, option
from yoloship.cli.names import class_names
from yoloship.cli.values import FILE, image_size

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
    help="Class names in place of those in the model: between commas, or a file with one a line or 'names:' in YAML.",
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
    "--max-det", type=COUNT, metavar="N", help="With --output nms: keep at most this many boxes an image."
)
