from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers.models import ANCHORS, STRIDES, info
from yoloship.cuda.extras import EXTRA_LEVEL_DTYPE
from yoloship.cuda.free_heads import FREE_LEVEL_DTYPE
from yoloship.errors import SessionError
from yoloship.runtime.session import DeviceTensor
from yoloship.tasks import kernels

HW = (64, 96)
FREE = info("heads", family="ultralytics", anchors=())
GRIDS = [(HW[0] // stride, HW[1] // stride) for stride in STRIDES]


class Tables:
    """Takes tables for a device, and keeps them."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def __call__(self, table: Any) -> int:
        self.kept.append(table)
        return 1000 + len(self.kept)


def tensor(*shape: int, pointer: int = 256, dtype: Any = "float32") -> DeviceTensor:
    return DeviceTensor("out", dtype, shape, pointer)


def maps(*channels: int, dtype: Any = "float32") -> list[DeviceTensor]:
    """For each level a map of each of these channels, at addresses of their own."""
    found = [tensor(2, count, *grid, dtype=dtype) for grid in GRIDS for count in channels]
    return [replace(one, pointer=4096 * place) for place, one in enumerate(found)]


def test_the_tables_have_room_for_what_is_usual_and_not_for_more() -> None:
    assert kernels.fits_maps(FREE)
    assert kernels.fits_maps(info("heads"))
    assert not kernels.fits_maps(replace(FREE, strides=(8,) * 9))
    assert not kernels.fits_maps(info("heads", anchors=(ANCHORS[0] * 3,) * 3))
    assert kernels.fits_rows(replace(FREE, task="segment", extra_columns=256))
    assert not kernels.fits_rows(replace(FREE, task="segment", extra_columns=257))
    assert kernels.fits_rows(replace(FREE, task="obb", extra_columns=1))
    pose = replace(FREE, task="pose", extra_columns=2048, keypoint_shape=(1024, 2))
    assert kernels.fits_rows(pose)
    assert not kernels.fits_rows(replace(pose, extra_columns=2050, keypoint_shape=(1025, 2)))
    assert not kernels.fits_rows(replace(FREE, task="of another package", extra_columns=1))


def test_maps_without_anchors_are_found_level_by_level() -> None:
    upload = Tables()
    heads = kernels.free_maps(maps(64, 3), FREE, HW, upload)
    (table,) = upload.kept
    assert table.dtype == FREE_LEVEL_DTYPE
    assert (heads.table, heads.bins, heads.cells, heads.kernel) == (1001, 16, 126, "decode_free")
    assert table["boxes"].tolist() == [(0, 6144, 96, 1), (8192, 1536, 24, 1), (16384, 384, 6, 1)]
    assert table["classes"]["data"].tolist() == [4096, 12288, 20480]
    assert table["stride"].tolist() == list(STRIDES)
    assert not heads.is_chosen


def test_a_one_to_one_head_gives_pairs_and_its_extras_know_it() -> None:
    record = replace(FREE, head="one2one", extra_columns=6, task="pose")
    heads = kernels.free_maps(maps(4, 3, 6), record, HW, Tables())
    assert (heads.bins, heads.is_chosen, heads.most) == (1, True, 300)
    upload = Tables()
    extras = kernels.free_map_extras(maps(4, 3, 6), record, HW, upload)
    assert (extras.levels, extras.classes) == (3, 3)
    assert upload.kept[0]["data"].tolist() == [8192, 20480, 32768]
    assert upload.kept[0]["stride"].tolist() == list(STRIDES)


def test_keypoints_of_maps_are_offsets_and_those_of_rows_are_decoded() -> None:
    record = replace(FREE, task="pose", extra_columns=6, keypoint_shape=(2, 3))
    extras = kernels.free_map_extras(maps(64, 3, 6), record, HW, Tables())
    for form, expected in (("heads", "offsets"), ("raw", "decoded"), ("end2end", "decoded")):
        found = kernels.keypoints(extras, replace(record, output_form=form))
        assert (found.points, found.dimensions, found.form, found.extras) == (2, 3, expected, extras)


def test_the_further_map_of_oriented_boxes_is_the_angle() -> None:
    record = replace(FREE, extra_columns=1, task="obb")
    upload = Tables()
    heads = kernels.free_maps(maps(64, 3, 1), record, HW, upload)
    assert (heads.kernel, heads.is_rotated) == ("decode_rotated", True)
    assert upload.kept[0]["angles"]["data"].tolist() == [8192, 20480, 32768]
    columns = kernels.channel_rows(tensor(2, 8, 126, dtype="float16"), record, upload)
    assert (columns.kernel, columns.bins, columns.dtype) == ("decode_rotated", 0, "float16")
    assert upload.kept[1]["angles"][0].tolist() == (256 + 7 * 126 * 2, 8 * 126, 126, 1)
    assert kernels.chosen_rows(tensor(2, 300, 7), record).kernel == "decode_chosen_rotated"


def test_the_extras_of_anchors_are_multiplied_by_the_objectness() -> None:
    record, upload = info("heads", task="segment", extra_columns=4), Tables()
    heads = kernels.anchor_maps(maps(3 * 12), record, HW, upload)
    assert (heads.extras, heads.cells) == (4, 378)
    kernels.anchor_map_extras(maps(3 * 12), record, HW, upload)
    table = upload.kept[1]
    assert table.dtype == EXTRA_LEVEL_DTYPE
    assert table["weight"].tolist() == [-4] * 3
    assert table["first"].tolist() == [0, 288, 360]
    assert table["anchor_step"].tolist() == [12 * 96, 12 * 24, 12 * 6]
    assert table["data"][0] == 8 * 96 * 4
    assert kernels.object_rows(tensor(2, 378, 12), record).extras == 4
    kernels.object_row_extras(tensor(2, 378, 12), record, upload)
    assert upload.kept[2].tolist() == [(256 + 8 * 4, 378 * 12, 0, 1, 12, 0, 378, 378, 1.0, 4)]


def test_prototypes_carry_the_rule_of_the_record() -> None:
    record = info("raw", task="segment", extra_columns=4, mask_rule="yolov5")
    extras = kernels.object_row_extras(tensor(2, 378, 12), record, Tables())
    found = kernels.mask_prototypes(tensor(2, 4, 16, 24), extras, record, HW)
    assert (found.count, found.hw, found.factor) == (4, (16, 24), 4)
    assert (found.squashes, found.crops_first, found.drops_empty) == (True, True, False)
    with pytest.raises(SessionError, match="prototypes do not fit"):
        kernels.mask_prototypes(tensor(2, 5, 16, 24), extras, record, HW)
    with pytest.raises(SessionError, match="expected float32, got float16"):
        kernels.mask_prototypes(tensor(2, 4, 16, 24, dtype="float16"), extras, record, HW)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kernels.object_rows(tensor(2, 9, 7), info("raw")), r"expected \(\?, \?, 8\), got float32\(2, 9, 7\)"),
        (lambda: kernels.channel_rows(tensor(2, 8, 9), FREE, Tables()), r"expected \(\?, 7, \?\)"),
        (lambda: kernels.chosen_rows(tensor(2, 9, 7), FREE), r"expected \(\?, \?, 6\)"),
        (lambda: kernels.anchor_maps(maps(24)[:2], info("heads"), HW, Tables()), "expected 3, got 2"),
        (lambda: kernels.anchor_maps(maps(23), info("heads"), HW, Tables()), r"expected \(2, 24, 8, 12\)"),
        (lambda: kernels.free_maps(maps(64), FREE, HW, Tables()), "expected 6, got 3"),
        (lambda: kernels.free_maps(maps(64, 4), FREE, HW, Tables()), r"expected \(2, 3, 8, 12\)"),
        (lambda: kernels.free_maps(maps(63, 3), FREE, HW, Tables()), "expected 4 sides of 1 to 16 channels, got 63"),
        (
            lambda: kernels.free_maps(maps(68, 3), FREE, HW, Tables()),
            "got 68 channels; export .* --output raw'",
        ),
        (lambda: kernels.free_maps(maps(64, 3, dtype="int32"), FREE, HW, Tables()), "expected float32 or float16"),
        (
            lambda: kernels.free_maps([*maps(64, 3)[:5], maps(64, 3, dtype="float16")[5]], FREE, HW, Tables()),
            "expected float32, got float16",
        ),
    ],
)
def test_outputs_that_are_not_what_the_record_promises_are_refused(call: Any, words: str) -> None:
    with pytest.raises(SessionError, match=words):
        call()


def test_tables_are_ready_to_be_copied() -> None:
    upload = Tables()
    kernels.channel_row_extras(tensor(2, 13, 126), replace(FREE, extra_columns=6, task="pose"), upload)
    kernels.chosen_row_extras(tensor(2, 300, 12), replace(FREE, extra_columns=6, task="pose"), upload)
    assert all(isinstance(table, np.ndarray) and table.flags.c_contiguous for table in upload.kept)
    assert upload.kept[0]["data"].tolist() == [256 + 7 * 126 * 4]
    assert upload.kept[1].tolist() == [(256 + 6 * 4, 300 * 12, 0, 1, 12, 0, 300, 300, 1.0, 0)]
