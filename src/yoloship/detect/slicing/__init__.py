"""Large images in overlapping tiles: `Slicing` says how, and `SlicedDetector` finds the objects."""

from __future__ import annotations

from yoloship.detect.slicing.sliced import SlicedDetector
from yoloship.detect.slicing.tiles import Slicing

__all__ = ["SlicedDetector", "Slicing"]
