"""Where the shared test data is, and what happens without it: a test skips with a reason, but fails in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"
"""Third-party test data beside the repository; never part of it."""

CHECKPOINTS = SHARED / "checkpoints"
TRAINED = CHECKPOINTS / "trained"
GENERATED = CHECKPOINTS / "generated"
PHOTOS = SHARED / "photos"

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


def require(path: Path) -> Path:
    """Give `path` back. If it does not exist, skip the test, or fail it in CI."""
    if path.exists():
        return path
    message = f"shared test data is absent: ../shared/{path.relative_to(SHARED).as_posix()}"
    if IN_CI:
        pytest.fail(f"{message}; CI must have it")
    pytest.skip(message)


def listed(folder: Path, pattern: str) -> list[Path]:
    """Files for parametrising, sorted. If the folder does not exist, the folder itself, for `require`."""
    return sorted(folder.glob(pattern)) or [folder]
