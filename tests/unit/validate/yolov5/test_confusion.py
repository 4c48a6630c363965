from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yoloship.validate.yolov5.confusion import enter

LABEL = (0.0, 0.0, 10.0, 10.0)
FAR = (50.0, 50.0, 60.0, 60.0)


def matrix(
    found: list[tuple[tuple[float, ...], float, int]], labels: list[tuple[tuple[float, ...], int]]
) -> npt.NDArray[np.int64]:
    cells = np.zeros((4, 4), np.int64)
    boxes = np.array([box for box, _, _ in found], np.float32).reshape(-1, 4)
    enter(
        cells,
        (boxes, np.array([score for _, score, _ in found], np.float32), np.array([i for _, _, i in found], np.int32)),
        np.array([box for box, _ in labels], np.float32).reshape(-1, 4),
        np.array([class_id for _, class_id in labels], np.int64),
    )
    return cells


def cells(found: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    return [(int(row), int(column), int(found[row, column])) for row, column in np.argwhere(found)]


def test_a_found_label_is_entered_with_the_class_it_was_taken_for() -> None:
    assert cells(matrix([(LABEL, 0.9, 2)], [(LABEL, 1)])) == [(2, 1, 1)]


def test_what_is_missed_and_what_is_invented_has_the_background() -> None:
    assert cells(matrix([(LABEL, 0.9, 0), (FAR, 0.9, 2)], [(LABEL, 0), (FAR[::-1], 1)])) == [
        (0, 0, 1), (2, 3, 1), (3, 1, 1),
    ]  # fmt: skip


def test_an_image_without_labels_is_not_entered() -> None:
    assert not matrix([(LABEL, 0.9, 0)], []).any()


def test_what_is_invented_where_nothing_is_found_is_not_entered() -> None:
    assert cells(matrix([(FAR, 0.9, 0)], [(LABEL, 1)])) == [(3, 1, 1)]


def test_scores_up_to_a_quarter_do_not_count() -> None:
    assert cells(matrix([(LABEL, 0.25, 0)], [(LABEL, 0)])) == [(3, 0, 1)]


def test_a_label_keeps_the_detection_that_overlaps_it_most_whatever_its_score() -> None:
    near = (0.0, 0.0, 10.0, 8.0)
    assert cells(matrix([(near, 0.9, 1), (LABEL, 0.3, 2)], [(LABEL, 0)])) == [(1, 3, 1), (2, 0, 1)]


def test_of_equal_overlaps_the_later_one_is_kept() -> None:
    assert cells(matrix([(LABEL, 0.9, 1), (LABEL, 0.8, 2)], [(LABEL, 0)])) == [(1, 3, 1), (2, 0, 1)]


def test_an_overlap_of_less_than_the_limit_finds_nothing() -> None:
    assert cells(matrix([((0.0, 0.0, 10.0, 4.4), 0.9, 0)], [(LABEL, 0)])) == [(3, 0, 1)]
