"""Charts as SVG: what is drawn, and how little it needs."""

from __future__ import annotations

import re

import numpy as np

from yoloship.validate.report.plot import Line, bar, label, line_chart, mark_x, place, shortened


def test_a_line_needs_only_the_points_where_it_turns() -> None:
    x = np.linspace(0, 1, 1000)
    chart = line_chart(
        [Line("flat", x, np.full(1000, 0.5), "c0"), Line("step", x, np.where(x > 0.5, 1.0, 0.0), "c1")], "x", "y", "z"
    )
    flat, step = re.findall(r' d="([^"]*)"', chart)
    assert flat.count("L") == 1
    assert step.count("L") == 3
    assert len(chart) < 6000


def test_what_is_no_number_is_not_drawn() -> None:
    x = np.linspace(0, 1, 4)
    nothing = Line("nothing", x, np.full(4, np.nan), "c0")
    part = Line("part", x, np.array([0.5, 0.5, np.nan, np.nan]), "c1")
    chart = line_chart([nothing, part], "x", "y", "z")
    (way,) = re.findall(r' d="([^"]*)"', chart)
    assert "nan" not in chart
    assert way.split("L")[1].split()[0] == f"{place(1 / 3, 0)[0]:.1f}".removesuffix(".0")


def test_names_of_lines_marks_and_bars_are_escaped() -> None:
    hostile = "<script>"
    parts = [
        line_chart([Line(hostile, np.array([0.0, 1]), np.array([0.0, 1]), "c0")], hostile, hostile, hostile),
        mark_x(0.5, hostile), bar(0, 0, 1, 1, hostile), label(hostile, 0, 0),
    ]  # fmt: skip
    assert all(hostile not in part and "&lt;script&gt;" in part for part in parts)


def test_a_mark_near_the_right_edge_has_its_name_on_the_left() -> None:
    assert 'text-anchor="end"' in mark_x(0.9, "0.9")
    assert 'text-anchor="start"' in mark_x(0.1, "0.1")


def test_long_names_are_shortened() -> None:
    assert shortened("a" * 16) == "a" * 16
    assert shortened("a" * 17) == "a" * 15 + "…"
