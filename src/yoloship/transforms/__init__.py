"""How an image becomes the input of a classification model: the training libraries' own transforms, reproduced."""

from __future__ import annotations

from yoloship.transforms.named import TRANSFORMS, transform_of
from yoloship.transforms.record import Interpolation, Kind, Transform

__all__ = ["TRANSFORMS", "Interpolation", "Kind", "Transform", "transform_of"]
