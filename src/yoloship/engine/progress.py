"""How far a build has come, and how it is stopped."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from yoloship.engine.flavours import Flavour


_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass(frozen=True, slots=True)
class BuildStep:
    """One report of a running build.

    Attributes:
        phase: What TensorRT is at.
        depth: 0 for the whole build, 1 for its phases, and so on.
        done: Steps of this phase that are finished.
        total: Steps that this phase has.
        fraction: Of the whole build, in [0, 1]; never goes back.
        elapsed_s: Since the build began.
    """

    phase: str
    depth: int
    done: int
    total: int
    fraction: float
    elapsed_s: float


BuildProgress: TypeAlias = Callable[[BuildStep], None]
"""Called for every step, on TensorRT's thread. What it raises cancels the build and comes out of it."""


@dataclass(slots=True)
class _Phase:
    name: str
    parent: str | None
    total: int
    done: int = 0


class Tracker:
    """Keeps the tree of phases; knows whether the build shall stop, and why.

    TensorRT swallows what a callback raises, KeyboardInterrupt among it. So nothing leaves a callback: what went wrong
    is kept here and raised when the build has returned.
    """

    def __init__(self, report: BuildProgress | None) -> None:
        self._report = report
        self._phases: dict[str, _Phase] = {}
        self._started_s = time.monotonic()
        self._fraction = 0.0
        self._stopped_by: BaseException | None = None
        self._lock = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        """Since the build began."""
        return time.monotonic() - self._started_s

    def stop(self, reason: BaseException) -> None:
        """Let the build end at its next step; the first reason counts."""
        if self._stopped_by is None:
            self._stopped_by = reason

    def raise_if_stopped(self) -> None:
        """Raise what stopped the build, if anything did."""
        if self._stopped_by is not None:
            raise self._stopped_by

    def start(self, phase: str, parent: str | None, total: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases[phase] = _Phase(phase, parent, max(total, 1))
        self._tell(phase)

    def step(self, phase: str, step: int) -> bool:
        """A step of a phase is finished. Returns whether to go on."""
        with self._lock:
            if (record := self._phases.get(phase)) is not None:
                record.done = min(max(record.done, step + 1), record.total)
        self._tell(phase)
        return self._stopped_by is None

    def finish(self, phase: str) -> None:
        """A phase is over."""
        with self._lock:
            if (record := self._phases.get(phase)) is not None:
                record.done = record.total
        self._tell(phase)
        with self._lock:
            self._phases.pop(phase, None)

    def _tell(self, phase: str) -> None:
        if self._report is None or self._stopped_by is not None:
            return
        with self._lock:
            record = self._phases.get(phase)
            if record is None:
                return
            line = self._line_to_root(record)
            fraction = 0.0
            for place in line:
                fraction = (min(place.done, place.total) + (fraction if place.done < place.total else 0)) / place.total
            self._fraction = max(self._fraction, min(fraction, 1.0))
            step = BuildStep(phase, len(line) - 1, record.done, record.total, self._fraction, self.elapsed_s)
        try:
            self._report(step)
        except BaseException as error:  # whatever it is, it is raised again after the build
            self.stop(error)

    def _line_to_root(self, record: _Phase) -> list[_Phase]:
        line = [record]
        while (parent := line[-1].parent) is not None and len(line) < 20:
            if (above := self._phases.get(parent)) is None:
                break
            line.append(above)
        return line


def monitor(flavour: Flavour, tracker: Tracker) -> Any:
    """A TensorRT progress monitor that tells a tracker."""
    module = flavour.module

    class Monitor(module.IProgressMonitor):  # type: ignore[misc,name-defined]  # the base exists only once a flavour is imported
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            tracker.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return tracker.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            tracker.finish(phase_name)

    return Monitor()


@contextmanager
def interruptible(tracker: Tracker) -> Iterator[None]:
    """Turn Ctrl-C, and a request to end, into a request to stop, for as long as the build runs.

    What a signal's handler raises while TensorRT calls back would be lost, and the process would go on as if nobody had
    asked. So handlers are called as before, and what they raise ends the build. Only the main thread gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}

    def stop(number: int, frame: FrameType | None) -> None:
        try:
            before[signal.Signals(number)](number, frame)
        except BaseException as error:  # whatever it is, it is raised again after the build
            tracker.stop(error)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
