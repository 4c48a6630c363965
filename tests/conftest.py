"""Fixtures for all tests: the shared test data."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# With --import-mode=importlib nothing puts this folder on the path, and `from _shared import …` needs it there.
sys.path.insert(0, str(Path(__file__).parent))

import _shared


@pytest.fixture(scope="session")
def shared_root() -> Path:
    """The folder of third-party test data beside the repository."""
    return _shared.require(_shared.SHARED)


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    """`../shared/checkpoints`."""
    return _shared.require(_shared.CHECKPOINTS)


@pytest.fixture(scope="session")
def photos() -> Path:
    """`../shared/photos`."""
    return _shared.require(_shared.PHOTOS)
