"""How fast models are, side by side: `benchmark`.

Every round measures each case once more, a few runs at a time, so that a slow moment of the machine meets all alike.
Before each turn comes a pause (the last case's worker threads spin for a while and would take its cores) and runs that
do not count. The network alone is measured in the same turns: what the pipeline adds is the ratio of the two.
"""

from __future__ import annotations

import gc
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from yoloship.detect.detector import finish
from yoloship.detect.gpu.pipeline import CudaDetector
from yoloship.detect.preprocess import letterbox_batch, to_input
from yoloship.errors import InputError
from yoloship.results.detections import class_ids_of
from yoloship.tasks.detect import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from yoloship.detect.detector import Detector

    Image = npt.NDArray[np.uint8]


class Subject(Protocol):
    """A loaded model under test. Closed by whoever opened it."""

    @property
    def backend(self) -> str:
        """What runs the network, with its version."""

    def detect(self, images: Sequence[Image]) -> None:
        """From pictures in memory to detections; many threads may call it."""

    def stages_ms(self, images: Sequence[Image]) -> dict[str, float]:
        """Milliseconds of each stage of one such run, in order."""

    def network(self, pictures: int) -> Any:
        """A context manager that gives a function: the network alone for so many pictures, waited for."""

    def device_bytes(self) -> int | None:
        """Bytes of the device's memory in use, other processes' included; None on the CPU."""

    def close(self) -> None:
        """Close the detector."""


class CpuSubject:
    """A `Detector`: its steps are those of its own call, one by one.

    Args:
        detector: Closed with the subject.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    @property
    def backend(self) -> str:
        """See `Subject`; so for the others."""
        return self._detector.session.name

    def detect(self, images: Sequence[Image]) -> None:
        """See `Subject`."""
        self._detector.detect_batch(images)

    def stages_ms(self, images: Sequence[Image]) -> dict[str, float]:
        """See `Subject`."""
        one, info, options = self._detector, self._detector.info, self._detector.options
        spent = {"letterbox": 0.0, "network": 0.0, "decode": 0.0, "suppress": 0.0}
        wanted = None if options.classes is None else np.array(class_ids_of(options.classes, one.names), np.int32)
        size = info.batch or len(images)
        for start in range(0, len(images), size):
            some = images[start : start + size]
            marks = [time.perf_counter()]
            boxes = [one.letterbox((image.shape[0], image.shape[1])) for image in some]
            canvases = np.empty((info.batch or len(some), *boxes[0].input_hw, info.channels), np.uint8)
            feed = to_input(letterbox_batch(some, boxes, canvases), one.session.inputs[0].dtype)
            marks.append(time.perf_counter())
            outputs = one.session.run({one.session.inputs[0].name: feed})
            marks.append(time.perf_counter())
            found = decode(one.decodable(outputs), info, boxes[0].input_hw, options.score_threshold)
            marks.append(time.perf_counter())
            for candidates, box in zip(found, boxes, strict=False):
                finish(candidates, box, options, wanted, one.names)
            marks.append(time.perf_counter())
            for stage, began, ended in zip(spent, marks, marks[1:], strict=False):
                spent[stage] += (ended - began) * 1e3
        return spent

    @contextmanager
    def network(self, pictures: int) -> Iterator[Callable[[], None]]:
        """See `Subject`."""
        session, info = self._detector.session, self._detector.info
        size = info.batch or pictures
        canvases = np.full((size, *self._detector.input_hw, info.channels), 114, np.uint8)
        feeds = {session.inputs[0].name: to_input(canvases, session.inputs[0].dtype)}
        runs = -(-pictures // size)

        def run() -> None:
            for _ in range(runs):
                session.run(feeds)

        yield run

    def device_bytes(self) -> int | None:
        """See `Subject`."""
        return None

    def close(self) -> None:
        """See `Subject`."""
        self._detector.close()


class GpuSubject:
    """A `CudaDetector`.

    Args:
        detector: Closed with the subject.
    """

    def __init__(self, detector: CudaDetector) -> None:
        self._detector = detector

    @property
    def backend(self) -> str:
        """See `Subject`; so for the others."""
        return self._detector.session.name

    def detect(self, images: Sequence[Image]) -> None:
        """See `Subject`."""
        self._detector.detect_batch(images)

    def stages_ms(self, images: Sequence[Image]) -> dict[str, float]:
        """See `Subject`."""
        spent = dict.fromkeys(("stage", "upload", "letterbox", "network", "postprocess", "read"), 0.0)
        size = self._detector.max_batch
        for start in range(0, len(images), size):
            _, times = self._detector.detect_timed(images[start : start + size])
            for name in spent:
                spent[name] += float(getattr(times, name))
        return spent

    @contextmanager
    def network(self, pictures: int) -> Iterator[Callable[[], None]]:
        """See `Subject`."""
        size = min(pictures, self._detector.max_batch)
        with self._detector.network(size) as once:

            def run() -> None:
                for _ in range(-(-pictures // size)):
                    once()

            yield run

    def device_bytes(self) -> int | None:
        """See `Subject`."""
        free, total = self._detector.session.device.memory()
        return total - free

    def close(self) -> None:
        """See `Subject`."""
        self._detector.close()


def subject_of(detector: Detector | CudaDetector) -> Subject:
    """The subject that fits a detector."""
    return GpuSubject(detector) if isinstance(detector, CudaDetector) else CpuSubject(detector)


GAP_S: Final = 0.15
"""Longer than the workers of any runtime seen here spin."""
MAX_S: Final = 3600
MAX_RUNS: Final = 1_000_000
_WARM_UPS: Final = 2


@dataclass(frozen=True, slots=True)
class BenchPlan:
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
    """Of many times, in milliseconds.

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
        """Of at least one."""
        p50, p90, p99 = (float(value) for value in np.percentile(list(milliseconds), [50, 90, 99]))
        return cls(p50, p90, p99, len(milliseconds))


@dataclass(frozen=True, slots=True)
class BenchCase:
    """One thing to measure.

    Attributes:
        model: Its name, for people.
        device: ``cpu`` or ``cuda:N``.
        batch: Pictures handed over together.
        streams: Threads that do so at once, for throughput.
        open: Loads the model.
    """

    model: str
    device: str
    batch: int
    streams: int
    open: Callable[[], Subject]

    @property
    def label(self) -> str:
        """What tells this case from the others, in words."""
        threads = "" if self.streams == 1 else f", {self.streams} streams"
        return f"{self.model} on {self.device}, batch {self.batch}{threads}"


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was found.

    Attributes:
        case: Of what.
        backend: What ran the network.
        load_ms: Loading the model.
        warm_up_ms: From there to the first detections.
        total: A batch from pictures in memory to detections.
        network: The same batch through the network alone.
        stages: Of single stages, in order; measured apart, so that they add up only nearly.
        ratio: Median of a turn's `total` by that of its `network`; the median over all turns.
        pictures_per_s: By all streams together.
        network_pictures_per_s: By the network alone, by as many threads.
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
    pictures_per_s: float
    network_pictures_per_s: float
    share: float
    host_peak_bytes: int | None
    device_bytes: int | None


def benchmark(
    cases: Sequence[BenchCase],
    images: Sequence[Image],
    plan: BenchPlan | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[BenchResult]:
    """Measure every case on the same pictures.

    Args:
        cases: In the order of the report. All models are open at once.
        images: (height, width, 3) uint8 BGR each; a batch takes them in turn, from the first. Read only.
        plan: How long.
        progress: Told what is being done.

    Returns:
        One result for each case.

    Raises:
        InputError: there are no cases or no pictures.
        YoloshipError: as the detectors raise them.
    """
    if not cases or not images:
        raise InputError("nothing to measure", expected="one model and one image, or more")
    plan = plan or BenchPlan()
    running: list[_Running] = []
    try:
        for case in cases:
            progress(f"loading {case.label}")
            running.append(_Running(case, [images[place % len(images)] for place in range(case.batch)]))
        for round_ in range(plan.rounds):
            for one in running:
                progress(f"round {round_ + 1} of {plan.rounds}: {one.case.label}")
                one.turn(plan)
        return [one.result() for one in running]
    finally:
        for one in running:
            one.subject.close()


class _Running:
    """A case that is open, and what was measured so far."""

    def __init__(self, case: BenchCase, images: list[Image]) -> None:
        self.case = case
        self._images = images
        before_bytes = None
        began = time.perf_counter()
        self.subject = case.open()
        self._load_ms = (time.perf_counter() - began) * 1e3
        try:
            before_bytes = self.subject.device_bytes()
            began = time.perf_counter()
            self.subject.detect(images)
            self._warm_up_ms = (time.perf_counter() - began) * 1e3
        except BaseException:
            self.subject.close()
            raise
        self._before_bytes = before_bytes
        self._peak_device = self.subject.device_bytes()
        self._totals: list[float] = []
        self._networks: list[float] = []
        self._stages: dict[str, list[float]] = {}
        self._ratios: list[float] = []
        self._rates: list[float] = []
        self._network_rates: list[float] = []

    def turn(self, plan: BenchPlan) -> None:
        """Measure once more."""
        subject, images = self.subject, self._images
        gc.collect()
        time.sleep(plan.gap_s)
        totals = _times_ms(lambda: subject.detect(images), plan.runs)
        time.sleep(plan.gap_s)
        with subject.network(len(images)) as network:
            networks = _times_ms(network, plan.runs)
        self._totals += totals
        self._networks += networks
        self._ratios.append(float(np.median(totals) / np.median(networks)))
        for _ in range(plan.runs):
            for stage, spent in subject.stages_ms(images).items():
                self._stages.setdefault(stage, []).append(spent)
        if plan.throughput_s:
            time.sleep(plan.gap_s)
            self._rates.append(self._rate([lambda: subject.detect(images)] * self.case.streams, plan.throughput_s))
            time.sleep(plan.gap_s)
            self._network_rates.append(self._network_rate(plan.throughput_s))
        self._peak_device = max(self._peak_device or 0, subject.device_bytes() or 0) or None

    def result(self) -> BenchResult:
        """What was measured."""
        rate = float(np.median(self._rates)) if self._rates else 0.0
        network_rate = float(np.median(self._network_rates)) if self._network_rates else 0.0
        grown = None
        if self._peak_device is not None and self._before_bytes is not None:
            grown = self._peak_device - self._before_bytes
        return BenchResult(
            case=self.case,
            backend=self.subject.backend,
            load_ms=self._load_ms,
            warm_up_ms=self._warm_up_ms,
            total=Spread.of(self._totals),
            network=Spread.of(self._networks),
            stages={stage: Spread.of(values) for stage, values in self._stages.items()},
            ratio=float(np.median(self._ratios)),
            pictures_per_s=rate,
            network_pictures_per_s=network_rate,
            share=rate / network_rate if network_rate else 0.0,
            host_peak_bytes=host_peak_bytes(),
            device_bytes=grown,
        )

    def _network_rate(self, seconds: float) -> float:
        from contextlib import ExitStack

        with ExitStack() as stack:
            pictures = len(self._images)
            works = [stack.enter_context(self.subject.network(pictures)) for _ in range(self.case.streams)]
            return self._rate(works, seconds)

    def _rate(self, works: Sequence[Callable[[], None]], seconds: float) -> float:
        """Pictures a second of threads that each repeat their work."""
        stop = threading.Event()
        ready = threading.Barrier(len(works) + 1)
        counts = [0] * len(works)
        failures: list[BaseException] = []

        def loop(number: int, work: Callable[[], None]) -> None:
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
    """The most memory that this process has had in use; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
