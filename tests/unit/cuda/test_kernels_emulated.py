from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from helpers.cuda_contract import KernelContract
from helpers.cuda_emulator import EmulatedRig, emulator_library

if TYPE_CHECKING:
    import ctypes


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return emulator_library(tmp_path_factory.getbasetemp())


class TestKernelsOnTheEmulator(KernelContract):
    SIDE: ClassVar[int] = 96
    SIZES: ClassVar[tuple[tuple[int, int], ...]] = ((270, 202), (90, 160), (37, 200), (96, 72), (1, 1), (3, 130))

    @pytest.fixture
    def rig(self, library: ctypes.CDLL) -> EmulatedRig:
        return EmulatedRig(library)
