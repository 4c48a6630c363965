"""Detections as a table on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table

    from yoloship.results import Detections

MAX_ROWS = 50
"""A longer table helps nobody; the JSON has everything."""


def detections_table(found: Detections, title: str) -> Table:
    """One row an object, best first."""
    height, width = found.image_hw
    table = _table(("class", "score", "x1", "y1", "x2", "y2"), right=range(1, 6))
    table.title = _plain(f"{title}  {width}×{height}")
    for detection in list(found)[:MAX_ROWS]:
        corners = (f"{value:.1f}" for value in detection.box_xyxy)
        table.add_row(_plain(detection.class_name), f"{detection.score:.3f}", *corners)
    if len(found) > MAX_ROWS:
        table.caption = f"and {len(found) - MAX_ROWS} more"
    return table


def pictures_table(results: Sequence[tuple[str, Detections]]) -> Table:
    """One row a picture, and the sum."""
    table = _table(("picture", "size", "objects", "found"), right=(2,))
    for image, found in results[:MAX_ROWS]:
        height, width = found.image_hw
        table.add_row(_plain(image), f"{width}×{height}", str(len(found)), _plain(_counts([found])))
    if len(results) > MAX_ROWS:
        table.add_row(f"and {len(results) - MAX_ROWS} more", "", "", "")
    table.add_section()
    everything = [found for _, found in results]
    table.add_row(f"{len(results)} pictures", "", str(sum(map(len, everything))), _plain(_counts(everything)))
    return table


def facts_table(facts: Iterable[tuple[str, str]]) -> Table:
    """Two columns: what, and its value."""
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, _plain(value))
    return table


def _counts(results: Iterable[Detections]) -> str:
    totals: dict[str, int] = {}
    for found in results:
        for name, count in found.counts().items():
            totals[name] = totals.get(name, 0) + count
    ranked = sorted(totals.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {name}" for name, count in ranked) or "nothing"


def _table(columns: Iterable[str], right: Iterable[int]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in right else "left", overflow="fold")
    return table


def _plain(text: str) -> Any:
    """Text as it is: class names and paths are data, and their brackets are no markup; control characters go."""
    from rich.text import Text

    return Text("".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text))
