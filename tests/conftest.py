"""Fixtures for all tests: the shared test data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers import shared

if TYPE_CHECKING:
    from pathlib import Path


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
