"""The charts of a validation: curves, calibration, sizes and speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.validate.calibration import expected_error
from yoloship.validate.report.markup import Markup, tag
from yoloship.validate.report.plot import (
    WIDTH,
    Line,
    bar,
    drawing,
    figure,
    label,
    line_chart,
    mark_x,
    place,
    shortened,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.validate.record import CalibrationBin, Curves, SizeFigures, Validation
    from yoloship.validate.report.markup import Content


COLOURS: Final = 8
"""Classes that get a colour each; if there are more, their lines are grey."""
MAX_LINES: Final = 100
LEAST_GAP: Final = 0.01
"""Scores that are wrong by less than this in the mean are right on the whole."""
STRIP: Final = 40
"""Height of the bars that count answers."""
STAGE_COLOURS: Final = 6


def curve_figures(found: Validation) -> list[Markup]:
    """Precision by recall, and F1, precision and recall by confidence; nothing without curves.

    Args:
        found: What was measured.
    """
    curves = found.curves
    if curves is None or not curves.class_ids:
        return []
    names = {one.class_id: one.name for one in found.classes}
    ap = [one.ap50 for one in found.classes if one.ap50 is not None]
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
            tag("p", f"The area under a line is the average precision. Its mean is {mean_ap:.3f}.", class_="hint"), key,
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
            f"scores {one.low:.1f} to {one.high:.1f}: {one.detections}, {100 * one.precision:.0f} % of them correct, "
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
        [Line("as good as the score says", ends, ends, "ideal")], "score", "share that is correct",
        f"Calibration: expected error {error:.3f}", under,
    )  # fmt: skip
    gap = sum(one.detections * (one.mean_score - one.precision) for one in bins) / sum(one.detections for one in bins)
    kind = "high" if gap > 0 else "low"
    whole = f"overall, the scores are too {kind}" if abs(gap) >= LEAST_GAP else "overall, the scores are right"
    hint = f"Expected calibration error {error:.3f}; {whole}."
    counts = drawing(WIDTH, STRIP + 18, "How many detections have each score", strip)
    said = tag("p", "Detections by score:", class_="hint")
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
        for below, (kind, value, style) in enumerate((("AP", one.ap50_95, "bar"), ("AR", one.recall, "count"))):
            number = value or 0.0
            y = top + 2 + below * 22
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
    hint = f"{total:.1f} ms an image, {1000 / total:.1f} images a second, one at a time. {said}"
    return figure("Speed by stage", chart, tag("p", *keys, class_="legend"), tag("p", hint, class_="hint"))
