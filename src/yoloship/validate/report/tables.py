"""Tables of the page: facts, and tables that are sorted by their headings without a script.

Each row of a sorted table carries its rank by every column as a property of its style. A radio button for each column
chooses which of them is its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yoloship.validate.report.markup import Markup, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from yoloship.validate.report.markup import Content


MAX_COLUMNS: Final = 14
"""As many as the style has rules for."""
MAX_ROWS: Final = 2000


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a sorted table.

    Attributes:
        title: Its heading.
        explanation: What it is, shown when the pointer rests on the heading.
        is_text: Whether it is sorted from a to z, rather than from the largest down.
        has_bar: Whether a number in [0, 1] is also shown as a bar.
    """

    title: str
    explanation: str = ""
    is_text: bool = False
    has_bar: bool = False


def sorted_table(
    name: str, columns: Sequence[Column], rows: Sequence[Sequence[float | str | None]], widths: str
) -> Markup:
    """A table that its headings sort.

    Args:
        name: Of the table, unique in the page.
        columns: `MAX_COLUMNS` at most.
        rows: A value for each column; None is shown as a dash, and comes last. `MAX_ROWS` are shown.
        widths: The widths of the columns, as CSS has them for a grid.
    """
    assert len(columns) <= MAX_COLUMNS
    more = len(rows) - MAX_ROWS
    rows = rows[:MAX_ROWS]
    ranks = [_ranks([row[index] for row in rows], column) for index, column in enumerate(columns)]
    buttons = [
        tag(
            "input", type="radio", name=name, id=f"{name}-{index}", checked=index == 0, class_="by",
            aria_label=f"sort by {column.title}",
        )
        for index, column in enumerate(columns)
    ]  # fmt: skip
    reverse = tag("input", type="checkbox", id=f"{name}-r", class_="reverse", aria_label="turn the order round")
    head = tag(
        "tr",
        *(
            tag("th", tag("label", column.title, for_=f"{name}-{index}", title=column.explanation or None))
            for index, column in enumerate(columns)
        ),
    )
    body = [
        tag(
            "tr", *map(_cell, row, columns),
            style=";".join(f"--s{index}:{rank[place]}" for index, rank in enumerate(ranks)),
        )
        for place, row in enumerate(rows)
    ]  # fmt: skip
    return tag(
        "div", *buttons, reverse,
        tag(
            "p", "Click a heading to sort. ", tag("label", "Reverse the order", for_=f"{name}-r"),
            class_="hint sorting",
        ),
        tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll"),
        tag("p", f"and {more:,} more", class_="hint") if more > 0 else None,
        class_="sorted", style=f"--widths:{widths}",
    )  # fmt: skip


def _ranks(values: Sequence[float | str | None], column: Column) -> list[int]:
    """The place of each value in its order; ties keep the order of the rows."""
    absent = [place for place, value in enumerate(values) if value is None]
    there = [(value, place) for place, value in enumerate(values) if value is not None]
    if column.is_text:
        there.sort(key=lambda pair: str(pair[0]).casefold())
    else:
        there.sort(key=lambda pair: -float(pair[0]))
    ranks = [0] * len(values)
    for rank, place in enumerate([*(place for _, place in there), *absent]):
        ranks[place] = rank
    return ranks


def _cell(value: float | str | None, column: Column) -> Markup:
    if column.is_text:
        return tag("th", value, title=value, scope="row")
    if value is None:
        return tag("td", "–")
    words = f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
    share = f"--end:{100 * float(value):.1f}%" if column.has_bar else None
    return tag("td", words, class_="share" if column.has_bar else None, style=share)


def fact_table(facts: Mapping[str, Content]) -> Markup:
    """A table of names and values.

    Args:
        facts: In order.
    """
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in facts.items()]
    return tag("table", tag("tbody", *rows), class_="facts")


def plain_table(headings: Sequence[str], rows: Iterable[Sequence[Content]]) -> Markup:
    """A table as it is.

    Args:
        headings: Of the columns.
        rows: Cells in the order of the headings.
    """
    head = tag("thead", tag("tr", *(tag("th", one, scope="col") for one in headings)))
    body = tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
    return tag("div", tag("table", head, body, class_="plain"), class_="scroll")
