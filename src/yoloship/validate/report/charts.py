"""The charts of a validation: curves, confusion, calibration, sizes and speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.validate.calibration import expected_error
from yoloship.validate.report.markup import Markup, joined, tag
from yoloship.validate.report.plot import (
    WIDTH,
    Line,
    bar,
    drawing,
    label,
    line_chart,
    mark_x,
    place,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.validate.record import CalibrationBin, Curves, SizeFigures, Validation
    from yoloship.validate.report.markup import Content


COLOURS: Final = 8
"""Classes that get a colour each; if there are more, their lines are grey."""
MAX_LINES: Final = 100
MAX_NARROW: Final = 9
"""Rows up to which a confusion matrix stands beside another chart."""
MAX_CELLS: Final = 4000
"""Cells of a confusion matrix that are drawn."""
STRIP: Final = 40
"""Height of the bars that count answers."""
MAX_NUMBERS: Final = 24
"""Classes up to which a confusion matrix shows its numbers and names."""
NAME_CHARS: Final = 16
STAGE_COLOURS: Final = 6


def figure(title: str, chart: Markup, *more: Content, wide: bool = False) -> Markup:
    """A chart with its title.

    Args:
        title: What it shows.
        chart: The drawing.
        *more: What is said below it.
        wide: Whether it takes the whole width of the page.
    """
    return tag("figure", tag("figcaption", title), chart, *more, class_="card wide" if wide else "card")


def curve_figures(found: Validation) -> list[Markup]:
    """Precision by recall, and F1, precision and recall by confidence; nothing without curves.

    Args:
        found: What was measured.
    """
    curves = found.curves
    if curves is None or not curves.class_ids:
        return []
    names = {one.class_id: one.name for one in found.classes}
    ap = [one.ap50 for one in found.classes]
    at = found.confidence
    marker = [] if at is None else [mark_x(at, f"{at:.3f}")]
    key = _legend([names[class_id] for class_id in curves.class_ids])
    mean_ap = float(np.mean(ap)) if ap else 0.0
    made = [
        figure(
            "Precision by recall, IoU 0.5",
            line_chart(
                _lines(curves, names, curves.recalls, curves.precision_at_recall), "recall", "precision",
                f"Precision by recall at IoU 0.5; the mean area is {mean_ap:.3f}",
            ),
            tag("p", f"The area under a line is the average precision: {mean_ap:.3f} in the mean.", class_="hint"), key,
        )
    ]  # fmt: skip
    for title, axis, values in (
        ("F1", "F1", curves.f1), ("Precision", "precision", curves.precision), ("Recall", "recall", curves.recall),
    ):  # fmt: skip
        mean = curves.f1.mean(axis=0)
        said = f"The best mean is {mean.max():.3f}, at {curves.confidences[int(mean.argmax())]:.3f}."
        made.append(
            figure(
                f"{title} by confidence",
                line_chart(
                    _lines(curves, names, curves.confidences, values), "confidence", axis,
                    f"{title} by confidence", marker,
                ),
                tag("p", said if title == "F1" else "At IoU 0.5.", class_="hint"), key,
            )
        )  # fmt: skip
    return made


def compared_curves(found: Sequence[Validation]) -> list[Markup]:
    """The mean curves of several models in one chart each; nothing if one of them has none.

    Args:
        found: What was measured.
    """
    every = [one.curves for one in found if one.curves is not None and one.curves.class_ids]
    if len(every) < len(found) or len(found) > COLOURS:
        return []
    names = [f"{one.model}, {one.settings.get('runtime', '')}" for one in found]
    key = _legend(names, has_mean=False)
    by_recall = [
        Line(name, one.recalls, _mean(one.precision_at_recall), f"c{index}")
        for index, (name, one) in enumerate(zip(names, every, strict=True))
    ]
    by_confidence = [
        Line(name, one.confidences, one.f1.mean(axis=0), f"c{index}")
        for index, (name, one) in enumerate(zip(names, every, strict=True))
    ]
    return [
        figure(title, line_chart(lines, x_title, y_title, f"{title} of each model"), key)
        for title, lines, x_title, y_title in (
            ("Mean precision by recall, IoU 0.5", by_recall, "recall", "precision"),
            ("Mean F1 by confidence", by_confidence, "confidence", "F1"),
        )
    ]


def _lines(
    curves: Curves, names: Mapping[int, str], x: npt.NDArray[np.float64], table: npt.NDArray[np.float64]
) -> list[Line]:
    colours = len(table) <= COLOURS
    lines = [
        Line(names[class_id], x, row, f"c{index}" if colours else "many")
        for index, (class_id, row) in enumerate(zip(curves.class_ids, table, strict=True))
    ][:MAX_LINES]
    return [*lines, Line("mean of all classes", x, _mean(table), "mean")] if len(table) > 1 else lines


def _mean(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n,): the mean of the rows, as far as they have a value; NaN if none has."""
    there = ~np.isnan(table)
    counts = there.sum(axis=0)
    mean: npt.NDArray[np.float64] = np.where(there, table, 0).sum(axis=0) / np.maximum(counts, 1)
    return np.where(counts > 0, mean, np.nan)


def _legend(names: Sequence[str], *, has_mean: bool = True) -> Markup | None:
    if len(names) > COLOURS:
        return tag(
            "p", tag("span", tag("span", class_="key mean"), f"mean of {len(names)} classes"),
            tag("span", tag("span", class_="key many"), "one class"), class_="legend",
        )  # fmt: skip
    keys: list[Content] = []
    for index, name in enumerate(names):
        keys += [tag("span", tag("span", class_=f"key c{index}"), shortened(name, 40), title=name)]
    if len(names) > 1 and has_mean:
        keys.append(tag("span", tag("span", class_="key mean"), "mean"))
    return tag("p", *keys, class_="legend")


def shortened(name: str, most: int = NAME_CHARS) -> str:
    """A name that fits: its start, and an ellipsis."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


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
        if names[row] == "background":
            words = f"{names[column]} missed: {count} ({100 * share:.0f} %)"
        elif places[column] == background:
            words = f"{names[row]} invented: {count}"
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
        label("what it is", left + extent / 2, 12, anchor="middle", style="axis"),
        label("what the model says", 12, top + extent / 2, anchor="middle", style="axis", turned=True),
    ]
    chart = drawing(
        max(left + extent + 8, 360),
        top + extent + 8,
        "Confusion matrix: what it is by what the model says",
        cells,
        texts,
    )
    hint = f"{said} A colour is the share of its column. The diagonal is right"
    hint += "; the last row is missed, and the last column invented." if places[-1] == background else "."
    if not with_numbers and np.count_nonzero(part) > MAX_CELLS:
        hint += f" The {MAX_CELLS:,} largest cells are drawn."
    return figure("Confusion matrix", chart, tag("p", hint.strip(), class_="hint"), wide=len(places) > MAX_NARROW)


def _largest(part: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The places of the largest cells that are not 0, `MAX_CELLS` at most."""
    rows, columns = part.nonzero()
    order = np.argsort(-part[rows, columns], kind="stable")[:MAX_CELLS]
    return list(zip(rows[order].tolist(), columns[order].tolist(), strict=True))


def calibration_figure(bins: Sequence[CalibrationBin]) -> Markup | None:
    """The share that is right by score; None without answers.

    Args:
        bins: Of `calibration_bins`.
    """
    error = expected_error(bins)
    if error is None:
        return None
    most = max(one.detections for one in bins)
    under: list[Content] = []
    strip: list[Content] = []
    for one in bins:
        (x1, y), (x2, bottom) = place(one.low, one.precision), place(one.high, 0)
        said = (
            f"scores {one.low:.1f} to {one.high:.1f}: {one.detections}, {100 * one.precision:.0f} % of them right, "
            f"mean score {one.mean_score:.2f}"
        )
        under.append(bar(x1 + 1, y, x2 - x1 - 2, bottom - y, said, "bar"))
        height = STRIP * one.detections / most
        strip.append(bar(x1 + 1, STRIP + 16 - height, x2 - x1 - 2, height, said, "count"))
        strip.append(label(f"{one.detections:,}", (x1 + x2) / 2, STRIP + 12 - height, anchor="middle"))
        dot_x, dot_y = place(one.mean_score, one.precision)
        under.append(tag("circle", tag("title", said), cx=f"{dot_x:.1f}", cy=f"{dot_y:.1f}", r="4", class_="dot"))
    ends = np.array([0.0, 1.0])
    chart = line_chart(
        [Line("as good as the score says", ends, ends, "ideal")], "score", "share that is right",
        f"Calibration: expected error {error:.3f}", under,
    )  # fmt: skip
    sign = sum(one.detections * (one.mean_score - one.precision) for one in bins)
    kind = "too sure of itself" if sign > 0 else "better than it says"
    hint = f"Expected calibration error {error:.3f}; on the whole the model is {kind}."
    counts = drawing(WIDTH, STRIP + 18, "How many answers have each score", strip)
    said = tag("p", "Answers by score:", class_="hint")
    return figure("Calibration of scores", chart, said, counts, tag("p", hint, class_="hint"))


def size_figure(sizes: Sequence[SizeFigures]) -> Markup | None:
    """Average precision and recall of small, medium and large objects; None without objects.

    Args:
        sizes: Of `size_figures`.
    """
    there = [one for one in sizes if one.labels]
    if not there:
        return None
    rows: list[Content] = []
    left, room, step = 120, WIDTH - 120 - 56, 62
    for index, one in enumerate(there):
        top = 14 + index * step
        limit = "" if one.high_px2 is None else f"{one.high_px2**0.5:.0f}² px"
        reach = f"under {limit}" if not one.low_px2 else f"{one.low_px2**0.5:.0f}² px and more"
        if one.low_px2 and limit:
            reach = f"{one.low_px2**0.5:.0f}² to {limit}"
        rows += [
            label(one.name, 0, top + 14, style="strong"),
            label(reach, 0, top + 30),
            label(f"{one.labels} objects", 0, top + 44),
        ]
        for place_, (kind, value, style) in enumerate((("AP", one.ap50_95, "bar"), ("AR", one.recall, "count"))):
            number = value or 0.0
            y = top + 2 + place_ * 22
            rows += [
                bar(left, y, room, 16, f"{one.name}: {kind} {number:.3f}", "track"),
                bar(left, y, room * number, 16, f"{one.name}: {kind} {number:.3f}", style),
                label(f"{kind} {number:.3f}", left + room + 6, y + 12, style="tick"),
            ]
    chart = drawing(WIDTH + 20, 14 + step * len(there), "Average precision and recall by the size of objects", rows)
    return figure("Sizes", chart, tag("p", "Areas in pixels of the image; over IoU 0.5 to 0.95.", class_="hint"))


def speed_figure(speed_ms: Mapping[str, float], said: str) -> Markup | None:
    """The time of each stage of an image; None if it was not measured.

    Args:
        speed_ms: Milliseconds by stage.
        said: How it was measured.
    """
    total = sum(speed_ms.values())
    if not total:
        return None
    x, parts, keys = 0.0, [], []
    for index, (stage, spent) in enumerate(speed_ms.items()):
        width = WIDTH * spent / total
        parts.append(bar(x, 4, max(width - 1, 0.6), 30, f"{stage}: {spent:.2f} ms", f"s{index % STAGE_COLOURS}"))
        keys.append(tag("span", tag("span", class_=f"key s{index % STAGE_COLOURS}"), f"{stage} {spent:.2f} ms"))
        x += width
    chart = drawing(WIDTH, 38, "Time of each stage", parts)
    hint = f"{total:.1f} ms an image, {1000 / total:.1f} images a second, one after another. {said}"
    return figure("Speed by stage", chart, tag("p", *keys, class_="legend"), tag("p", hint, class_="hint"))


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


__all__ = [
    "calibration_figure",
    "confusion_figure",
    "confusions",
    "curve_figures",
    "figure",
    "joined",
    "shortened",
    "size_figure",
    "speed_figure",
]
