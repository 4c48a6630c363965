from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from helpers.cuda_contract import PostprocessContract
from helpers.cuda_emulator import EmulatedRig
from yoloship.cuda.postprocess import (
    HeadLevel,
    ScoreFilter,
    Suppression,
    Workspace,
    pack_classes,
    pack_levels,
    result_dtype,
    workspace_bytes,
    workspace_parts,
)
from yoloship.errors import InputError

if TYPE_CHECKING:
    import ctypes


@pytest.mark.parametrize(
    "changes",
    [{"iou_threshold": float("nan")}, {"iou_threshold": 1.1}, {"max_detections": 0}, {"max_detections": 1025}],
)
def test_a_suppression_outside_its_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        replace(Suppression(), **changes)


@pytest.mark.parametrize("changes", [{"score_threshold": float("nan")}, {"score_threshold": -0.1}, {"classes": 0}])
def test_a_score_filter_outside_its_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        replace(ScoreFilter(80), **changes)


def test_levels_are_numbered_in_the_order_of_the_raw_output() -> None:
    levels = [HeadLevel(1, (4, 6), 8, ((1.0, 2.0), (3.0, 4.0))), HeadLevel(2, (2, 3), 16, ((5.0, 6.0),))]
    table = pack_levels(levels)
    assert table["first"].tolist() == [0, 48]
    assert table["sizes"][0].tolist()[:3] == [[1, 2], [3, 4], [0, 0]]
    with pytest.raises(InputError, match=r"levels\[0\]"):
        pack_levels([replace(levels[0], anchors=((1.0, 1.0),) * 9)])
    with pytest.raises(InputError, match="levels"):
        pack_levels([])


def test_class_ids_become_bits() -> None:
    assert pack_classes([0, 33, 79], 80).tolist() == [1, 2, 1 << 15]
    with pytest.raises(InputError, match="expected 0 to 79, got 80"):
        pack_classes([80], 80)


def test_parts_of_a_workspace_are_aligned_and_apart() -> None:
    parts = workspace_parts(3, 1000)
    end = 0
    for offset, size in parts.values():
        assert offset % 256 == 0
        assert offset >= end
        end = offset + size
    assert workspace_bytes(3, 1000) >= end
    assert Workspace(256, 3, 1000).part("matrix") == 256 + parts["matrix"][0]
    with pytest.raises(InputError, match="multiple of 256"):
        Workspace(100, 3, 1000)


def test_a_result_is_a_few_kilobytes() -> None:
    assert result_dtype(300).itemsize == 16 + 28 * 300


class TestPostprocessOnTheEmulator(PostprocessContract):
    @pytest.fixture
    def rig(self, emulator: ctypes.CDLL) -> EmulatedRig:
        return EmulatedRig(emulator)
