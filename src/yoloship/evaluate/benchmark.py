"""Measures how fast models are, side by side: `benchmark`.

Every round measures each case once more, a few runs at a time, so that a slow moment of the machine meets all alike.
Before each turn comes a pause (the last case's worker threads spin for a while and would take its cores) and runs that
do not count. The network alone is measured in the same turns: what the pipeline adds is the ratio of the two.
"""

from __future__ import annotations

import gc
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.text import silent
from yoloship.errors import InputError
from yoloship.evaluate.bench_sources import VideoLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from yoloship._util.text import OnProgress
    from yoloship.detect.detector import Detector
    from yoloship.detect.stream import Outcome
    from yoloship.evaluate.bench_sources import BenchSources


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
        ranges = (("rounds", 1, MAX_RUNS), ("runs", 1, MAX_RUNS), ("throughput_s", 0, MAX_S), ("gap_s", 0, MAX_S))
        check_ranges(self, ranges)


def check_ranges(plan: object, ranges: Iterable[tuple[str, float, float]]) -> None:
    """Refuse a plan with a value outside its range.

    Args:
        plan: Has the attributes.
        ranges: The name of each attribute, the least and the most that it may be.

    Raises:
        InputError: a value is outside; the first one is named.
    """
    for name, least, most in ranges:
        value = getattr(plan, name)
        if not least <= value <= most:
            raise InputError("out of range", subject=name, expected=f"{least} to {most}", got=str(value))


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
        total: A batch from where its images come from (`BenchSources.origin`) to results.
        array: The same batch from images in the host's memory, measured beside `total` if that is from elsewhere; else
            None.
        network: The same batch through the network alone.
        stages: The time of each stage, in order; measured apart, so that they add up only nearly.
        ratio: Median of a turn's `total` by that of its `network`; the median over all turns.
        images_per_s: By all streams together. Videos are decoded ahead meanwhile, as `Detector.stream` does it.
        network_images_per_s: By the network alone, by as many threads.
        share: The one by the other: 1 would be a pipeline that costs nothing.
        host_peak_bytes: Most memory that the process had in use until then, models before it included; None unknown.
        device_bytes: Memory of the GPU that the model and its runs took; None on the CPU.
        decoded_by: Who decoded files, and why; None if there were none.
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
    decoded_by: str | None = None


def benchmark(
    cases: Sequence[BenchCase],
    sources: BenchSources,
    plan: BenchOptions | None = None,
    on_progress: OnProgress = silent,
    on_interrupt: Callable[[list[BenchResult]], object] = lambda _: None,
) -> list[BenchResult]:
    """Measure every case on the same images.

    Args:
        cases: In the order of the report. All models are open at once.
        sources: The images; a batch takes them in turn, from the first.
        plan: How long.
        on_progress: Called as each model is loaded and as each round begins.
        on_interrupt: Called with the results so far if a `KeyboardInterrupt` ends it, which is raised on.

    Returns:
        One result for each case.

    Raises:
        InputError: there are no cases.
        YoloshipError: as the detectors raise them.
    """
    if not cases:
        raise InputError("nothing to measure", expected="one model, or more")
    plan = plan or BenchOptions()
    running: list[_Running] = []
    try:
        for case in cases:
            on_progress(f"loading {case.label}", len(running), len(cases))
            running.append(_Running(case, sources))
        for round_ in range(plan.rounds):
            for one in running:
                on_progress(f"round {round_ + 1} of {plan.rounds}: {one.case.label}", round_, plan.rounds)
                one.turn(plan)
        return [one.result() for one in running]
    except KeyboardInterrupt:
        on_interrupt([one.result() for one in running if one.turns])
        raise
    finally:
        for one in running:
            one.close()


class _Running:
    """A case that is open, and what was measured so far.

    Attributes:
        turns: How many are complete.
    """

    def __init__(self, case: BenchCase, sources: BenchSources) -> None:
        self.case, self._sources, self.turns = case, sources, 0
        before_bytes = None
        began = time.perf_counter()
        with ExitStack() as stack:
            self.detector = case.open()
            stack.callback(self.detector.close)
            self._load_ms = (time.perf_counter() - began) * 1e3
            before_bytes = self.detector.device_bytes()
            self._images = [sources.images[place % len(sources.images)] for place in range(case.batch)]
            self._handed = sources.handed(self.detector, case.batch, stack)
            self._loop: VideoLoop | None = None
            if sources.videos and sources.origin == "file":
                self._loop = VideoLoop(sources.videos)
                self.detector.lend_decoder(self._loop)
                self._frames: Any = stack.enter_context(closing(self._loop.when_asked()))
            began = time.perf_counter()
            self._detect()
            self._warm_up_ms = (time.perf_counter() - began) * 1e3
            self._owned = stack.pop_all()
        self._before_bytes = before_bytes
        self._peak_device = self.detector.device_bytes()
        self._totals: list[float] = []
        self._arrays: list[float] = []
        self._networks: list[float] = []
        self._stages: dict[str, list[float]] = {}
        self._ratios: list[float] = []
        self._rates: list[float] = []
        self._network_rates: list[float] = []

    def close(self) -> None:
        """Close the detector, and give back what was made for it."""
        self._owned.close()

    def _detect(self) -> None:
        """A batch from where its images come from to results."""
        if self._loop is None:
            self.detector.detect_batch(self._handed)
            return
        images = [next(self._frames).image for _ in self._handed]
        self.detector.detect_batch(images)
        for image in images:
            if hasattr(image, "close"):  # it is on a device
                image.close()

    def turn(self, plan: BenchOptions) -> None:
        """Measure once more."""
        detector, images = self.detector, self._images
        gc.collect()
        time.sleep(plan.gap_s)
        totals = _times_ms(self._detect, plan.runs)
        time.sleep(plan.gap_s)
        if self._sources.origin != "array":
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
            self._rates.append(self._own_rate(plan.throughput_s))
            time.sleep(plan.gap_s)
            self._network_rates.append(self._network_rate(plan.throughput_s))
        self._peak_device = max(self._peak_device or 0, detector.device_bytes() or 0) or None
        self.turns += 1

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
            decoded_by=self._sources.decoded_by(self.detector),
        )

    def _own_rate(self, seconds: float) -> float:
        if self._loop is None:
            return self._rate([self._detect] * self.case.streams, seconds)
        with ExitStack() as stack:
            works = []
            for _ in range(self.case.streams):
                outcomes: Any = self.detector.stream(VideoLoop(self._sources.videos))
                stack.callback(outcomes.close)
                works.append(partial(_take, outcomes, len(self._images)))
            return self._rate(works, seconds)

    def _network_rate(self, seconds: float) -> float:
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
        began = time.perf_counter()
        try:
            for thread in threads:
                thread.start()
            ready.wait()
            began = time.perf_counter()
            stop.wait(seconds)
        except threading.BrokenBarrierError:
            pass
        except BaseException:  # it is interrupted, and some may wait for the others
            ready.abort()
            raise
        finally:
            stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if failures:
            raise failures[0]
        return sum(counts) * len(self._images) / (time.perf_counter() - began)


def _take(outcomes: Iterator[Outcome], count: int) -> None:
    for _ in range(count):
        next(outcomes).unwrap()


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
