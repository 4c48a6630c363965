from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    """Write a model and give its path."""

    def save(model: onnx.ModelProto) -> Path:
        path = tmp_path / "small.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return save
