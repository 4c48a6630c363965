"""How much memory and arithmetic a foreign ONNX graph asks for, known before any runtime opens it."""

from __future__ import annotations

from yoloship.bounds.check import UnsizedError, check_bounds, refuse_unbounded
from yoloship.bounds.follow import exact_shapes, takes_bytes
from yoloship.bounds.outline import read_outline

__all__ = ["UnsizedError", "check_bounds", "exact_shapes", "read_outline", "refuse_unbounded", "takes_bytes"]
