"""ONNX files as bytes: writing a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def graph_bytes(model: onnx.ModelProto) -> bytes:
    """The file's bytes; the same for the same model."""
    return model.SerializeToString(deterministic=True)
