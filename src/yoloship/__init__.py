"""From a trained YOLO checkpoint to boxes in production.

>>> import yoloship
>>> detector = yoloship.load("best.pt")
>>> for found in detector("photo.jpg"):
...     print(found.class_name, found.score, found.box_xyxy)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

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

if TYPE_CHECKING:
    from yoloship.detect.detector import Detector
    from yoloship.models.loading import load
    from yoloship.results.detections import Detection, Detections

__all__ = [
    "CheckpointError",
    "CudaError",
    "DependencyError",
    "Detection",
    "Detections",
    "Detector",
    "DownloadError",
    "EngineError",
    "GraphError",
    "ImageError",
    "InputError",
    "OutputError",
    "SessionError",
    "YoloshipError",
    "__version__",
    "load",
]

_ROOMS: Final = {
    "Detection": "yoloship.results.detections",
    "Detections": "yoloship.results.detections",
    "Detector": "yoloship.detect.detector",
    "load": "yoloship.models.loading",
}


def __getattr__(name: str) -> object:
    """Import a room only when it is asked for: ``import yoloship`` costs the standard library alone."""
    module = _ROOMS.get(name)
    if module is not None:
        return getattr(import_module(module), name)
    raise AttributeError(f"module 'yoloship' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, including those that are not loaded yet."""
    return sorted({*globals(), *__all__})
