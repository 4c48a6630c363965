"""Fixtures for all tests: the shared test data, and TensorRT-RTX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers import shared
from helpers.networks import require_rtx

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.engine import Flavour


@pytest.fixture(scope="session")
def shared_root() -> Path:
    """The folder of third-party test data beside the repository."""
    return shared.require(shared.SHARED)


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    """`../shared/checkpoints`."""
    return shared.require(shared.CHECKPOINTS)


@pytest.fixture(scope="session")
def photos() -> Path:
    """`../shared/photos`."""
    return shared.require(shared.PHOTOS)


@pytest.fixture(scope="session")
def rtx() -> Flavour:
    """TensorRT-RTX, which builds on machines without a GPU."""
    from yoloship.engine import open_flavour

    require_rtx()
    return open_flavour("rtx")
