"""Interleaved timing with idle gaps, and the conditions that a figure needs beside it."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GAP_S = 0.15
"""The pause between two cases, because worker threads of the last one spin for a while and take cores from the next."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of every round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return low, high


def interleaved(
    cases: Mapping[str, Callable[[], object]],
    rounds: int,
    gap_s: float = GAP_S,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time every case once in each round, so that a slow moment of the machine affects all of them.

    Each case first waits for the gap, and runs once without being measured, which fills the caches with its data. With
    `time.process_time` as the clock, other programs on the machine matter little. It counts all threads, also those
    that spin while they wait.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            gc.collect()
            time.sleep(gap_s)
            case()
            start = clock()
            case()
            seconds[name].append(clock() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def table(timings: Mapping[str, Timing], base: str) -> str:
    """Medians, quartiles and ratios to one case; the ratio is the median of each round's own ratio."""
    lines = [f"{'case':34s} {'median ms':>9s} {'quartiles':>15s} {'ratio':>6s}"]
    for name, timing in timings.items():
        low, high = timing.quartiles
        ratio = statistics.median(
            ours / theirs for ours, theirs in zip(timing.seconds, timings[base].seconds, strict=True)
        )
        lines.append(f"{name:34s} {timing.median * 1e3:9.2f} {low * 1e3:7.2f}–{high * 1e3:7.2f} {ratio:6.3f}")
    return "\n".join(lines)


def conditions(*packages: str) -> str:
    """One line: processor, cores, load, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    return f"{_processor()}, {cores} cores, load {load}, Python {platform.python_version()}, {versions}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - one line of a virtual file
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
