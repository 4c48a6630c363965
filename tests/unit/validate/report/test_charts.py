"""The charts of a validation: what is in them, and what is left out."""

from __future__ import annotations

import re
from types import MappingProxyType

import numpy as np

from helpers.validated import BOX, FAR, NAMES, OTHER, dataset, found, sample
from yoloship.validate.calibration import calibration_bins
from yoloship.validate.choices import ValOptions
from yoloship.validate.objects import judge_objects
from yoloship.validate.record import SizeFigures, Validation
from yoloship.validate.report.charts import (
    calibration_figure,
    confusion_figure,
    confusions,
    curve_figures,
    shortened,
    size_figure,
    speed_figure,
)

CLASSES = dict(enumerate(NAMES))


def validation() -> Validation:
    samples = [sample("a.jpg", [BOX, OTHER], [0, 1])]
    return judge_objects(samples, [found([BOX, FAR], [0.9, 0.4], [0, 1])], dataset(samples), ValOptions())


def test_there_are_four_charts_of_curves_with_a_line_for_each_class_and_their_mean() -> None:
    charts = curve_figures(validation())
    assert len(charts) == 4
    assert [chart.count("<path") for chart in charts] == [3, 3, 3, 3]
    assert all("<title>cat</title>" in chart for chart in charts)


def test_a_confusion_matrix_shows_its_counts_and_what_they_mean() -> None:
    matrix = np.zeros((4, 4), np.int64)
    matrix[0, 0], matrix[1, 0], matrix[3, 1], matrix[0, 3] = 7, 2, 3, 4
    html = confusion_figure(matrix, CLASSES, "from a confidence of 0.5 on")
    assert html is not None
    for words in ("cat taken for dog: 2 (22 %)", "dog missed: 3 (100 %)", "cat invented: 4"):
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


def test_calibration_says_which_way_the_scores_are_wrong() -> None:
    sure = calibration_figure(calibration_bins(np.array([0.95, 0.95]), np.array([True, False])))
    humble = calibration_figure(calibration_bins(np.array([0.55]), np.array([True])))
    assert sure is not None
    assert humble is not None
    assert "error 0.450; on the whole the model is too sure of itself" in sure
    assert "better than it says" in humble
    assert calibration_figure(()) is None


def test_sizes_without_objects_are_left_out() -> None:
    sizes = (SizeFigures("small", 0, 1024, 0, None, None), SizeFigures("large", 9216, None, 3, 0.5, 0.75))
    html = size_figure(sizes)
    assert html is not None
    assert "small" not in html
    assert "96² px and more" in html
    assert size_figure(sizes[:1]) is None


def test_speed_has_every_stage_and_their_sum() -> None:
    html = speed_figure(MappingProxyType({"read": 2.0, "network": 18.0}), "On a test.")
    assert html is not None
    assert "network 18.00 ms" in html
    assert "20.0 ms an image, 50.0 images a second" in html
    assert speed_figure(MappingProxyType({}), "") is None


def test_long_names_are_shortened() -> None:
    assert shortened("a" * 16) == "a" * 16
    assert shortened("a" * 17) == "a" * 15 + "…"
