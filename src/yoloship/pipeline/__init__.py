"""From pictures to detections: letterbox, run, decode, suppress."""

from __future__ import annotations

from yoloship.pipeline.decode import Candidates, decode, heads_candidates, heads_to_raw, raw_candidates
from yoloship.pipeline.detector import Detector, ShapeMode
from yoloship.pipeline.letterbox import Letterbox
from yoloship.pipeline.loading import TunedFor, load
from yoloship.pipeline.nms import nms, nms_reference
from yoloship.pipeline.options import DetectOptions
from yoloship.pipeline.recognise import recognise
from yoloship.pipeline.stream import Outcome

__all__ = [
    "Candidates",
    "DetectOptions",
    "Detector",
    "Letterbox",
    "Outcome",
    "ShapeMode",
    "TunedFor",
    "decode",
    "heads_candidates",
    "heads_to_raw",
    "load",
    "nms",
    "nms_reference",
    "raw_candidates",
    "recognise",
]
