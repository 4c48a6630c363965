"""The output forms of other projects' exports, and what they refuse of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yoloship.errors import SessionError
from yoloship.model import ModelInfo, TensorSpec
from yoloship.tasks.detect import Detect
from yoloship.tasks.foreign import FOREIGN_FORMS, OffsetsForm, cells_of, target_sizes

INFO = ModelInfo("detect", "yolox", ("a", "b"), (8, 16), (), "float", "offsets", (32, 48), 2)
HW = (32, 48)
SCORES = np.array([[0.9, 0.2], [0.1, 0.8]], np.float32)
BOXES = np.arange(16, dtype=np.float32).reshape(2, 2, 4)
IDS = np.array([[0, 1], [1, 0]])


def test_detection_finds_them_but_does_not_offer_them_for_an_export() -> None:
    assert {Detect().form(name, "x").name for name in FOREIGN_FORMS} == {"offsets", "set", "padded", "list"}
    assert not set(FOREIGN_FORMS) & {form.name for form in Detect.forms}
    with pytest.raises(SessionError, match="no such output form"):
        Detect().form("other", "x")


def test_cells_are_in_the_order_level_row_column() -> None:
    cells, strides = cells_of((8, 16), HW)
    assert cells[:7].tolist() == [[0, 0], [1, 0], [2, 0], [3, 0], [4, 0], [5, 0], [0, 1]]
    assert strides.ravel().tolist() == [8] * 24 + [16] * 6


def test_sizes_are_asked_for_as_width_and_height() -> None:
    assert target_sizes(2, (480, 640)).tolist() == [[640, 480], [640, 480]]


def test_offsets_are_decoded_from_the_cell() -> None:
    rows = np.zeros((1, 30, 7), np.float32)
    rows[0, 25] = (0.25, 0.5, np.log(2), 0, 1, 0, 1)
    decoded = OffsetsForm().decoded(rows, INFO, HW)
    np.testing.assert_allclose(decoded[0, 25, :4], [1.25 * 16, 0.5 * 16, 32, 16])
    with pytest.raises(SessionError, match=r"expected \(B, 30, 7\)"):
        OffsetsForm().decode([rows[:, :-1]], INFO, HW, 0.1)


@pytest.mark.parametrize(
    ("form", "arrays", "expected"),
    [
        ("set", [IDS, BOXES, SCORES], [[0], [0]]),
        ("set", [IDS.astype(np.float32), BOXES, SCORES], [[0], [0]]),
        ("padded", [np.array([[2], [1]]), BOXES, SCORES, IDS], [[0], []]),
        ("list", [np.array([[1, 0, 1, 2, 3, 1, 0.6], [0, 4, 5, 6, 7, 0, 0.7]], np.float32)], [[0], [1]]),
    ],
)
def test_final_rows_above_the_threshold_are_kept_as_they_are(
    form: str, arrays: list[Any], expected: list[list[int]]
) -> None:
    found = FOREIGN_FORMS[form].decode(arrays, INFO, HW, 0.5)
    assert [one.class_ids.tolist() for one in found] == expected
    assert all(one.final for one in found)


@pytest.mark.parametrize(
    ("form", "arrays", "words"),
    [
        ("set", [IDS, BOXES[:, :1], SCORES], "the model's output is not as promised"),
        ("set", [IDS + 0.5, BOXES, SCORES], "expected whole numbers"),
        ("set", [IDS + 2, BOXES, SCORES], "a class id outside the model's classes"),
        ("set", [IDS, BOXES], "wrong number of outputs"),
        ("padded", [np.array([[3], [1]]), BOXES, SCORES, IDS], "each at most 2"),
        ("padded", [np.array([[1]]), BOXES, SCORES, IDS], r"expected \(2, 1\)"),
        ("padded", [np.array([[np.nan], [1]], np.float32), BOXES, SCORES, IDS], "expected whole numbers"),
        ("padded", [np.array([[1], [1]]), BOXES, SCORES[:, :1], IDS], "det_boxes"),
        ("list", [np.array([[2, 0, 1, 2, 3, 1, 0.6]], np.float32)], "rows of the images 0 to 1"),
        ("list", [np.array([[0.5, 0, 1, 2, 3, 1, 0.6]], np.float32)], "rows of the images 0 to 1"),
        ("list", [np.zeros((2, 6), np.float32)], r"expected \(n, 7\)"),
    ],
)
def test_outputs_that_contradict_the_form_are_refused(form: str, arrays: list[Any], words: str) -> None:
    with pytest.raises(SessionError, match=words):
        FOREIGN_FORMS[form].decode(arrays, INFO, HW, 0.05)


@pytest.mark.parametrize("form", FOREIGN_FORMS)
def test_another_number_of_outputs_contradicts_the_record(form: str) -> None:
    with pytest.raises(SessionError, match="the model's record says"):
        FOREIGN_FORMS[form].check([TensorSpec(str(place), "float32", (1,)) for place in range(5)], INFO, "x")


def test_outputs_are_found_by_name() -> None:
    specs = [TensorSpec(name, "float32", (1, 5)) for name in ("scores", "more", "boxes", "labels")]
    assert FOREIGN_FORMS["set"].places(specs, INFO) == (3, 2, 0)
    with pytest.raises(SessionError, match="has no output 'num_dets'"):
        FOREIGN_FORMS["padded"].places(specs, INFO)
