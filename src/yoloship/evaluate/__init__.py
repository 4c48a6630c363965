"""Measuring accuracy and speed."""

from __future__ import annotations

from yoloship.evaluate.average_precision import AveragePrecision, ClassPrecision, mean_average_precision
from yoloship.evaluate.coco import Truth

__all__ = ["AveragePrecision", "ClassPrecision", "Truth", "mean_average_precision"]
