"""The page: one HTML file about one or several validations."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.text import counted
from yoloship.validate.comparison import compared
from yoloship.validate.report.charts import (
    calibration_figure,
    compared_curves,
    curve_figures,
    size_figure,
    speed_figure,
)
from yoloship.validate.report.markup import Markup, joined, tag
from yoloship.validate.report.matrix import confusion_figure, confusions
from yoloship.validate.report.pictures import KIND_NAMES, MAX_BYTES, ORDER, picture_figures
from yoloship.validate.report.tables import Column, fact_table, plain_table, sorted_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.validate.record import Validation
    from yoloship.validate.report.markup import Content


DIFFERENCES: Final = ("Δ", "×")
"""Columns of a comparison that are shown below the number that they belong to."""
MAX_FAULTS: Final = 200
"""Faults of a dataset that are listed; the others are counted."""
POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What the page may load: nothing but what is in it. It holds even if text became markup by a fault of ours."""
METRIC_NAMES: Final = {
    "box": "boxes (IoU)",
    "mask": "masks (IoU)",
    "keypoints": "keypoints (OKS)",
    "oriented": "oriented boxes (probabilistic IoU)",
    "top1": "the most probable class",
}
RULE_NAMES: Final = {"coco": "COCO", "yolov5": "YOLOv5"}


def report_html(found: Sequence[Validation]) -> bytes:
    """Make the page.

    Args:
        found: What was measured, of at least one model; the first is what others are compared with.

    Returns:
        An HTML document in UTF-8 that refers to nothing outside itself.
    """
    assert found
    first = found[0]
    title = f"{first.model if len(found) == 1 else f'{len(found)} models'} on {without_folders(first.dataset)}"
    style = (files("yoloship.validate.report") / "report.css").read_text(encoding="utf-8")
    body: list[Content] = [tag("header", tag("p", "yoloship val", class_="brand"), tag("h1", title), _lead(first))]
    if len(found) > 1:
        body.append(_section("Compared", _comparison(found), anchor="compared"))
        for index, one in enumerate(found):
            summary = tag(
                "summary", tag("span", one.model), tag("span", str(one.settings.get("runtime", "")), class_="hint")
            )
            body.append(tag("details", summary, _one(one, f"m{index}-", len(found)), open=index == 0))
    else:
        body.append(_one(first, "m0-", 1))
    body.append(_faults(first))
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", f"{title} · yoloship val"),
            tag("style", Markup(style)),
        ),
        tag("body", tag("main", *body)),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{page}\n".encode()


def _lead(one: Validation) -> Markup:
    words = f"{counted(one.images, 'image')}, {counted(one.labels, 'object')}. Evaluated by {METRIC_NAMES[one.metric]}"
    if one.metric == "top1":
        words = f"{counted(one.images, 'image')}. Evaluated by {METRIC_NAMES[one.metric]}"
    elif one.rules == "yolov5":
        words += ", with YOLOv5's own rules, which differ from COCO's"
    else:
        words += f", with COCO's rules ({one.settings.get('evaluator', '')})"
    return tag("p", f"{words}.", class_="lead")


def _one(one: Validation, prefix: str, models: int) -> Markup:
    """Everything about one of some models."""
    names = dict(enumerate(one.class_names))
    charts: list[Content] = [*curve_figures(one)]
    if one.confusion is not None:
        charts.append(confusion_figure(one.confusion, names, _counting(one)))
    charts.append(calibration_figure(one.calibration))
    charts += [size_figure(one.sizes), speed_figure(one.speed_ms, _speed_said(one))]
    frequent = [] if one.confusion is None else confusions(one.confusion, names)
    return joined(
        [
            _tiles(one),
            [tag("p", note, class_="warn") for note in one.notes],
            _section("Charts", tag("div", *charts, class_="charts")),
            _section("Classes", _classes(one, f"{prefix}classes")) if one.classes else None,
            _section(
                "Most frequent confusions",
                plain_table(("true class", "predicted class", "times", "share of its objects"), frequent),
            )
            if frequent
            else None,
            _numbers(one),
            _pictures(one, prefix, MAX_BYTES // models),
            _section("Settings and versions", _settings(one)),
        ]
    )


def without_folders(name: str) -> str:
    """The name of a dataset without the folders of a machine: the last two parts of an absolute path.

    Args:
        name: ``/home/ann/zoo/data.yaml (val)``, or what is no path.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    is_absolute = name.startswith(("/", "\\", "~")) or (len(parts) > 1 and parts[0].endswith(":"))
    return "/".join(parts[-2:]) if is_absolute else name


def _counting(one: Validation) -> str:
    """What is counted in the confusion matrix."""
    if one.rules == "yolov5":
        return (
            "As YOLOv5 counts: scores above 0.25, IoU above 0.45, without images that have no labels, and without "
            "false detections in images without a correct one."
        )
    return "" if one.confidence is None else f"Detections with a confidence of {one.confidence:.3f} or more count."


def _speed_said(one: Validation) -> str:
    processor, cores = one.versions.get("processor"), one.versions.get("cores")
    where = f" on {processor}, {cores} cores" if processor and one.settings.get("device", "cpu") == "cpu" else ""
    return f"Mean of some images{where}."


def _section(title: str, *content: Content, anchor: str | None = None) -> Markup:
    return tag("section", tag("h2", title), *content, id=anchor)


def _tiles(one: Validation) -> Markup:
    if one.metric == "top1":
        tiles = [("top-1", one.top1, "accuracy"), ("top-5", one.top5, "accuracy")]
    else:
        at = "nothing found" if one.confidence is None else f"at {one.confidence:.3f}"
        f1 = sum(item.f1 for item in one.classes) / max(len(one.classes), 1)
        whose = f"{RULE_NAMES[one.rules]}'s"
        tiles = [
            ("mAP 50–95", one.map50_95, whose), ("mAP 50", one.map50, whose),
            ("precision", one.precision, at), ("recall", one.recall, at), ("mean F1", f1, at),
        ]  # fmt: skip
    shown = [
        tag("div", tag("span", name, class_="hint"), tag("strong", f"{value:.3f}"), tag("span", said, class_="hint"))
        for name, value, said in tiles
    ]
    return tag("div", *shown, class_="tiles")


def _classes(one: Validation, name: str) -> Markup:
    if one.metric == "top1":
        columns = [
            Column("class", is_text=True), Column("images", "Images of this class."),
            Column("recall", "Share of its images that get this class.", has_bar=True),
            Column("precision", "Share of the images with this class as the answer that are of it.", has_bar=True),
            Column("F1", "The harmonic mean of both.", has_bar=True),
        ]  # fmt: skip
        rows = [(item.name, item.images, item.recall, item.precision, item.f1) for item in one.classes]
        return sorted_table(name, columns, rows, "minmax(8rem,2fr) repeat(4,minmax(4.5rem,1fr))")
    columns = [
        Column("class", is_text=True), Column("images", "Images with this class."),
        Column("objects", "Objects of this class."),
        Column("AP 50–95", "Average precision over IoU 0.50 to 0.95.", has_bar=True),
        Column("AP 50", "Average precision at IoU 0.50.", has_bar=True),
        Column("AP 75", "Average precision at IoU 0.75.", has_bar=True),
        Column("precision", "At the confidence above: the share of detections that are correct.", has_bar=True),
        Column("recall", "At the confidence above: the share of objects that are found.", has_bar=True),
        Column("F1", "The harmonic mean of precision and recall.", has_bar=True),
    ]  # fmt: skip
    figures = [
        (
            item.name, item.images, item.labels, item.ap50_95, item.ap50,
            item.ap_by_iou[5] if len(item.ap_by_iou) == 10 else None, item.precision, item.recall, item.f1,
        )
        for item in one.classes
    ]  # fmt: skip
    return sorted_table(name, columns, figures, "minmax(8rem,2fr) repeat(8,minmax(4.5rem,1fr))")


_COCO_NAMES: Final = {
    "ap": "AP, IoU 0.50 to 0.95", "ap50": "AP, IoU 0.50", "ap75": "AP, IoU 0.75",
    "ap_small": "AP, small objects", "ap_medium": "AP, medium objects", "ap_large": "AP, large objects",
    "ar1": "AR, one detection per image and class", "ar10": "AR, 10 detections", "ar": "AR, all detections",
    "ar_small": "AR, small objects", "ar_medium": "AR, medium objects", "ar_large": "AR, large objects",
}  # fmt: skip


def _numbers(one: Validation) -> Markup | None:
    if one.coco is None:
        return None
    values = {name: getattr(one.coco, key) for key, name in _COCO_NAMES.items()}
    shown = [
        tag("div", tag("dt", name), tag("dd", "–" if value is None else f"{value:.4f}"))
        for name, value in values.items()
    ]
    return _section("COCO's numbers", tag("dl", *shown, class_="numbers"))


def _pictures(one: Validation, prefix: str, most_bytes: int) -> Markup | None:
    if not one.worst:
        return None
    if one.metric == "top1":
        kinds: list[Content] = [tag("p", "The mistakes with the highest scores first.", class_="hint")]
    else:
        said = "" if one.confidence is None else f" Detections with a confidence of {one.confidence:.3f} or more count."
        said += " They are matched as in COCO, at IoU 0.5." if one.rules == "yolov5" else ""
        kinds = [tag("p", f"The images with the most errors.{said} Untick a kind to hide it.", class_="hint")]
        for kind in reversed(ORDER):
            kinds += [
                tag("input", type="checkbox", checked=True, id=f"{prefix}{kind}", class_=f"show {kind}"),
                tag("label", KIND_NAMES[kind], for_=f"{prefix}{kind}", class_=f"show {kind}"),
            ]
    shots = picture_figures(one.worst, prefix, most_bytes)
    return _section("Worst images", *kinds, tag("div", *shots, class_="shots"), anchor=f"{prefix}worst")


def _faults(one: Validation) -> Markup | None:
    if not one.faults:
        return None
    rows = [
        (without_folders(str(fault.path)), "–" if fault.line is None else fault.line, fault.problem, fault.consequence)
        for fault in one.faults[:MAX_FAULTS]
    ]
    more = len(one.faults) - len(rows)
    left = f"{counted(one.left_out, 'image')} left out. " if one.left_out else ""
    return _section(
        "Problems in the dataset",
        tag("p", f"{left}Files on disk were not changed.", class_="hint"),
        plain_table(("file", "line", "problem", "consequence"), rows),
        tag("p", f"and {more} more", class_="hint") if more else None,
    )


def _settings(one: Validation) -> Markup:
    facts: dict[str, Content] = {"model": one.model}
    if one.model_sha256:
        facts["SHA-256"] = tag("code", one.model_sha256)
    facts |= {"dataset": without_folders(one.dataset), "task": one.task, "rules": RULE_NAMES[one.rules]}
    for name, value in one.settings.items():
        facts[name.replace("_", " ")] = _said(value)
    for name, value in one.versions.items():
        facts[name] = _said(value)
    return fact_table(facts)


def _said(value: Any) -> str:
    if hasattr(value, "items"):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    if value is None:
        return "none"
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _comparison(found: Sequence[Validation]) -> Markup:
    """The table of several models, a difference below each number, and their mean curves together."""
    table = compared(found)
    headings = [name for name in table.headings if name not in DIFFERENCES]
    rows: list[list[Content]] = []
    for row in table.rows:
        cells: list[Content] = []
        for name, value in zip(table.headings, row, strict=True):
            if name in DIFFERENCES:
                cells[-1] = [
                    cells[-1],
                    tag("span", f"×{value}" if value and name == "×" else value, class_="hint below"),
                ]
            else:
                cells.append(value)
        rows.append(cells)
    notes = [tag("p", note, class_="hint") for note in table.notes]
    return joined([plain_table(headings, rows), notes, tag("div", *compared_curves(found), class_="charts")])
