"""The charts of a validation: what is in them, and what is left out."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from helpers.validated import BOX, FAR, OTHER, dataset, found, sample
from yoloship.validate.calibration import calibration_bins
from yoloship.validate.choices import ValOptions
from yoloship.validate.objects import judge_objects
from yoloship.validate.record import SizeFigures, Validation
from yoloship.validate.report.charts import (
    calibration_figure,
    curve_figures,
    size_figure,
    speed_figure,
)


def validation() -> Validation:
    samples = [sample("a.jpg", [BOX, OTHER], [0, 1])]
    return judge_objects(samples, [found([BOX, FAR], [0.9, 0.4], [0, 1])], dataset(samples), ValOptions())


def test_there_are_four_charts_of_curves_with_a_line_for_each_class_and_their_mean() -> None:
    charts = curve_figures(validation())
    assert len(charts) == 4
    assert [chart.count("<path") for chart in charts] == [3, 3, 3, 3]
    assert all("<title>cat</title>" in chart for chart in charts)


def test_calibration_says_which_way_the_scores_are_wrong() -> None:
    sure = calibration_figure(calibration_bins(np.array([0.95, 0.95]), np.array([True, False])))
    humble = calibration_figure(calibration_bins(np.array([0.55]), np.array([True])))
    assert sure is not None
    assert humble is not None
    assert "error 0.450; overall, the scores are too high" in sure
    assert "the scores are too low" in humble
    even = calibration_figure(calibration_bins(np.array([0.55, 0.45]), np.array([True, False])))
    assert even is not None
    assert "the scores are right" in even
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
