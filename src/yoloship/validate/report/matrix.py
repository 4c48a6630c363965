"""The confusion matrix of a report: the drawing, and its most frequent confusions as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.validate.report.markup import Markup, tag
from yoloship.validate.report.plot import drawing, figure, label, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from yoloship.validate.report.markup import Content


MAX_NARROW: Final = 9
"""Rows up to which a matrix stands beside another chart."""
MAX_NUMBERS: Final = 24
"""Classes up to which a matrix shows its numbers and names."""
MAX_CELLS: Final = 4000
"""Cells of a matrix that are drawn, if it has no numbers."""


def confusion_figure(matrix: npt.NDArray[np.int64], class_names: Mapping[int, str], said: str) -> Markup | None:
    """The confusion matrix: a column for what it is, a row for what the model says. None if nothing is in it.

    Args:
        matrix: (C + 1, C + 1) int64, the last for background.
        class_names: By class id.
        said: A sentence about what is counted.
    """
    background = len(matrix) - 1
    used = [index for index in range(background) if matrix[index].any() or matrix[:, index].any()]
    if not used:
        return None
    places = [*used, background] if matrix[background].any() or matrix[:, background].any() else used
    names = [class_names.get(index, f"class {index}") if index < background else "background" for index in places]
    part = matrix[np.ix_(places, places)]
    shares = part / np.maximum(part.sum(axis=0), 1)
    with_numbers = len(places) <= MAX_NUMBERS + 1
    side = max(32.0, min(64.0, 320 / len(places))) if with_numbers else max(5.0, 700 / len(places))
    left, top = (118.0, 96.0) if with_numbers else (24.0, 24.0)
    cells: list[Content] = []
    for row, column in np.ndindex(part.shape) if with_numbers else _largest(part):
        count, share = int(part[row, column]), float(shares[row, column])
        x, y = left + column * side, top + row * side
        kind = "right" if row == column else "wrong"
        words = f"{names[column]} taken for {names[row]}: {count} ({100 * share:.0f} %)"
        if places[row] == background:
            words = f"{names[column]} missed: {count} ({100 * share:.0f} %)"
        elif places[column] == background:
            words = f"false {names[row]}: {count}"
        strength = f"fill-opacity:{0.08 + 0.92 * share:.2f}" if count else "fill-opacity:0.03"
        cells.append(
            tag(
                "rect", tag("title", words), x=f"{x:.1f}", y=f"{y:.1f}", width=f"{side - 1:.1f}",
                height=f"{side - 1:.1f}", class_=kind, style=strength,
            )
        )  # fmt: skip
        if with_numbers and count:
            shade = "cell strong" if share > 0.55 else "cell"
            cells.append(label(f"{count}", x + side / 2, y + side / 2 + 4, anchor="middle", style=shade))
    extent = side * len(places)
    texts: list[Content] = []
    if with_numbers:
        for index, name in enumerate(names):
            middle = (index + 0.5) * side
            texts.append(label(shortened(name), left - 8, top + middle + 4, anchor="end"))
            texts.append(label(shortened(name, 13), left + middle + 4, top - 8, turned=True))
    texts += [
        label("true class", left + extent / 2, 12, anchor="middle", style="axis"),
        label("predicted class", 12, top + extent / 2, anchor="middle", style="axis", turned=True),
    ]
    chart = drawing(
        max(left + extent + 8, 360),
        top + extent + 8,
        "Confusion matrix: true class by predicted class",
        cells,
        texts,
    )
    hint = f"{said} The colour shows the share of the column. The diagonal is correct"
    hint += (
        "; the last row is missed objects, and the last column false detections." if places[-1] == background else "."
    )
    if not with_numbers and np.count_nonzero(part) > MAX_CELLS:
        hint += f" The {MAX_CELLS:,} largest cells are drawn."
    return figure("Confusion matrix", chart, tag("p", hint.strip(), class_="hint"), wide=len(places) > MAX_NARROW)


def _largest(part: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The places of the largest cells that are not 0, `MAX_CELLS` at most."""
    rows, columns = part.nonzero()
    order = np.argsort(-part[rows, columns], kind="stable")[:MAX_CELLS]
    return list(zip(rows[order].tolist(), columns[order].tolist(), strict=True))


def confusions(matrix: npt.NDArray[np.int64], class_names: Mapping[int, str], most: int = 12) -> list[tuple[str, ...]]:
    """The most frequent confusions of one class with another: what it is, what the model says, and how often.

    Args:
        matrix: (C + 1, C + 1) int64, the last for background.
        class_names: By class id.
        most: Rows at most.
    """
    part = matrix[:-1, :-1].copy()
    np.fill_diagonal(part, 0)
    order = np.argsort(-part, axis=None, kind="stable")[:most]
    rows: list[tuple[str, ...]] = []
    for place_ in order.tolist():
        row, column = divmod(place_, len(part))
        if not part[row, column]:
            break
        share = part[row, column] / max(int(matrix[:, column].sum()), 1)
        true, said = (class_names.get(index, f"class {index}") for index in (column, row))
        rows.append((true, said, str(int(part[row, column])), f"{100 * share:.1f} %"))
    return rows
