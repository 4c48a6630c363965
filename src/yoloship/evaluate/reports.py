"""Verifications and benchmarks for people: tables, JSON, charts."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.strict_json import json_document
from yoloship._util.text import counted
from yoloship.errors import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from yoloship.evaluate.bench_sources import BenchSources
    from yoloship.evaluate.benchmark import BenchOptions, BenchResult, Spread
    from yoloship.evaluate.cameras import CameraOptions
    from yoloship.evaluate.measure import Measure
    from yoloship.evaluate.reference import ReferenceCheck
    from yoloship.evaluate.verification import Side, Verification

    Image = npt.NDArray[np.uint8]


_SIDE: Final = 420
_MARGIN: Final = 70
_PLOT_INK, _PALE, _BLUE, _RED = (40, 40, 40), (225, 225, 225), (180, 110, 40), (60, 60, 210)
"""BGR."""
_IOU_BINS: Final = ((0.5, 0.8), (0.8, 0.9), (0.9, 0.95), (0.95, 0.98), (0.98, 0.99), (0.99, 1.0))


def facts(verification: Verification) -> Iterator[tuple[str, str]]:
    """Name and value, line by line."""
    for letter, side in zip("AB", verification.sides, strict=True):
        yield letter, _side(side, verification.measure)
    heads = [side.head for side in verification.sides]
    if heads[0] != heads[1]:
        yield "two heads", f"A answers with {heads[0] or 'one2many'}, B with {heads[1] or 'one2many'}; see --head"
    sizes = [side.input_hw for side in verification.sides]
    if sizes[0] != sizes[1]:
        first, second = ("?" if hw is None else f"{hw[0]}x{hw[1]}" for hw in sizes)
        yield "two sizes", f"the input of A is {first}, that of B {second}; see --imgsz"
    yield "images", str(verification.images)
    for level in verification.levels:
        yield (
            f"stride {level.stride}",
            f"score differs by {level.score_mean:.2g} on average, {level.score_max:.2g} at most; "
            f"box side by {level.box_mean_px:.2g} px, {level.box_max_px:.2g} px at most, on {level.relevant} cells",
        )
    yield from verification.measure.counts(verification.agreement, verification.score_threshold)
    if verification.ious:
        yield "pairs", _pairs(verification)
        yield f"{verification.measure.overlap_title} of pairs", _plotted(verification.ious, low=True)
    if verification.scores:
        differences = [abs(a - b) for a, b in verification.scores]
        yield "score differences", _plotted(differences, low=False)
    for detail in verification.details:
        unit = detail.unit if detail.unit == "°" else f" {detail.unit}".rstrip()
        yield detail.name, f"{detail.mean:.4f}{unit} on average, {detail.worst:.4f}{unit} at worst"
    for check in verification.checks:
        bound = f"at least {check.limit:g} required" if check.is_floor else f"at most {check.limit:g} allowed"
        yield ("pass" if check.passed else "FAIL"), f"{check.name} {check.value:.4g}, {bound}"


def reference_facts(check: ReferenceCheck) -> Iterator[tuple[str, str]]:
    """Name and value, line by line."""
    worst = check.worst
    yield "images", str(check.images)
    yield "rows", f"{check.rows - check.differing} of {check.rows} agree"
    words = [f"{_KINDS[kind][0]} by {value:.2g}{_KINDS[kind][1]}" for kind, value in check.largest.items()]
    yield "largest differences", ", ".join(words)
    if check.prototypes is not None:
        yield "prototypes", f"{check.prototypes:.2g} of what is allowed, at most"
    elif check.lacks_prototypes:
        yield "prototypes", "not in the reference, so they are not compared"
    yield (
        "worst row",
        f"row {worst.row} of image {worst.image}: {worst.what} by {worst.difference:.4g}, allowed {worst.allowed:.4g}",
    )
    has_box = "box" in check.largest
    yield "expected", _numbers(worst.expected, has_box=has_box)
    yield "got", _numbers(worst.got, has_box=has_box)
    yield ("pass" if check.passed else "FAIL"), "the graph computes what the training environment does"


_KINDS: Final = {
    "score": ("scores", ""),
    "box": ("boxes", " px"),
    "class": ("logits", ""),
    "coefficient": ("mask coefficients", ""),
    "keypoint": ("keypoints", " px"),
    "angle": ("angles", " rad"),
}
"""What a kind of number is called, and its unit."""


def _numbers(row: tuple[float, ...], *, has_box: bool) -> str:
    if not has_box:
        return f"{', '.join(f'{number:.5g}' for number in row[:10])}{' …' if len(row) > 10 else ''}"
    shown = ", ".join(f"{number:.5g}" for number in row[:4])
    scores = ", ".join(f"{number:.4f}" for number in row[4:10])
    return f"box {shown}; scores {scores}{' …' if len(row) > 10 else ''}"


def _side(side: Side, measure: Measure) -> str:
    found = counted(side.detections, *measure.counted)
    text = f"{side.name}: {side.precision}, {side.output_form}, {side.session}, {found}, "
    text += f"network {side.run_ms:.1f} ms, image to result {side.total_ms:.1f} ms"
    if side.top5 is not None:
        return f"{text}, top-1 {side.top1:.4f}, top-5 {side.top5:.4f}"
    return text if side.map50_95 is None else f"{text}, {measure.title} {side.map50_95:.4f}"


def _plotted(values: tuple[float, ...] | list[float], *, low: bool) -> str:
    array = np.array(values)
    tail = np.percentile(array, 5 if low else 95)
    worst = array.min() if low else array.max()
    return f"{array.mean():.4f} on average, {tail:.4f} for 95%, {worst:.4f} at worst"


def _pairs(verification: Verification) -> str:
    """Which of the two found each pair at the threshold: a pair counts if either did."""
    threshold = verification.score_threshold
    above = [(a >= threshold, b >= threshold) for a, b in verification.scores]
    text = f"{len(above)}: {above.count((True, True))} reach {threshold:g} in both"
    for words, key in (("in A only", (True, False)), ("in B only", (False, True))):
        if count := above.count(key):
            text += f", {count} {words}"
    return text


def plot(verification: Verification) -> Image:
    """Draw the pairs: scores of one against the other, and how their overlaps are spread, if there are any.

    Returns:
        (height, width, 3) uint8 BGR; the caller owns it.
    """
    canvas = np.full((_SIDE + 2 * _MARGIN, 2 * _SIDE + 3 * _MARGIN, 3), 255, np.uint8)
    _scatter(canvas, verification)
    if verification.ious:
        _histogram(canvas, verification)
    return canvas


def _scatter(canvas: Image, verification: Verification) -> None:
    import cv2

    left, top = _MARGIN, _MARGIN
    for tenth in (0, 25, 50, 75, 100):
        offset = _SIDE * tenth // 100
        cv2.line(canvas, (left + offset, top), (left + offset, top + _SIDE), _PALE, 1)
        cv2.line(canvas, (left, top + offset), (left + _SIDE, top + offset), _PALE, 1)
        _text(canvas, f"{tenth / 100:g}", (left + offset - 12, top + _SIDE + 22))
        _text(canvas, f"{1 - tenth / 100:g}", (left - 44, top + offset + 5))
    _frame(canvas, left, top, "score: B over A")
    cv2.line(canvas, (left, top + _SIDE), (left + _SIDE, top), _PLOT_INK, 1, cv2.LINE_AA)
    for first, second in verification.scores:
        centre = (left + round(first * _SIDE), top + round((1 - second) * _SIDE))
        colour = _BLUE if abs(first - second) <= 0.05 else _RED
        cv2.circle(canvas, centre, 3, colour, -1, cv2.LINE_AA)


def _histogram(canvas: Image, verification: Verification) -> None:
    import cv2

    left, top = _SIDE + 2 * _MARGIN, _MARGIN
    _frame(canvas, left, top, f"{verification.measure.overlap_title} of {len(verification.ious)} pairs")
    values = np.array(verification.ious)
    width = _SIDE // len(_IOU_BINS)
    for place, (low, high) in enumerate(_IOU_BINS):
        inside = (values >= low) & ((values < high) if high < 1 else (values <= 1))
        share = inside.mean() if len(values) else 0.0
        x, y = left + place * width, top + _SIDE - round(share * _SIDE)
        cv2.rectangle(canvas, (x + 6, y), (x + width - 6, top + _SIDE), _BLUE, -1)
        _text(canvas, f"{low:g}-{high:g}", (x + 2, top + _SIDE + 22), 0.38)
        _text(canvas, str(int(inside.sum())), (x + width // 2 - 10, y - 8))


def _frame(canvas: Image, left: int, top: int, title: str) -> None:
    import cv2

    cv2.rectangle(canvas, (left, top), (left + _SIDE, top + _SIDE), _PLOT_INK, 1)
    _text(canvas, title, (left, top - 14), 0.6)


def _text(canvas: Image, text: str, place: tuple[int, int], scale: float = 0.45) -> None:
    import cv2

    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _PLOT_INK, 1, cv2.LINE_AA)


WIDTH: Final = 960
_LEFT: Final = 300
_RIGHT: Final = 190
_TOP: Final = 92
_ROW: Final = 46
_BAR: Final = 22
_INK: Final = "#1f2933"
_FAINT: Final = "#d9dee3"
_COLOURS: Final = ("#9aa5b1", "#4098d7", "#62b58f", "#e9b949", "#d64545", "#8662c7", "#3e4c59")


@dataclass(frozen=True, slots=True)
class Bar:
    """One row.

    Attributes:
        label: In front of it.
        note: A second, smaller line under the label.
        parts: Names and lengths, from left to right.
        mark: Where a line crosses it; None has none.
        text: Behind it.
    """

    label: str
    note: str
    parts: tuple[tuple[str, float], ...]
    mark: float | None
    text: str


@dataclass(frozen=True, slots=True)
class _Shape:
    """A rectangle where `text` is empty, else words that begin, or with `anchor` end, at its corner."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    text: str = ""
    anchor: str = "start"


def chart_svg(title: str, subtitle: str, unit: str, bars: Sequence[Bar]) -> str:
    """The chart as an SVG document.

    Args:
        title: On top.
        subtitle: Under it: what the line across a bar means.
        unit: Of the lengths.
        bars: From top to bottom; 1 or more.
    """
    height, shapes = _layout(title, subtitle, unit, bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for shape in shapes:
        if shape.text:
            lines.append(
                f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.height:.0f}" fill="{shape.colour}" '
                f'text-anchor="{shape.anchor}">{escape(shape.text)}</text>'
            )
        else:
            lines.append(
                f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}" '
                f'fill="{shape.colour}"/>'
            )
    return "\n".join([*lines, "</svg>", ""])


def chart_pixels(title: str, subtitle: str, unit: str, bars: Sequence[Bar]) -> npt.NDArray[np.uint8]:
    """The same chart as (height, width, 3) uint8 BGR, twice as large, for PNG files."""
    import cv2

    scale = 2
    height, shapes = _layout(title, subtitle, unit, bars)
    image = np.full((height * scale, WIDTH * scale, 3), 255, np.uint8)
    for shape in shapes:
        red, green, blue = (int(shape.colour[place : place + 2], 16) for place in (1, 3, 5))
        if not shape.text:
            corners = [round(v * scale) for v in (shape.x, shape.y, shape.x + shape.width, shape.y + shape.height)]
            image[corners[1] : max(corners[3], corners[1] + 1), corners[0] : max(corners[2], corners[0] + 1)] = (
                blue, green, red,
            )  # fmt: skip
            continue
        text = shape.text.replace("×", "x").replace("–", "-").encode("ascii", "replace").decode()
        size = shape.height * scale / 30
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        x = round(shape.x * scale) - {"start": 0, "middle": width // 2, "end": width}[shape.anchor]
        place = (x, round(shape.y * scale))
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (blue, green, red), 1, cv2.LINE_AA)
    return image


def _layout(title: str, subtitle: str, unit: str, bars: Sequence[Bar]) -> tuple[int, list[_Shape]]:
    names = list(dict.fromkeys(name for bar in bars for name, _ in bar.parts))
    longest = max(max(sum(value for _, value in bar.parts), bar.mark or 0.0) for bar in bars) or 1.0
    step = _step(longest)
    room = WIDTH - _LEFT - _RIGHT
    scale = room / (np.ceil(longest / step) * step)
    height = _TOP + _ROW * len(bars) + 44
    shapes = [_Shape(24, 34, 0, 19, _INK, title), _Shape(24, 54, 0, 12, _INK, subtitle)]
    x = 24.0
    for name, colour in zip(names, _COLOURS * 8, strict=False):
        shapes += [_Shape(x, 66, 11, 11, colour), _Shape(x + 16, 76, 0, 12, _INK, name)]
        x += 30 + 7 * len(name)
    bottom = _TOP + _ROW * len(bars)
    for tick in range(round(np.ceil(longest / step)) + 1):
        at = _LEFT + tick * step * scale
        shapes += [
            _Shape(at, _TOP - 4, 1, bottom - _TOP + 4, _FAINT),
            _Shape(at, bottom + 18, 0, 12, _INK, f"{tick * step:g}", "middle"),
        ]
    shapes.append(_Shape(_LEFT + room, bottom + 36, 0, 12, _INK, unit, "end"))
    for number, bar in enumerate(bars):
        y = _TOP + number * _ROW
        shapes += [_Shape(_LEFT - 10, y + 13, 0, 13, _INK, bar.label, "end")]
        shapes += [_Shape(_LEFT - 10, y + 28, 0, 11, "#616e7c", bar.note, "end")]
        at = float(_LEFT)
        for name, value in bar.parts:
            shapes.append(_Shape(at, y + 3, value * scale, _BAR, _COLOURS[names.index(name) % len(_COLOURS)]))
            at += value * scale
        if bar.mark is not None:
            shapes.append(_Shape(_LEFT + bar.mark * scale - 1, y, 2, _BAR + 6, _INK))
            at = max(at, _LEFT + bar.mark * scale)
        shapes.append(_Shape(at + 8, y + 19, 0, 12, _INK, bar.text))
    return height, shapes


def _step(longest: float) -> float:
    """A round distance between ticks that gives four to ten of them."""
    step = 10.0 ** np.floor(np.log10(longest))
    for part in (0.1, 0.2, 0.5, 1.0):
        if longest / (step * part) <= 10:
            return float(step * part)
    return float(step)


SCHEMA: Final = 1
_PACKAGES: Final = (
    "yoloship", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt_rtx",
    "cuda-bindings",
)  # fmt: skip
_ORIGINS: Final = {"array": "memory", "file": "files", "device": "the GPU's memory"}
_HEADINGS: Final = (
    "model",
    "on",
    "batch",
    "streams",
    "p50 ms",
    "p90",
    "p99",
    "network",
    "ratio",
    "images/s",
    "share",
)


def conditions() -> dict[str, Any]:
    """What a figure needs beside it: processor, cores, load and versions."""
    from yoloship._util.cores import usable_cores

    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": usable_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: text for name in _PACKAGES if (text := _version(name)) is not None},
    }
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[0], 2)
    return found


def bench_table(results: Sequence[BenchResult], sources: BenchSources) -> str:
    """Results for people: one line each, then the stages of each.

    Args:
        results: In the order of the table; 1 or more.
        sources: What they were measured on.
    """
    origin = _ORIGINS[sources.origin]
    rows = [_HEADINGS]
    for result in results:
        case = result.case
        rows.append(
            (
                case.model, case.device, str(case.batch), str(case.streams), f"{result.total.p50:.2f}",
                f"{result.total.p90:.2f}", f"{result.total.p99:.2f}", f"{result.network.p50:.2f}",
                f"{result.ratio:.2f}",
                f"{result.images_per_s:.1f}" if result.images_per_s else "–",
                f"{result.share:.2f}" if result.share else "–",
            )
        )  # fmt: skip
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADINGS))]
    lines = []
    for row in rows:
        cells = (
            text.ljust(width) if place < 2 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    lines.append("")
    lines.append("ratio: time of a batch / time of its network alone; share: images/s / images/s of the network alone")
    for result in results:
        stages = ", ".join(f"{name} {spread.p50:.2f}" for name, spread in result.stages.items())
        memory = f", peak memory {_mb(result.host_peak_bytes)}" if result.host_peak_bytes else ""
        if result.device_bytes is not None:
            memory += f", on the device {_mb(result.device_bytes)}"
        lines.append(f"{result.case.label}: {result.backend}")
        if result.decoded_by is not None:
            lines.append(f"  decoded by {result.decoded_by}")
        if result.array is not None:
            times = result.total.p50 / result.array.p50
            lines.append(
                f"  from {origin} {result.total.p50:.2f} ms, from memory {result.array.p50:.2f} ms: x{times:.2f}"
            )
        lines.append(f"  stages p50 ms{', from memory' if result.array else ''}: {stages}")
        lines.append(
            f"  loading {result.load_ms:.0f} ms, first results after another {result.warm_up_ms:.0f} ms{memory}"
        )
    return "\n".join(lines) + "\n"


def bench_json(results: Sequence[BenchResult], plan: BenchOptions, sources: BenchSources) -> bytes:
    """Results for programs.

    Args:
        results: In order.
        plan: How they were measured.
        sources: What they were measured on.
    """
    return report_json(plan, sources, results=[_plain(result) for result in results])


def report_json(plan: BenchOptions | CameraOptions, sources: BenchSources, **found: list[dict[str, Any]]) -> bytes:
    """A report of measurements for programs.

    Args:
        plan: How they were made.
        sources: What was measured.
        found: What came of it, under its name in the report.
    """
    report = {
        "schema": SCHEMA,
        "conditions": conditions(),
        "plan": asdict(plan),
        "from": sources.origin,
        "images_hw": [list(image.shape[:2]) for image in sources.images],
        "videos": [path.name for path in sources.videos],
        **found,
    }
    return json_document(report)


def bench_bars(results: Sequence[BenchResult], sources: BenchSources) -> list[Bar]:
    """Results as bars: the stages of a batch one after another, the network alone as a mark."""
    bars = []
    for result in results:
        case = result.case
        # Stages are measured apart and some overlap: they are scaled to the whole, whose length the bar has.
        whole = sum(spread.p50 for spread in result.stages.values()) or 1.0
        is_file = result.array is not None and sources.origin == "file"
        from_memory = result.array if result.array is not None and is_file else result.total
        parts = tuple((name, spread.p50 * from_memory.p50 / whole) for name, spread in result.stages.items())
        if is_file:  # what a batch takes longer from its files
            parts = (("read and decode", max(0.0, result.total.p50 - from_memory.p50)), *parts)
        text = f"{result.total.p50:.2f} ms, ×{result.ratio:.2f}"
        if result.images_per_s:
            text += f", {result.images_per_s:.0f}/s"
        note = case.label.removeprefix(f"{case.model} on ")
        bars.append(Bar(visible(case.model), note, parts, result.network.p50, text))
    return bars


def _plain(result: BenchResult) -> dict[str, Any]:
    case = result.case
    return {
        "model": case.model,
        "device": case.device,
        "batch": case.batch,
        "streams": case.streams,
        "backend": result.backend,
        "decoded_by": result.decoded_by,
        "load_ms": result.load_ms,
        "warm_up_ms": result.warm_up_ms,
        "total_ms": _spread(result.total),
        "array_ms": None if result.array is None else _spread(result.array),
        "network_ms": _spread(result.network),
        "stages_ms": {name: _spread(spread) for name, spread in result.stages.items()},
        "ratio": result.ratio,
        "images_per_s": result.images_per_s,
        "network_images_per_s": result.network_images_per_s,
        "share": result.share,
        "host_peak_bytes": result.host_peak_bytes,
        "device_bytes": result.device_bytes,
    }


def _spread(spread: Spread) -> dict[str, float]:
    return asdict(spread)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - one line of a virtual file
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
