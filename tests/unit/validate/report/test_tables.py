"""Tables that are sorted without a script: the ranks of the rows."""

from __future__ import annotations

import re

from yoloship.validate.report.tables import Column, fact_table, plain_table, sorted_table

COLUMNS = [Column("class", is_text=True), Column("AP", "Average precision.", has_bar=True)]


def ranks(html: str, column: int) -> list[int]:
    return [int(rank) for rank in re.findall(rf"--s{column}:(\d+)", html)]


def test_each_row_has_its_rank_by_every_column() -> None:
    html = sorted_table("t", COLUMNS, [("dog", 0.2), ("Cat", 0.9), ("owl", None)], "1fr 1fr")
    assert ranks(html, 0) == [1, 0, 2]
    assert ranks(html, 1) == [1, 0, 2]  # the largest first, and what has no number last
    assert html.count('type="radio"') == 2
    assert "–" in html
    assert "--end:90.0%" in html


def test_equal_values_keep_the_order_of_the_rows() -> None:
    assert ranks(sorted_table("t", COLUMNS, [("b", 0.5), ("b", 0.5)], "1fr"), 1) == [0, 1]


def test_a_table_of_very_many_rows_says_how_many_it_leaves_out() -> None:
    html = sorted_table("t", COLUMNS, [(f"class {number}", 0.5) for number in range(2100)], "1fr")
    assert html.count("<tr") == 2001
    assert "and 100 more" in html


def test_cells_are_escaped() -> None:
    hostile = '"><script>alert(1)</script>'
    for html in (
        sorted_table("t", COLUMNS, [(hostile, 0.5)], "1fr"),
        fact_table({hostile: hostile}),
        plain_table((hostile,), [(hostile,)]),
    ):
        assert "<script" not in html
        assert "&lt;script&gt;" in html
