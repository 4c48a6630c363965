"""Benchmark results as a table, as JSON and as a chart."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from yoloship.escaping import json_document, visible
from yoloship.evaluate.chart import Bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.evaluate.benchmark import BenchPlan, BenchResult, Spread

SCHEMA: Final = 1
_PACKAGES: Final = (
    "yoloship", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt_rtx",
    "cuda-bindings",
)  # fmt: skip
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
    from yoloship.pipeline.cores import usable_cores

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


def bench_table(results: Sequence[BenchResult]) -> str:
    """Results for people: one line each, then the stages of each.

    Args:
        results: In the order of the table; 1 or more.
    """
    rows = [_HEADINGS]
    for result in results:
        case = result.case
        rows.append(
            (
                case.model, case.device, str(case.batch), str(case.streams), f"{result.total.p50:.2f}",
                f"{result.total.p90:.2f}", f"{result.total.p99:.2f}", f"{result.network.p50:.2f}",
                f"{result.ratio:.2f}",
                f"{result.pictures_per_s:.1f}" if result.pictures_per_s else "–",
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
    lines.append("ratio: a batch by its network alone; share: images a second by those of the network alone")
    for result in results:
        stages = ", ".join(f"{name} {spread.p50:.2f}" for name, spread in result.stages.items())
        memory = f", peak memory {_mb(result.host_peak_bytes)}" if result.host_peak_bytes else ""
        if result.device_bytes is not None:
            memory += f", on the device {_mb(result.device_bytes)}"
        lines.append(f"{result.case.label}: {result.backend}")
        lines.append(f"  stages p50 ms: {stages}")
        lines.append(
            f"  loading {result.load_ms:.0f} ms, first detections after another {result.warm_up_ms:.0f} ms{memory}"
        )
    return "\n".join(lines) + "\n"


def bench_json(results: Sequence[BenchResult], plan: BenchPlan, pictures: Sequence[tuple[int, int]]) -> bytes:
    """Results for programs.

    Args:
        results: In order.
        plan: How they were measured.
        pictures: (height, width) of the pictures.
    """
    report = {
        "schema": SCHEMA,
        "conditions": conditions(),
        "plan": asdict(plan),
        "pictures_hw": [list(hw) for hw in pictures],
        "results": [_plain(result) for result in results],
    }
    return json_document(report)


def bench_bars(results: Sequence[BenchResult]) -> list[Bar]:
    """Results as bars: the stages of a batch one after another, the network alone as a mark."""
    bars = []
    for result in results:
        case = result.case
        # Stages are measured apart and some overlap: they are scaled to the whole, whose length the bar has.
        whole = sum(spread.p50 for spread in result.stages.values()) or 1.0
        parts = tuple((name, spread.p50 * result.total.p50 / whole) for name, spread in result.stages.items())
        text = f"{result.total.p50:.2f} ms, ×{result.ratio:.2f}"
        if result.pictures_per_s:
            text += f", {result.pictures_per_s:.0f}/s"
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
        "load_ms": result.load_ms,
        "warm_up_ms": result.warm_up_ms,
        "total_ms": _spread(result.total),
        "network_ms": _spread(result.network),
        "stages_ms": {name: _spread(spread) for name, spread in result.stages.items()},
        "ratio": result.ratio,
        "pictures_per_s": result.pictures_per_s,
        "network_pictures_per_s": result.network_pictures_per_s,
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
