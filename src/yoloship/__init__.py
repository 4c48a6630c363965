"""From a trained YOLO or ResNet checkpoint to answers in production.

>>> import yoloship
>>> detector = yoloship.load("best.pt")
>>> for detection in detector("photo.jpg"):
...     print(detection.class_name, detection.score, detection.box_xyxy)

Only the names in `yoloship.__all__` are stable. The modules inside may change with any release. The only exceptions are
the base classes for other packages to extend: `yoloship.sinks.Sink` and `yoloship.sinks.TextSink`,
`yoloship.sources.Source` and `yoloship.sources.Frame`, and the others that the documentation names.
"""

import logging as _logging
import typing as _typing
from importlib import import_module as _import_module

from yoloship._version import __version__
from yoloship.errors import (
    CheckpointError,
    CudaError,
    DependencyError,
    DownloadError,
    EngineError,
    GraphError,
    ImageError,
    InputError,
    OutputError,
    SessionError,
    YoloshipError,
)

if _typing.TYPE_CHECKING:
    from yoloship.checkpoint.reader import read_checkpoint
    from yoloship.conversion.engines import build
    from yoloship.conversion.exporting import export
    from yoloship.detect.detector import Detector
    from yoloship.detect.gpu.transfer import CudaTuning
    from yoloship.detect.options import DetectOptions
    from yoloship.detect.slicing.sliced import SlicedDetector
    from yoloship.detect.slicing.tiles import Slicing
    from yoloship.detect.stream import Outcome
    from yoloship.model import ModelInfo
    from yoloship.models.loading import load
    from yoloship.results.classification import Classification, ClassScore
    from yoloship.results.detection import Detection
    from yoloship.results.detections import Detections
    from yoloship.results.masks import Masks
    from yoloship.tracking.following import TrackedOutcome, atrack, track
    from yoloship.tracking.presets import TrackOptions
    from yoloship.validate.record import Validation
    from yoloship.validate.validation import val

__all__ = [
    "CheckpointError",
    "ClassScore",
    "Classification",
    "CudaError",
    "CudaTuning",
    "DependencyError",
    "DetectOptions",
    "Detection",
    "Detections",
    "Detector",
    "DownloadError",
    "EngineError",
    "GraphError",
    "ImageError",
    "InputError",
    "Masks",
    "ModelInfo",
    "Outcome",
    "OutputError",
    "SessionError",
    "SlicedDetector",
    "Slicing",
    "TrackOptions",
    "TrackedOutcome",
    "Validation",
    "YoloshipError",
    "__version__",
    "atrack",
    "build",
    "export",
    "load",
    "read_checkpoint",
    "track",
    "val",
]

_PLACES: _typing.Final = {
    "ClassScore": "yoloship.results.classification",
    "Classification": "yoloship.results.classification",
    "CudaTuning": "yoloship.detect.gpu.transfer",
    "DetectOptions": "yoloship.detect.options",
    "Detection": "yoloship.results.detection",
    "Detections": "yoloship.results.detections",
    "Detector": "yoloship.detect.detector",
    "Masks": "yoloship.results.masks",
    "ModelInfo": "yoloship.model",
    "Outcome": "yoloship.detect.stream",
    "SlicedDetector": "yoloship.detect.slicing.sliced",
    "Slicing": "yoloship.detect.slicing.tiles",
    "TrackOptions": "yoloship.tracking.presets",
    "TrackedOutcome": "yoloship.tracking.following",
    "Validation": "yoloship.validate.record",
    "atrack": "yoloship.tracking.following",
    "build": "yoloship.conversion.engines",
    "export": "yoloship.conversion.exporting",
    "load": "yoloship.models.loading",
    "read_checkpoint": "yoloship.checkpoint.reader",
    "track": "yoloship.tracking.following",
    "val": "yoloship.validate.validation",
}

_logging.getLogger("yoloship").addHandler(_logging.NullHandler())  # silent unless the program asks for it


def __getattr__(name: str) -> object:
    """Import a subpackage when one of its names is used; ``import yoloship`` imports only the standard library."""
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'yoloship' has no attribute {name!r}")
    return getattr(_import_module(place), name)


def __dir__() -> list[str]:
    """The public names, including those that are not loaded yet."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
