from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.cuda_emulator import emulator_library

if TYPE_CHECKING:
    import ctypes


@pytest.fixture(scope="session")
def emulator() -> ctypes.CDLL:
    """The kernels, compiled for the processor."""
    return emulator_library()
