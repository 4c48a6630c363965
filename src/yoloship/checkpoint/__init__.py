"""Reading a trained checkpoint as data: nothing in it is imported, called or run."""

from __future__ import annotations

from yoloship.checkpoint.reader import read_checkpoint
from yoloship.checkpoint.records import Checkpoint, Module, Opaque, Storage, Tensor, Value

__all__ = ["Checkpoint", "Module", "Opaque", "Storage", "Tensor", "Value", "read_checkpoint"]
