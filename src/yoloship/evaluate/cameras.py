"""How many cameras a model carries: `most_streams` searches for the most streams whose results come in time."""

from __future__ import annotations

import gc
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.text import counted, silent
from yoloship.errors import InputError, visible
from yoloship.evaluate.benchmark import MAX_S, Spread, check_ranges
from yoloship.evaluate.held_streams import HeldImages, HeldVideos, due_frames
from yoloship.evaluate.reports import Bar, report_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yoloship._util.text import OnProgress
    from yoloship.detect.detector import Detector
    from yoloship.evaluate.bench_sources import BenchSources
    from yoloship.evaluate.benchmark import BenchCase

MAX_STREAMS: Final = 4096
MAX_FPS: Final = 1000
_EXACT: Final = 32
"""The search ends when the answer is known to a part in so many."""
_NEAR_LOST: Final = 0.02
_NEAR_LATE: Final = 2
"""A number of streams that loses so little, and whose latency is at most so many times the limit, is tried again."""


@dataclass(frozen=True, slots=True)
class CameraOptions:
    """What is asked of a model, and for how long.

    Attributes:
        fps: Frames a second of each stream.
        max_latency_ms: 99 of 100 results must be there so soon after their frames were due.
        seconds: Measured seconds of a trial.
        settle_s: Seconds before them that do not count.
        most: The most streams that are tried.
        first: The number that is tried first.

    Raises:
        InputError: a value is outside its range.
    """

    fps: float = 30.0
    max_latency_ms: float = 50.0
    seconds: float = 3.0
    settle_s: float = 0.5
    most: int = MAX_STREAMS
    first: int = 1

    def __post_init__(self) -> None:
        ranges = (
            ("fps", 0.1, MAX_FPS),
            ("max_latency_ms", 0.001, MAX_S * 1e3),
            ("seconds", 0.01, MAX_S),
            ("settle_s", 0, MAX_S),
            ("most", 1, MAX_STREAMS),
            ("first", 1, self.most),
        )
        check_ranges(self, ranges)


@dataclass(frozen=True, slots=True)
class CameraTrial:
    """What was seen with so many streams.

    Attributes:
        streams: How many.
        latency: From when a frame was due to its result; None if there was not one result.
        frames: Frames that were due.
        lost: Those of them without a result: the next one of the stream came first.
        frames_per_s: Results a second, of all streams together.
        is_carried: Whether none was lost, and 99 of 100 were in time.
    """

    streams: int
    latency: Spread | None
    frames: int
    lost: int
    frames_per_s: float
    is_carried: bool


@dataclass(frozen=True, slots=True)
class CameraResult:
    """How many streams a model carries.

    Attributes:
        case: What was measured. Its batch and streams mean nothing here.
        backend: What ran the network.
        decoded_by: Who decoded files, and why; None if there were none.
        trials: In the order in which they were made.
        is_complete: Whether the search came to its end.
    """

    case: BenchCase
    backend: str
    decoded_by: str | None
    trials: tuple[CameraTrial, ...]
    is_complete: bool

    @property
    def carried(self) -> CameraTrial | None:
        """The trial with the most streams that was carried; None if not even one stream is."""
        return max((one for one in self.trials if one.is_carried), key=lambda one: one.streams, default=None)


def most_streams(
    cases: Sequence[BenchCase],
    sources: BenchSources,
    plan: CameraOptions | None = None,
    on_progress: OnProgress = silent,
    on_interrupt: Callable[[list[CameraResult]], object] = lambda _: None,
) -> list[CameraResult]:
    """Search for the most streams that each model carries: twice as many until it fails, then by bisection.

    The streams run through `Detector.stream`, as cameras do. A result counts when the caller gets it. A number that
    fails narrowly is tried a second time.

    Args:
        cases: One model is open at a time.
        sources: The streams show these images, or play these videos from their files.
        plan: What is asked.
        on_progress: Called before each trial, and with what came of it.
        on_interrupt: Called with the results so far if a `KeyboardInterrupt` ends it, which is raised on.

    Raises:
        InputError: there are no cases.
        YoloshipError: as the detectors raise them.
    """
    if not cases:
        raise InputError("nothing to measure", expected="one model, or more")
    plan = plan or CameraOptions()
    results: list[CameraResult] = []
    for number, case in enumerate(cases):
        with ExitStack() as stack:
            on_progress(f"loading {case.model} on {case.device}", number, len(cases))
            detector = case.open()
            stack.callback(detector.close)
            handed = sources.handed(detector, len(sources.images), stack)
            detector.prepare()
            trials: list[CameraTrial] = []

            def result(*, is_complete: bool) -> CameraResult:
                return CameraResult(
                    case, detector.session.name, sources.decoded_by(detector), tuple(trials), is_complete  # noqa: B023
                )  # fmt: skip

            def is_carried(streams: int) -> bool:
                on_progress(f"{case.model} on {case.device}: {counted(streams, 'stream')}", number, len(cases))  # noqa: B023
                for _ in range(2):
                    one = trial(detector, sources, handed, streams, plan)  # noqa: B023
                    trials.append(one)  # noqa: B023
                    on_progress(f"  {said(one)}", number, len(cases))  # noqa: B023
                    if one.is_carried or not _is_near(one, plan):
                        break  # else it may have been a bad moment of the machine
                return one.is_carried

            try:
                search(is_carried, plan.most, plan.first)
                results.append(result(is_complete=True))
            except KeyboardInterrupt:
                on_interrupt([*results, result(is_complete=False)])
                raise
    return results


def trial(
    detector: Detector, sources: BenchSources, handed: Sequence[Any], streams: int, plan: CameraOptions
) -> CameraTrial:
    """Run so many streams once.

    Args:
        detector: Runs them.
        sources: What they show.
        handed: The images as `BenchSources.handed` gives them.
        streams: How many.
        plan: At which rate, and for how long.

    Raises:
        YoloshipError: a frame failed.
    """
    whole_s = plan.settle_s + plan.seconds
    held: HeldImages | HeldVideos
    if sources.videos and sources.origin == "file":
        held = HeldVideos(sources.videos, streams, plan.fps, whole_s)
    else:
        held = HeldImages(handed, streams, plan.fps, whole_s)
    late_ms: list[float] = []
    gc.collect()
    with held:
        for outcome in detector.stream(held):
            now_s, frame = time.perf_counter() - held.begun_s, outcome.frame
            outcome.unwrap()
            assert frame is not None
            assert frame.time_s is not None
            if frame.time_s >= plan.settle_s:
                late_ms.append((now_s - frame.time_s) * 1e3)
    frames = due_frames(streams, plan.fps, plan.settle_s, whole_s)
    lost = max(0, frames - len(late_ms))
    latency = Spread.of(late_ms) if late_ms else None
    is_carried = latency is not None and not lost and latency.p99 <= plan.max_latency_ms
    return CameraTrial(streams, latency, frames, lost, len(late_ms) / plan.seconds, is_carried)


def _is_near(one: CameraTrial, plan: CameraOptions) -> bool:
    late = one.latency is None or one.latency.p99 > _NEAR_LATE * plan.max_latency_ms
    return not late and one.lost <= _NEAR_LOST * one.frames


def search(is_carried: Callable[[int], bool], most: int, first: int = 1) -> int:
    """The largest number that is carried, to a part in 32; 0 if not even 1 is.

    Args:
        is_carried: Tries a number.
        most: The most that is tried.
        first: Which is tried first.
    """
    low, high, count = 0, most + 1, first
    while high - low > max(1, low // _EXACT):
        if is_carried(count):
            low = count
        else:
            high = count
        count = min(2 * low, most) if high > most else (low + high) // 2
    return low


def said(one: CameraTrial) -> str:
    """A trial in words."""
    if one.latency is None:
        return f"no result, {one.frames} lost"
    lost = f"{one.lost} of {counted(one.frames, 'frame')} lost" if one.lost else "none lost"
    return f"p50 {one.latency.p50:.1f} ms, p99 {one.latency.p99:.1f} ms, {lost}"


def cameras_table(results: Sequence[CameraResult], plan: CameraOptions) -> str:
    """Results for people: the answer for each case, then its trials."""
    wanted = f"{plan.fps:g} frames a second, p99 latency at most {plan.max_latency_ms:g} ms, no frame lost"
    lines = [f"streams of {wanted}:"]
    for result in results:
        carried, name = result.carried, f"{result.case.model} on {result.case.device}"
        if carried is None:
            lines.append(f"  {name}: none")
        else:
            at_most = "" if result.is_complete else " or more"
            lines.append(f"  {name}: {carried.streams}{at_most}, {said(carried)}, {carried.frames_per_s:.0f} frames/s")
    for result in results:
        lines += ["", f"{result.case.model} on {result.case.device}: {result.backend}"]
        if result.decoded_by is not None:
            lines.append(f"  decoded by {result.decoded_by}")
        lines += [f"  {one.streams:5d}  {said(one)}" for one in sorted(result.trials, key=lambda one: one.streams)]
        if not result.is_complete:
            lines.append("  the search was interrupted")
    return "\n".join(lines) + "\n"


def cameras_json(results: Sequence[CameraResult], plan: CameraOptions, sources: BenchSources) -> bytes:
    """Results for programs."""
    cameras = [
        {
            "model": result.case.model,
            "device": result.case.device,
            "backend": result.backend,
            "decoded_by": result.decoded_by,
            "streams": result.carried.streams if result.carried else 0,
            "is_complete": result.is_complete,
            "trials": [asdict(one) for one in result.trials],
        }
        for result in results
    ]
    return report_json(plan, sources, cameras=cameras)


def cameras_bars(results: Sequence[CameraResult], plan: CameraOptions) -> list[Bar]:
    """A bar for each number of streams: the median latency, and up to the 99th percentile. The mark is the limit."""
    bars = []
    for result in results:
        name = visible(result.case.model)
        better = sorted(result.trials, key=lambda one: (one.is_carried, -one.lost))
        for one in sorted({one.streams: one for one in better}.values(), key=lambda one: one.streams):
            p50, p99 = (0.0, 0.0) if one.latency is None else (one.latency.p50, one.latency.p99)
            lost = f"{one.lost} of {one.frames} lost" if one.lost else "none lost"
            label = f"{counted(one.streams, 'stream')}, {name if len(results) > 1 else result.case.device}"
            note = f"{one.frames_per_s:.0f} frames/s, {lost}"
            text = f"p50 {p50:.1f}, p99 {p99:.1f} ms"
            bars.append(Bar(label, note, (("p50", p50), ("to p99", p99 - p50)), plan.max_latency_ms, text))
    return bars
