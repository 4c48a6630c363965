from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.cuda_emulator import EmulatedRig
from helpers.cuda_task_contract import RotatedContract
from yoloship.cuda.free_heads import FREE_LEVEL_DTYPE, Chosen, FreeHeads, FreeLevel, Span, pack_free_levels
from yoloship.errors import InputError

if TYPE_CHECKING:
    import ctypes

LEVEL = FreeLevel((4, 6), 8, Span(1, 2, 3), Span(4, 5, 6))


def test_levels_are_numbered_in_the_order_of_the_candidates() -> None:
    table = pack_free_levels([LEVEL, LEVEL])
    assert FREE_LEVEL_DTYPE.itemsize == 88
    assert table["first"].tolist() == [0, 24]
    assert table["boxes"][0].tolist() == (1, 2, 3, 1)
    assert table["angles"][0].tolist() == (0, 0, 0, 0)
    for levels in ([], [LEVEL] * 9):
        with pytest.raises(InputError, match="levels: out of range: expected 1 to 8"):
            pack_free_levels(levels)
    with pytest.raises(InputError, match=r"levels\[0\]: out of range: expected 1 cell or more"):
        pack_free_levels([FreeLevel((0, 6), 8, LEVEL.boxes, LEVEL.classes)])


def test_a_group_of_channels_begins_behind_those_before_it() -> None:
    assert Span.of_map(1000, 10, 24, first=3, item_bytes=2) == Span(1000 + 3 * 24 * 2, 240, 24, 1)


def test_what_the_kernels_cannot_read_is_refused() -> None:
    with pytest.raises(InputError, match="bins: out of range: expected 0 to 16, got 17"):
        FreeHeads(0, (LEVEL,), 17)
    with pytest.raises(InputError, match="columns: too few columns: expected 7 or more, got 6"):
        Chosen(0, 300, 6, is_rotated=True)


class TestFreeHeadsOnTheEmulator(RotatedContract):
    @pytest.fixture
    def rig(self, emulator: ctypes.CDLL) -> EmulatedRig:
        return EmulatedRig(emulator)
