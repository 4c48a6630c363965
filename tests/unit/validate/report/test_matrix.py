"""The confusion matrix of a report."""

from __future__ import annotations

import re

import numpy as np

from helpers.validated import NAMES
from yoloship.validate.report.matrix import confusion_figure, confusions

CLASSES = dict(enumerate(NAMES))


def test_a_confusion_matrix_shows_its_counts_and_what_they_mean() -> None:
    matrix = np.zeros((4, 4), np.int64)
    matrix[0, 0], matrix[1, 0], matrix[3, 1], matrix[0, 3] = 7, 2, 3, 4
    html = confusion_figure(matrix, CLASSES, "from a confidence of 0.5 on")
    assert html is not None
    for words in ("cat taken for dog: 2 (22 %)", "dog missed: 3 (100 %)", "false cat: 4"):
        assert words in html
    assert "owl" not in html  # nothing is known of it
    assert re.search(r">7</text>", html)
    assert confusions(matrix, CLASSES) == [("cat", "dog", "2", "22.2 %")]


def test_a_matrix_of_many_classes_draws_only_what_is_there() -> None:
    matrix = np.zeros((81, 81), np.int64)
    matrix[np.arange(80), np.arange(80)] = 5
    matrix[3, 4] = 1
    html = confusion_figure(matrix, {index: f"class {index}" for index in range(80)}, "")
    assert html is not None
    assert html.count("<rect") == 81
    assert confusion_figure(np.zeros((3, 3), np.int64), CLASSES, "") is None


def test_a_matrix_of_a_thousand_classes_stays_small() -> None:
    matrix = np.random.default_rng(0).integers(0, 9, (1001, 1001))
    html = confusion_figure(matrix, {index: f"class {index}" for index in range(1000)}, "")
    assert html is not None
    assert html.count("<rect") == 4000
    assert "The 4,000 largest cells are drawn." in html
    assert len(html) < 1_500_000


def test_a_class_called_background_is_a_class() -> None:
    matrix = np.array([[3, 2, 0], [0, 4, 0], [1, 0, 0]])
    html = confusion_figure(matrix, {0: "background", 1: "cat"}, "")
    assert html is not None
    assert "cat taken for background: 2 (33 %)" in html
    assert "background missed: 1 (25 %)" in html
