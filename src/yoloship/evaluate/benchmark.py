"""Measures how fast models are, side by side: `benchmark`.

Every round measures each case once more, a few runs at a time, so that a slow moment of the machine meets all alike.
Before each turn comes a pause (the last case's worker threads spin for a while and would take its cores) and runs that
do not count. The network alone is measured in the same turns: what the pipeline adds is the ratio of the two.
"""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.text import silent
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from yoloship._util.text import OnProgress
    from yoloship.detect.detector import Detector

    Image = npt.NDArray[np.uint8]


GAP_S: Final = 0.15
"""Longer than the workers of any runtime seen here spin."""
MAX_S: Final = 3600
MAX_RUNS: Final = 1_000_000
_WARM_UPS: Final = 2


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How long to measure.

    Attributes:
        rounds: Turns of each case.
        runs: Measured runs a turn.
        throughput_s: Seconds of each measurement of throughput, a round.
        gap_s: Pause before each turn.

    Raises:
        InputError: a value is outside its range.
    """

    rounds: int = 5
    runs: int = 5
    throughput_s: float = 1.0
    gap_s: float = GAP_S

    def __post_init__(self) -> None:
        for name, least, most in (
            ("rounds", 1, MAX_RUNS),
            ("runs", 1, MAX_RUNS),
            ("throughput_s", 0, MAX_S),
            ("gap_s", 0, MAX_S),
        ):
            if not least <= getattr(self, name) <= most:
                raise InputError(
                    "out of range", subject=name, expected=f"{least} to {most}", got=str(getattr(self, name))
                )


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of many times, in milliseconds.

    Attributes:
        p50: The median.
        p90: Nine of ten are below it.
        p99: 99 of a hundred are.
        runs: How many there were.
    """

    p50: float
    p90: float
    p99: float
    runs: int

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Spread:
        """The spread of at least one time."""
        p50, p90, p99 = (float(value) for value in np.percentile(list(milliseconds), [50, 90, 99]))
        return cls(p50, p90, p99, len(milliseconds))


@dataclass(frozen=True, slots=True)
class BenchCase:
    """One thing to measure.

    Attributes:
        model: Its name, for people.
        device: ``cpu`` or ``cuda:N``.
        batch: Images handed over together.
        streams: Threads that do so at once, for throughput.
        open: Loads the model.
    """

    model: str
    device: str
    batch: int
    streams: int
    open: Callable[[], Detector]

    @property
    def label(self) -> str:
        """What tells this case from the others, in words."""
        threads = "" if self.streams == 1 else f", {self.streams} streams"
        return f"{self.model} on {self.device}, batch {self.batch}{threads}"


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was found.

    Attributes:
        case: What was measured.
        backend: What ran the network.
        load_ms: Loading the model.
        warm_up_ms: From there to the first results.
        total: A batch from images in memory, or from files, to results.
        array: The same batch from images in memory, measured beside `total` if that is from files; else None.
        network: The same batch through the network alone.
        stages: The time of each stage, in order; measured apart, so that they add up only nearly.
        ratio: Median of a turn's `total` by that of its `network`; the median over all turns.
        images_per_s: By all streams together.
        network_images_per_s: By the network alone, by as many threads.
        share: The one by the other: 1 would be a pipeline that costs nothing.
        host_peak_bytes: Most memory that the process had in use until then, models before it included; None unknown.
        device_bytes: Memory of the GPU that the model and its runs took; None on the CPU.
    """

    case: BenchCase
    backend: str
    load_ms: float
    warm_up_ms: float
    total: Spread
    network: Spread
    stages: dict[str, Spread]
    ratio: float
    images_per_s: float
    network_images_per_s: float
    share: float
    host_peak_bytes: int | None
    device_bytes: int | None
    array: Spread | None = None


def benchmark(
    cases: Sequence[BenchCase],
    images: Sequence[Image],
    plan: BenchOptions | None = None,
    on_progress: OnProgress = silent,
    files: Sequence[Path] = (),
) -> list[BenchResult]:
    """Measure every case on the same images.

    Args:
        cases: In the order of the report. All models are open at once.
        images: (height, width, 3) uint8 BGR each; a batch takes them in turn, from the first. Read only.
        plan: How long.
        on_progress: Called as each model is loaded and as each round begins.
        files: The files of the same images, in their order: a batch is then measured from its files, reading and
            decoding included, with the images in memory beside it. None measures from memory only.

    Returns:
        One result for each case.

    Raises:
        InputError: there are no cases or no images, or not one file for each image.
        YoloshipError: as the detectors raise them.
    """
    if not cases or not images:
        raise InputError("nothing to measure", expected="one model and one image, or more")
    if files and len(files) != len(images):
        raise InputError("not one file for each image", expected=str(len(images)), got=str(len(files)))
    plan = plan or BenchOptions()
    running: list[_Running] = []
    try:
        for case in cases:
            on_progress(f"loading {case.label}", len(running), len(cases))
            places = [place % len(images) for place in range(case.batch)]
            batch = [images[place] for place in places]
            running.append(_Running(case, batch, [files[place] for place in places] if files else None))
        for round_ in range(plan.rounds):
            for one in running:
                on_progress(f"round {round_ + 1} of {plan.rounds}: {one.case.label}", round_, plan.rounds)
                one.turn(plan)
        return [one.result() for one in running]
    finally:
        for one in running:
            one.detector.close()


class _Running:
    """A case that is open, and what was measured so far."""

    def __init__(self, case: BenchCase, images: list[Image], files: list[Path] | None) -> None:
        self.case = case
        self._images = images
        self._sources: Sequence[Image | Path] = images if files is None else files
        self._has_files = files is not None
        before_bytes = None
        began = time.perf_counter()
        self.detector = case.open()
        self._load_ms = (time.perf_counter() - began) * 1e3
        try:
            before_bytes = self.detector.device_bytes()
            began = time.perf_counter()
            self.detector.detect_batch(self._sources)
            self._warm_up_ms = (time.perf_counter() - began) * 1e3
        except BaseException:
            self.detector.close()
            raise
        self._before_bytes = before_bytes
        self._peak_device = self.detector.device_bytes()
        self._totals: list[float] = []
        self._arrays: list[float] = []
        self._networks: list[float] = []
        self._stages: dict[str, list[float]] = {}
        self._ratios: list[float] = []
        self._rates: list[float] = []
        self._network_rates: list[float] = []

    def turn(self, plan: BenchOptions) -> None:
        """Measure once more."""
        detector, images, sources = self.detector, self._images, self._sources
        gc.collect()
        time.sleep(plan.gap_s)
        totals = _times_ms(lambda: detector.detect_batch(sources), plan.runs)
        time.sleep(plan.gap_s)
        if self._has_files:
            self._arrays += _times_ms(lambda: detector.detect_batch(images), plan.runs)
            time.sleep(plan.gap_s)
        with detector.network(len(images)) as network:
            networks = _times_ms(network, plan.runs)
        self._totals += totals
        self._networks += networks
        self._ratios.append(float(np.median(totals) / np.median(networks)))
        for _ in range(plan.runs):
            for stage, spent in detector.profile(images).stages_ms.items():
                self._stages.setdefault(stage, []).append(spent)
        if plan.throughput_s:
            time.sleep(plan.gap_s)
            self._rates.append(
                self._rate([lambda: detector.detect_batch(sources)] * self.case.streams, plan.throughput_s)
            )
            time.sleep(plan.gap_s)
            self._network_rates.append(self._network_rate(plan.throughput_s))
        self._peak_device = max(self._peak_device or 0, detector.device_bytes() or 0) or None

    def result(self) -> BenchResult:
        """What was measured."""
        rate = float(np.median(self._rates)) if self._rates else 0.0
        network_rate = float(np.median(self._network_rates)) if self._network_rates else 0.0
        grown = None
        if self._peak_device is not None and self._before_bytes is not None:
            grown = self._peak_device - self._before_bytes
        return BenchResult(
            case=self.case,
            backend=self.detector.session.name,
            load_ms=self._load_ms,
            warm_up_ms=self._warm_up_ms,
            total=Spread.of(self._totals),
            array=Spread.of(self._arrays) if self._arrays else None,
            network=Spread.of(self._networks),
            stages={stage: Spread.of(values) for stage, values in self._stages.items()},
            ratio=float(np.median(self._ratios)),
            images_per_s=rate,
            network_images_per_s=network_rate,
            share=rate / network_rate if network_rate else 0.0,
            host_peak_bytes=host_peak_bytes(),
            device_bytes=grown,
        )

    def _network_rate(self, seconds: float) -> float:
        from contextlib import ExitStack

        with ExitStack() as stack:
            works = [stack.enter_context(self.detector.network(len(self._images))) for _ in range(self.case.streams)]
            return self._rate(works, seconds)

    def _rate(self, works: Sequence[Callable[[], object]], seconds: float) -> float:
        """Images a second of threads that each repeat their work."""
        stop = threading.Event()
        ready = threading.Barrier(len(works) + 1)
        counts = [0] * len(works)
        failures: list[BaseException] = []

        def loop(number: int, work: Callable[[], object]) -> None:
            try:
                work()
                ready.wait()
                while not stop.is_set():
                    work()
                    counts[number] += 1
            except threading.BrokenBarrierError:
                return
            except BaseException as error:
                failures.append(error)
                stop.set()
                ready.abort()

        threads = [threading.Thread(target=loop, args=(number, work)) for number, work in enumerate(works)]
        for thread in threads:
            thread.start()
        began = time.perf_counter()
        try:
            ready.wait()
            began = time.perf_counter()
            stop.wait(seconds)
        except threading.BrokenBarrierError:
            pass
        stop.set()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return sum(counts) * len(self._images) / (time.perf_counter() - began)


def _times_ms(work: Callable[[], Any], runs: int) -> list[float]:
    times = []
    for run in range(_WARM_UPS + runs):
        began = time.perf_counter()
        work()
        if run >= _WARM_UPS:
            times.append((time.perf_counter() - began) * 1e3)
    return times


def host_peak_bytes() -> int | None:
    """The most memory that this process has had in use; None if the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
