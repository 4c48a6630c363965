"""Label files, and what a training does with them. The cases are those of ../shared/val, in small."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from helpers.datasets import NAMES, write_text
from yoloship.datasets.label_file import LabelFile, read_label_file
from yoloship.errors import InputError
from yoloship.evaluate.label_lines import BOXES, CornerLines, KeypointLines, LabelLines, OutlineLines

HW = (100, 200)
GOOD = "1 0.5 0.5 0.2 0.4\n"


def read(folder: Path, text: str | bytes, form: LabelLines = BOXES) -> LabelFile:
    return read_label_file(write_text(folder / "a.txt", text), HW, form, NAMES)


def test_rows_become_boxes_in_source_pixels(tmp_path: Path) -> None:
    found = read(tmp_path, "1 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.1 0.2\n")
    assert found.truth is not None
    np.testing.assert_allclose(found.truth.boxes_xyxy, [[80, 30, 120, 70], [10, 10, 30, 30]], atol=1e-4)
    assert found.truth.class_ids.tolist() == [1, 0]
    assert not found.faults


def test_a_missing_file_means_an_image_without_objects(tmp_path: Path) -> None:
    found = read_label_file(tmp_path / "a.txt", HW, BOXES, NAMES)
    assert found.is_missing
    assert not found.is_empty
    assert found.truth is not None
    assert found.truth.boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("text", ["", "\n\n", "  \n", "\r\n"])
def test_an_empty_file_means_the_same(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text)
    assert found.is_empty
    assert not found.is_missing
    assert found.truth is not None


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n") * 1,
        f"\n{GOOD}\n\n",
        f"  \n{GOOD}   ",
        "1.0 0.5 0.5 0.2 0.4",
        "1 0.5 0.5 0.2 0.4   ",
        "1 5e-1 .5 +0.2 0.4",
        "1 0.5 0.5 0.2 0.4\n\n1 0.5 0.5 0.2 0.4",
    ],
)
def test_what_trainings_take_is_taken(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text)
    assert found.truth is not None
    assert found.truth.class_ids.tolist() == [1]


def test_numbers_are_rounded_to_float32_before_they_are_judged(tmp_path: Path) -> None:
    assert read(tmp_path, "0 0.5 0.5 1.00000001 1").truth is not None
    assert read(tmp_path, "0 0.5 0.5 1.0000002 1").truth is None


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (f"{GOOD}0 1.2 0.5 0.1 0.1\n", 2, r"1\.2 is not from 0 to 1"),
        (f"{GOOD}0 0.5 0.5 -0.1 0.1\n", 2, r"-0\.1 is not from 0 to 1"),
        (f"{GOOD}0 0.5 0.5 0.1\n", 2, "4 values, not the 5 of a box"),
        ("0 0.5 0.5 0.1 0.1 0.9\n", 1, "6 values, not the 5 of a box"),
        ("0\n", 1, "1 value, not the 5 of a box"),
        (f"{GOOD}   \n{GOOD}", 2, "a line of spaces between rows"),
        (f"{GOOD}dog 0.5 0.5 0.1 0.1\n", 2, "not a row of numbers: 'dog 0.5 0.5 0.1 0.1'"),
        ("-1 0.5 0.5 0.1 0.1\n", 1, "class -1 is negative"),
        (b"\xef\xbb\xbf0 0.5 0.5 0.1 0.1\n", 1, "byte order mark"),
        ("0 nan 0.5 0.1 0.1\n", 1, "not a row of numbers"),
        ("0 inf 0.5 0.1 0.1\n", 1, "not a row of numbers"),
        ("0 1e999 0.5 0.1 0.1\n", 1, "not a row of numbers"),
        ("0,0.5,0.5,0.1,0.1\n", 1, "not a row of numbers"),
        (b"0 0.5 0.5 0.1 \xff\n", None, "is not UTF-8"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2\n0 0.5 0.5 0.2 0.4 0.9\n", 2, "6 values in a file of outlines"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2\n0\n", 2, "1 value in a file of outlines"),
    ],
)
def test_one_wrong_row_leaves_out_the_image(tmp_path: Path, text: str | bytes, line: int | None, problem: str) -> None:
    found = read(tmp_path, text)
    assert found.truth is None
    (fault,) = found.faults
    assert (fault.path, fault.line, fault.consequence) == (tmp_path / "a.txt", line, "image left out")
    assert re.search(problem, fault.problem)


@pytest.mark.parametrize(
    ("class_text", "problem"),
    [
        ("3", "class 3 has no name: expected 0 to 2"),
        ("7", "class 7 has no name"),
        ("1.5", "class 1.5 is not a whole number: expected 0 to 2"),
        ("99999999999999999999", "class 99999999999999999... has no name"),
    ],
)
def test_a_class_without_a_name_or_a_fraction_of_one_is_refused_with_file_and_line(
    tmp_path: Path, class_text: str, problem: str
) -> None:
    with pytest.raises(InputError, match=rf"a\.txt, line 3: {problem}"):
        read(tmp_path, f"{GOOD}\n{class_text} 0.5 0.5 0.1 0.1\n")


def test_a_repeated_row_is_dropped_and_the_others_are_sorted_as_trainings_do(tmp_path: Path) -> None:
    found = read(tmp_path, "2 0.5 0.5 0.2 0.4\n0 0.10 0.2 0.1 0.2\n1 0.5 0.5 0.2 0.4\n0 0.1 0.20 0.1 0.2\n")
    assert found.truth is not None
    assert found.truth.class_ids.tolist() == [0, 1, 2]
    assert found.duplicates == 1
    (fault,) = found.faults
    assert (fault.line, fault.problem, fault.consequence) == (4, "repeats line 2", "row dropped")


def test_without_a_repeated_row_the_order_of_the_file_stays(tmp_path: Path) -> None:
    found = read(tmp_path, "2 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.1 0.2\n")
    assert found.truth is not None
    assert found.truth.class_ids.tolist() == [2, 0]


def test_one_outline_makes_all_rows_points_for_detection(tmp_path: Path) -> None:
    found = read(tmp_path, "0 0.1 0.2 0.5 0.2 0.5 0.8\n1 0.25 0.25 0.75 0.5\n")
    assert found.truth is not None
    np.testing.assert_allclose(found.truth.boxes_xyxy, [[20, 20, 100, 80], [50, 25, 150, 50]], atol=1e-4)


def test_a_box_without_area_is_kept_and_said(tmp_path: Path) -> None:
    found = read(tmp_path, "0 0.5 0.5 0 0.4\n")
    assert found.truth is not None
    assert len(found.truth.class_ids) == 1
    assert [fault.consequence for fault in found.faults] == ["kept"]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (OutlineLines(), "0 0.1 0.1 0.2 0.1 0.2 0.2\n1 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n"),
        (KeypointLines(2), "0 0.5 0.5 0.2 0.4 0.5 0.5 2 0.1 0.2 0\n1 0.5 0.5 0.2 0.4 0.5 0.5 2 0.1 0.2 0\n"),
        (CornerLines(), "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n1 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n"),
    ],
)
def test_labels_of_other_tasks_are_read_in_their_form(tmp_path: Path, form: LabelLines, text: str) -> None:
    found = read(tmp_path, text + text.splitlines()[0], form)
    assert found.truth is not None
    assert found.truth.class_ids.tolist() == [0, 1]
    assert [fault.problem for fault in found.faults] == ["repeats line 1"]


@pytest.mark.parametrize(
    ("form", "text", "problem"),
    [
        (OutlineLines(), "0 0.1 0.1 0.2 0.1", "5 values; expected class x1 y1"),
        (OutlineLines(), "0 0.1 0.1 0.2 0.1 0.2 1.5", "1.4, of the box around the points, is not from 0 to 1"),
        (CornerLines(), "0 -0.9 0.1 0.2 0.1 0.2 0.2 -0.9 0.2", "-0.35, of the box around the points, is not"),
        (OutlineLines(), "0 1e300 -1e300 0.2 0.1 0.2 0.5", "of the box around the points, is not"),
        (KeypointLines(2), "0 0.5 0.5 0.2 0.4 0.5 0.5 2", "expected class cx cy w h, and 2 keypoints"),
        (CornerLines(), "0 0.5 0.5 0.2 0.4", "the corners of an oriented box"),
    ],
)
def test_a_row_of_another_form_leaves_out_the_image(tmp_path: Path, form: LabelLines, text: str, problem: str) -> None:
    found = read(tmp_path, text, form)
    assert found.truth is None
    assert problem in found.faults[0].problem


def test_an_outline_or_a_line_that_is_too_long_leaves_out_the_image(tmp_path: Path) -> None:
    zigzag = "0" + " 0 0 1 1" * 5001
    found = read_label_file(write_text(tmp_path / "a.txt", zigzag), (300, 500), OutlineLines(), NAMES)
    assert [fault.problem for fault in found.faults] == ["an outline of more than 2,000,000 pixels"]
    assert found.truth is None
    found = read(tmp_path, GOOD + "0" * 1_000_001)
    assert [fault.problem for fault in found.faults] == ["a line of more than 1,000,000 characters"]


def test_random_bytes_give_labels_or_faults(tmp_path: Path) -> None:
    source = random.Random(3)
    pieces = [
        b"0 0.5 0.5 0.1 0.1",
        b"\n",
        b" ",
        b"1",
        b".",
        b"-",
        b"e5",
        b"nan",
        b"\r",
        b"\x00",
        b"\xff",
        b"\t",
        b"0.1 " * 5,
        "\u00a0".encode(),
    ]
    for _ in range(150):
        data = b"".join(source.choices(pieces, k=source.randrange(25)))
        for form in (BOXES, OutlineLines(), KeypointLines(1), CornerLines()):
            with suppress(InputError):
                found = read(tmp_path, data, form)
                assert (found.truth is None) == any(fault.consequence == "image left out" for fault in found.faults)


@pytest.mark.parametrize("form", [OutlineLines(), CornerLines()])
def test_points_may_lie_a_little_outside_the_image(tmp_path: Path, form: LabelLines) -> None:
    found = read(tmp_path, "0 -0.1 0.1 0.2 0.1 0.2 0.2 -0.1 0.2", form)
    assert found.truth is not None
    np.testing.assert_allclose(found.truth.boxes_xyxy, [[-20, 10, 40, 20]], atol=1e-4)


def test_too_many_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has too many labels: expected at most 10,000 an image"):
        read(tmp_path, GOOD * 10_001)
