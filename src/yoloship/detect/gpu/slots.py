"""A stream with all that one batch in flight needs, `Slot`, and the few of them that threads share, `SlotPool`."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yoloship._util.closing import Closing
from yoloship.cuda.stream import Event, Stream, StreamCalls
from yoloship.detect.batching import forked
from yoloship.detect.gpu.batch_plan import STAGES, DeviceModel, Plan, Recording
from yoloship.detect.gpu.staging import Frame, Staging
from yoloship.errors import InputError, SessionError, YoloshipError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yoloship.detect.gpu.filling import Copiers
    from yoloship.detect.gpu.turns import Turns
    from yoloship.detect.options import DetectOptions
    from yoloship.results import Result


@dataclass(frozen=True, slots=True)
class SlotSetup:
    """What all slots of a detector have in common.

    Attributes:
        model: What to run.
        max_batch: Images of the largest run.
        cores: Held by the one lone frame that the host copies.
        copiers: Copy the frames of a batch.
        plans: Batches and canvases that a slot keeps ready; the one unused for longest goes first.
        runs: The turns in which batches are computed.
    """

    model: DeviceModel
    max_batch: int
    cores: threading.Lock
    copiers: Copiers
    plans: int
    runs: Turns


class Slot(Closing):
    """One batch in flight. One thread at a time may use it.

    Args:
        setup: What it has in common with others.

    Attributes:
        ready: Batches, each with the (height, width) of its canvas, that nothing has to be made for.

    Raises:
        CudaError: out of memory, or the device failed.
    """

    def __init__(self, setup: SlotSetup) -> None:
        self._setup = setup
        self.ready: frozenset[tuple[int, tuple[int, int]]] = frozenset()
        self._plans: OrderedDict[tuple[int, tuple[int, int]], Plan] = OrderedDict()
        with ExitStack() as stack:
            self.stream = stack.enter_context(Stream(setup.model.session.device))
            self.calls = StreamCalls(self.stream)
            self._staging = Staging(self.calls, setup.max_batch, setup.cores, setup.copiers)
            stack.callback(self._staging.close)
            self._owned = stack.pop_all()

    def run(self, frames: Sequence[Frame], batch: int, options: DetectOptions) -> list[Result]:
        """Take images to detections, and wait for them.

        Args:
            frames: 1 to `batch`, on canvases of one size.
            batch: Of the network's run; images that it lacks are repeats of the first.
            options: What to keep.

        Raises:
            CudaError: the device failed or is out of memory; the slot must then be closed.
            SessionError: the network failed; likewise.
            InputError: the network takes no such batch or canvas, or a frame is none on this device.
        """
        staging, calls = self._staging, self.calls
        with calls:
            staging.send(frames, batch)
            recording = self._recording(frames[0].letterbox.input_hw, batch, options)
            is_short = batch == 1  # and every microsecond counts
            launched_s = time.monotonic()
            if is_short:
                recording.launch()
            else:
                with self._setup.runs.turn(calls):
                    recording.launch()
            letterboxes = [frame.letterbox for frame in frames]  # here, because the GPU is busy
            calls.wait(0.0 if is_short else recording.pace.usual_s)
            recording.pace.note(time.monotonic() - launched_s)
        staging.release()
        return recording.read(letterboxes)

    def run_timed(
        self, frames: Sequence[Frame], batch: int, options: DetectOptions
    ) -> tuple[list[Result], dict[str, float]]:
        """Do the same, a little slower, and give the milliseconds of each stage; see `Pipeline.run_timed`."""
        began = time.perf_counter()
        staging, calls = self._staging, self.calls
        with Event(self.stream.device, timing=True) as before, calls:
            self.stream.record(before)
            at_stage = time.perf_counter()
            staging.send(frames, batch)
            recording = self._recording(frames[0].letterbox.input_hw, batch, options)
            staged = time.perf_counter()
            recording.launch_timed(before)
            calls.wait()
            waited = time.perf_counter()
            staging.release()
            found = recording.read([frame.letterbox for frame in frames])
            ended = time.perf_counter()
            device = recording.stage_ms(before)
        assert tuple(device) == STAGES
        times = {"stage": (staged - at_stage) * 1e3, **device, "read": (ended - waited) * 1e3}
        return found, {**times, "total": (ended - began) * 1e3}

    def prepare(self, batch: int, input_hw: tuple[int, int], options: DetectOptions) -> None:
        """Make ready for runs of a batch on a canvas."""
        self._recording(input_hw, batch, options)

    def network(self, batch: int, input_hw: tuple[int, int]) -> Callable[[], None]:
        """A function that runs only the network on whatever lies on its input, and waits for it."""
        plan, calls = self._plan(batch, input_hw), self.calls
        graph = plan.network_graph()

        def run() -> None:
            with calls:
                if graph is None:
                    plan.context.enqueue()
                else:
                    calls.launch(graph)
                calls.wait()

        return run

    def recover(self) -> None:
        """Make it ready again after a batch that was refused half-way."""
        self.stream.sync()
        self._staging.forget()

    def close(self) -> None:
        """Wait for the stream, and give everything back. Closing twice is not an error."""
        with contextlib.suppress(YoloshipError):  # whatever failed was said when it failed
            if not self.stream.is_closed:
                self.stream.sync()
        while self._plans:
            self._plans.popitem()[1].close()
        self._owned.close()

    def _recording(self, input_hw: tuple[int, int], batch: int, options: DetectOptions) -> Recording:
        staging = self._staging
        return self._plan(batch, input_hw).recording(options, staging.tables(batch), staging.front)

    def _plan(self, batch: int, input_hw: tuple[int, int]) -> Plan:
        key = (batch, input_hw)
        plan = self._plans.get(key)
        if plan is None:
            while len(self._plans) >= self._setup.plans:
                last, old = self._plans.popitem(last=False)
                self.ready -= {last}
                old.close()
            with self._setup.model.session.making:
                plan = self._plans[key] = Plan(self._setup.model, self.calls, batch, input_hw)
            self.ready |= {key}
        elif len(self._plans) > 1:
            self._plans.move_to_end(key)
        return plan


class SlotPool:
    """At most a few slots for any number of threads; made when first needed, the last one used is used next.

    Threads wait for two things, so there are two conditions over one lock: takers wait for a slot or for room to make
    one, and closers wait until no slot is out.

    Args:
        make: Makes a slot.
        limit: How many there may be at once.
        model_name: For messages.
    """

    def __init__(self, make: Callable[[], Slot], limit: int, model_name: str) -> None:
        self._make = make
        self._limit = limit
        self._model_name = model_name
        self._idle: list[Slot] = []
        self._used: list[Slot] = []
        self._out = 0
        """Slots in use, being made, or being closed."""
        self._waiting = 0
        """Threads that wait for a slot, or more: to wake none takes time too."""
        self._closed = False
        self._lock = threading.Lock()
        self._free = threading.Condition(self._lock)
        self._back = threading.Condition(self._lock)
        self._pid = os.getpid()

    @property
    def in_this_process(self) -> bool:
        """False in a child forked after it was made: whatever another thread held then stays held there."""
        return os.getpid() == self._pid

    def check_process(self) -> None:
        """Refuse to work in a forked child.

        Raises:
            SessionError: this is one.
        """
        if os.getpid() != self._pid:  # asked for each file
            raise forked(self._model_name)

    def take(self) -> Slot:
        """A slot for the caller alone, who gives it back with `give`, `give_after` or `drop`; waits if all are in use.

        Raises:
            CudaError: a slot cannot be made.
            SessionError: the pool is closed.
        """
        self.check_process()
        with self._lock:
            while True:  # with a condition, Ctrl-C could keep the lock: see `sources.ahead`
                if self._closed or self._idle or self._out < self._limit:
                    break
                self._wait_for_room()
            if self._closed:
                raise SessionError("the detector is closed", subject=self._model_name)
            self._out += 1
            if self._idle:
                return self._lent(self._idle.pop())
        return self._made()

    def take_if(
        self, suits: Callable[[Slot], bool], *, comes: Callable[[], bool] = lambda: False
    ) -> tuple[Slot | None, bool]:
        """A slot that suits, as `take`, and whether the caller waited for it.

        It waits while one that suits is in use, or is about to come. If there is none, it gives None.

        Args:
            suits: Whether a slot does. It is called with the pool's lock.
            comes: Whether another thread makes one that suits; `look_again` is called when it no longer does.

        Raises:
            SessionError: the pool is closed.
        """
        self.check_process()
        waited = False
        with self._lock:
            while True:
                if self._closed:
                    raise SessionError("the detector is closed", subject=self._model_name)
                found = next((slot for slot in reversed(self._idle) if suits(slot)), None)
                if found is not None:
                    self._idle.remove(found)
                    self._out += 1
                    return self._lent(found), waited
                if not comes() and not any(map(suits, self._used)):
                    return None, waited
                waited = True
                self._wait_for_room()

    def take_lacking(self, lacks: Callable[[Slot], bool]) -> Slot | None:
        """A slot that lacks something, as `take`: a new one if there is room; None if no slot lacks it.

        Args:
            lacks: Whether a slot does. It is called with the pool's lock.

        Raises:
            CudaError: a slot cannot be made.
            SessionError: the pool is closed.
        """
        self.check_process()
        with self._lock:
            while not self._closed:
                found = next((slot for slot in self._idle if lacks(slot)), None)
                has_room = self._out + len(self._idle) < self._limit
                if found is not None or has_room:
                    self._out += 1
                    if found is None:
                        break
                    self._idle.remove(found)
                    return self._lent(found)
                if not any(map(lacks, self._used)) and self._out == len(self._used):
                    return None
                self._wait_for_room()
            else:
                raise SessionError("the detector is closed", subject=self._model_name)
        return self._made()

    def slots(self) -> list[Slot]:
        """All slots that have been made."""
        with self._lock:
            return [*self._idle, *self._used]

    def any_lacks(self, lacks: Callable[[Slot], bool]) -> bool:
        """Whether `take_lacking` would give a slot in the end."""
        with self._lock:
            return self._out + len(self._idle) < self._limit or any(map(lacks, [*self._idle, *self._used]))

    def look_again(self) -> None:
        """Wake those who wait in `take_if`: what they wait for may not come any more."""
        with self._lock:
            self._free.notify_all()

    def _lent(self, slot: Slot) -> Slot:
        self._used.append(slot)
        return slot

    def _made(self) -> Slot:
        """A new slot for the caller, who has counted it."""
        try:
            slot = self._make()
        except BaseException:
            self._forget(1)
            raise
        with self._lock:
            return self._lent(slot)

    def give(self, slot: Slot) -> None:
        """Give a slot back."""
        with self._lock:
            self._used.remove(slot)
            self._idle.append(slot)
            self._out -= 1
            if self._closed:
                self._back.notify_all()
            elif self._waiting:
                self._free.notify_all()  # not every slot suits everyone who waits

    def give_after(self, slot: Slot, error: BaseException) -> None:
        """Give back a slot whose batch ended in an error: one that refused its input serves on, any other is closed.

        Raises:
            CudaError: the device failed while the slot was made ready again; the slot is closed.
        """
        if not isinstance(error, InputError):
            self.drop(slot)
            return
        try:
            slot.recover()
        except BaseException:
            self.drop(slot)
            raise
        self.give(slot)

    def drop(self, slot: Slot) -> None:
        """Give back a slot that failed; another is made in its place when needed."""
        with self._lock:
            self._used.remove(slot)
        try:
            with contextlib.suppress(YoloshipError):  # what it failed with says more
                slot.close()
        finally:
            self._forget(1)

    def close(self) -> None:
        """Refuse new takers, wait for slots in use, and close all. Closing twice is not an error.

        Several threads may close at once; each returns when all slots are closed.
        """
        if not self.in_this_process:
            return
        with self._lock:
            self._closed = True
            self._free.notify_all()
            while self._out:
                self._back.wait()
            slots, self._idle = self._idle, []
            self._out = len(slots)
        try:
            with ExitStack() as stack:
                for slot in slots:
                    stack.callback(slot.close)
        finally:
            self._forget(len(slots))

    def _wait_for_room(self) -> None:
        self._waiting += 1
        try:
            self._free.wait()
        except BaseException:
            self._free.notify()  # it may have been woken for a slot that another thread must take now
            raise
        finally:
            self._waiting -= 1

    def _forget(self, slots: int) -> None:
        """Count slots as gone."""
        with self._lock:
            self._out -= slots
            self._free.notify_all()
            if self._closed:
                self._back.notify_all()
