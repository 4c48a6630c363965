"""Triton's published schema of model configurations, as the package `tritonclient` ships it."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import text_format  # type: ignore[import-untyped]


@cache
def schema() -> Any:
    """The compiled module of ``model_config.proto``. The package around it would import gRPC."""
    package = importlib.util.find_spec("tritonclient")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def parsed(text: str) -> Any:
    """A configuration by the schema; what the schema does not have fails the test."""
    return text_format.Parse(text, schema().ModelConfig())
