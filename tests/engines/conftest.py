from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

from helpers.networks import require_rtx
from helpers.tensorrt_library.wheels import chosen
from yoloship.engine import open_flavour

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from yoloship.engine import Flavour


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what TensorRT-RTX alone says and does, in a process with the bindings of TensorRT."""
    if chosen() is not None:
        items[:] = [item for item in items if item.get_closest_marker("only_rtx") is None]


@pytest.fixture(scope="session")
def flavour() -> Flavour:
    """TensorRT-RTX; in a process with the real bindings of TensorRT, those."""
    require_rtx()
    return open_flavour("rtx" if chosen() is None else "tensorrt")


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    """Write a model and give its path."""

    def save(model: onnx.ModelProto) -> Path:
        path = tmp_path / "small.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return save
