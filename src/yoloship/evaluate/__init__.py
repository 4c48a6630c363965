"""Measuring accuracy and speed."""

from __future__ import annotations

from yoloship.evaluate.coco import AveragePrecision, ClassPrecision, Truth, mean_average_precision

__all__ = ["AveragePrecision", "ClassPrecision", "Truth", "mean_average_precision"]
