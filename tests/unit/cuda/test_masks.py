from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.cuda_emulator import EmulatedRig
from helpers.cuda_mask_contract import MasksContract
from yoloship.cuda.extras import Extras
from yoloship.cuda.masks import Prototypes
from yoloship.errors import InputError

if TYPE_CHECKING:
    import ctypes


def test_too_many_prototypes_are_refused() -> None:
    with pytest.raises(InputError, match="prototypes: out of range: expected 1 to 256, got 257"):
        Prototypes(0, 257, (10, 10), 4, Extras(0, 1))


class TestMasksOnTheEmulator(MasksContract):
    @pytest.fixture
    def rig(self, emulator: ctypes.CDLL) -> EmulatedRig:
        return EmulatedRig(emulator)
