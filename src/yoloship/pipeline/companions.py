"""Which files belong to a model besides the one that is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.errors import YoloshipError
from yoloship.kinds import kind_of

if TYPE_CHECKING:
    from pathlib import Path


def companions(model: Path) -> tuple[Path, ...]:
    """The sidecar of an engine, or the files that hold the weights of an ONNX model.

    Args:
        model: A model's file; whatever cannot be read has no companions.

    Returns:
        Their paths, whether they exist or not.
    """
    try:
        kind = kind_of(model)
        if kind == "engine":
            from yoloship.engine import sidecar_path

            return (sidecar_path(model),)
        if kind == "onnx":
            from yoloship.graph.check import external_files

            return external_files(model)
    except YoloshipError:  # whoever opens it says what is wrong with it
        pass
    return ()
