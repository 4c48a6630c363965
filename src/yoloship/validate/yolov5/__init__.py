"""Validation by the rules of YOLOv5's ``val.py``, version 7.0, down to its rounding.

The modules follow the way of an image: `plan` and `pixels` bring it to the network, `suppression` and `undoing` bring
the boxes back, `matching` and `confusion` judge them, `precision` and `figures` make the numbers. Each says what it
does differently from COCO's evaluator, or from our own detection.
"""

from __future__ import annotations

from yoloship.validate.yolov5.network import open_network
from yoloship.validate.yolov5.val_options import Yolov5Options
from yoloship.validate.yolov5.validating import run, run_opened

__all__ = ["Yolov5Options", "open_network", "run", "run_opened"]
