from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.cuda_emulator import EmulatedRig
from helpers.cuda_task_contract import KeypointsContract
from yoloship.cuda.extras import EXTRA_LEVEL_DTYPE, ExtraLevel, Extras, Keypoints, pack_extra_levels
from yoloship.cuda.free_heads import Span
from yoloship.errors import InputError

if TYPE_CHECKING:
    import ctypes


def test_levels_are_numbered_in_the_order_of_the_candidates() -> None:
    level = ExtraLevel(Span(1, 2, 3, 4), (4, 6), 8, anchors=3, anchor_step=7)
    table = pack_extra_levels([level, level])
    assert EXTRA_LEVEL_DTYPE.itemsize == 48
    assert table.tolist() == [(1, 2, 7, 3, 4, 0, 24, 6, 8, 0), (1, 2, 7, 3, 4, 72, 24, 6, 8, 0)]
    for levels in ([], [level] * 9):
        with pytest.raises(InputError, match="levels: out of range: expected 1 to 8"):
            pack_extra_levels(levels)


def test_keypoints_outside_the_range_are_refused() -> None:
    with pytest.raises(InputError, match="points: out of range: expected 1 to 1024, got 0"):
        Keypoints(Extras(0, 1), 0, 3, "offsets")
    with pytest.raises(InputError, match="dimensions: out of range: expected 2 or 3, got 4"):
        Keypoints(Extras(0, 1), 17, 4, "offsets")


class TestKeypointsOnTheEmulator(KeypointsContract):
    @pytest.fixture
    def rig(self, emulator: ctypes.CDLL) -> EmulatedRig:
        return EmulatedRig(emulator)
