"""A server as numbers: what it can answer, how many are needed, and a simulation of it event by event.

The simulation drives the server's own classes, so that it follows them when they change: `ModelHost.take` says how many
images are under way, `Admission` refuses, `RunCost` learns what runs cost, and `Batcher` chooses which images run
together. Only time, arrivals and the work itself are simulated.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import numpy as np

from yoloship.detect.batching import Batcher
from yoloship.serve.cost import RunCost
from yoloship.serve.engine import Loaded, ModelHost
from yoloship.serve.errors import BusyError
from yoloship.serve.settings import RequestLimits, ServedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SHARE = 0.99
"""Of the images, how many must have their answer within the target."""
MOST_LOAD = 0.9
"""Of what a server can answer, the most that any rule plans for: its measured cost is never exact."""


@dataclass(frozen=True)
class Server:
    """What `GET /v1/models/NAME` and `/metrics` say of a server, and its options.

    Attributes:
        per_image_s: a of a·n + b.
        per_run_s: b.
        batches: Possible images of a run.
        runs: Runs at the same time.
        cores: Cores that it may use; as many images are decoded at the same time, at least 2.
        decode_s: Mean seconds to decode an image.
        deadline_s: ``--deadline``.
        queue: ``--queue``.
    """

    per_image_s: float
    per_run_s: float
    batches: tuple[int, ...] = (1,)
    runs: int = 2
    cores: int = 2
    decode_s: float = 0.005
    deadline_s: float = 10.0
    queue: int | None = None

    def host(self) -> ModelHost:
        """The server's own object for a model, with a detector of these costs."""
        cost = RunCost()
        for images in (1, 2 * self.batches[-1]):
            for _ in range(100):
                cost.add(images, self.per_image_s * images + self.per_run_s)
        closing: Any = SimpleNamespace(close=lambda: None)
        detector: Any = SimpleNamespace(parallel_runs=self.runs, batches=self.batches, close=lambda: None)
        limits = RequestLimits(deadline_s=self.deadline_s, queue=self.queue)
        host = ModelHost(ServedModel("m", "m"), limits, cast("Any", None))
        with mock.patch("yoloship.serve.engine.usable_cores", return_value=self.cores):
            host.take(Loaded(detector, closing, cost))
        return host

    @property
    def readers(self) -> int:
        """Images that are decoded at the same time."""
        return max(2, self.cores)

    @cached_property
    def batch(self) -> int:
        """Images of a run under load."""
        return self.host().batch

    @cached_property
    def room(self) -> int:
        """Images that may wait or run."""
        return self.host().admission.room

    @cached_property
    def slots(self) -> int:
        """Images that are decoded, wait for a run or run."""
        return self.host()._slots._value

    def run_s(self, images: int) -> float:
        """Seconds of a run."""
        return self.per_image_s * images + self.per_run_s

    @property
    def rate(self) -> float:
        """Images a second at most: of the runs, or of the cores that decode."""
        return min(self.runs * self.batch / self.run_s(self.batch), self.readers / self.decode_s)

    @property
    def base_s(self) -> float:
        """Seconds of an image that waits for nothing but the run before its own."""
        return self.decode_s + self.run_s(self.batch) * (2 if self.batch > 1 else 1)


@dataclass(frozen=True)
class Wanted:
    """What is asked of the servers.

    Attributes:
        p99_s: Seconds within which 99 of 100 answers must come.
        refused: The share of images that may get 429 and be sent again.
        images_per_request: Images that arrive together.
    """

    p99_s: float = 0.5
    refused: float = 1e-6
    images_per_request: int = 1


def most_load(server: Server, wanted: Wanted) -> float:
    """The share of its rate that a server may get: 1 − I·L / 2x, for both limits of x; see docs/capacity.md.

    Raises:
        ValueError: the target is shorter than what an image takes alone, or the room too small.
    """
    in_time = (wanted.p99_s - server.base_s) * server.rate
    in_room = min(server.room, server.deadline_s * server.rate) - server.runs * server.batch
    burst = wanted.images_per_request
    shares = [
        1 - burst * math.log(1 / rest) / (2 * x) if x > 0 else 0.0
        for x, rest in ((in_time, 1 - SHARE), (in_room, wanted.refused))
    ]
    if min(shares) <= 0.1:
        what = "the target is too short" if shares[0] == min(shares) else "the room (--queue) is too small"
        raise ValueError(f"{what}: {in_time:.0f} images may wait for {wanted.p99_s * 1e3:.0f} ms, {in_room:.0f} at all")
    return min(*shares, MOST_LOAD)


def servers_needed(server: Server, rate: float, wanted: Wanted) -> int:
    """Servers for this many images a second at the peak, without any to spare."""
    return math.ceil(rate / (most_load(server, wanted) * server.rate) - 1e-9)


def cameras_per_server(server: Server, fps: float, wanted: Wanted) -> int:
    """Cameras that one server takes, each with its own fixed rate and a moment of its own.

    Like any images; or, if that is more, as many as may wait if all of them send at the same moment.
    """
    as_any = most_load(server, wanted) * server.rate / fps
    at_once = min((wanted.p99_s - server.base_s) * server.rate, server.room)
    together = min(at_once, MOST_LOAD * server.rate / fps)
    return math.floor(max(as_any, together) + 1e-9)


@dataclass(slots=True)
class Outcome:
    """What became of images.

    Attributes:
        latencies_s: Of the answered ones.
        refused: Images that got 429.
        late: Images whose deadline passed.
        runs: Images of each run.
    """

    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    late: int = 0
    runs: list[int] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the answers came."""
        return float(np.quantile(self.latencies_s, share, method="higher")) if self.latencies_s else math.inf

    def is_good(self, wanted: Wanted) -> bool:
        """Whether it is what was wanted."""
        images = len(self.latencies_s) + self.refused + self.late
        return self.percentile(SHARE) <= wanted.p99_s and self.refused + self.late <= wanted.refused * images


@dataclass(slots=True, eq=False)
class _Asked:
    """A request; its permit ends with its last image."""

    came_s: float
    permit: Any
    left: int


class _Image:
    """An image of a request, with what `Batcher` asks of one."""

    __slots__ = ("request",)
    letterbox: Any = SimpleNamespace(input_hw=(640, 640))

    def __init__(self, request: _Asked) -> None:
        self.request = request


class _Simulated:
    """One server on the simulation's clock."""

    def __init__(self, server: Server, work: Callable[[int], tuple[float, float]], outcome: Outcome) -> None:
        self._work, self._outcome, self._deadline_s = work, outcome, server.deadline_s
        self.host = server.host()
        self._slots = self.host._slots._value
        self._readers, self._runs = server.readers, server.runs
        run: Any = None
        waiting = 4 * server.runs * server.batches[-1] + self._slots
        self._batcher = Batcher(run, threads=0, sizes=server.batches, waiting=waiting, model_name="m")
        self._waiting: deque[_Image] = deque()
        self._to_read: deque[_Image] = deque()

    def arrive(self, now_s: float, images: int) -> list[tuple[float, Callable[[float], Any]]]:
        """A request comes; the events that follow."""
        permit = self.host.admission.permit(images, self._deadline_s)
        try:
            permit.__enter__()
        except BusyError:
            self._outcome.refused += images
            return []
        request = _Asked(now_s, permit, images)
        self._waiting.extend(_Image(request) for _ in range(images))
        return self._read(now_s)

    def _read(self, now_s: float) -> list[tuple[float, Callable[[float], Any]]]:
        while self._slots and self._waiting:
            image = self._waiting.popleft()
            if now_s - image.request.came_s > self._deadline_s:
                self._outcome.late += 1
                self._done(image)
                continue
            self._slots -= 1
            self._to_read.append(image)
        events = []
        while self._readers and self._to_read:
            self._readers -= 1
            image = self._to_read.popleft()
            events.append((now_s + self._work(0)[0], lambda then_s, one=image: self._was_read(then_s, one)))
        return events

    def _was_read(self, now_s: float, image: _Image) -> list[tuple[float, Callable[[float], Any]]]:
        self._readers += 1
        self._batcher.submit(cast("Any", image), cast("Any", None))
        return [*self._run(now_s), *self._read(now_s)]

    def _run(self, now_s: float) -> list[tuple[float, Callable[[float], Any]]]:
        events = []
        while self._runs and self._batcher._waiting:
            requests = self._batcher._next()
            self._runs -= 1
            seconds = self._work(len(requests))[1]
            images = [cast("_Image", request.image) for request in requests]
            events.append((now_s + seconds, lambda then_s, some=images, took=seconds: self._ran(then_s, some, took)))
        return events

    def _ran(self, now_s: float, images: list[_Image], took_s: float) -> list[tuple[float, Callable[[float], Any]]]:
        self._runs += 1
        events = self._run(now_s)
        self._outcome.runs.append(len(images))
        for image in images:
            self.host.loaded.cost.add(len(images), took_s)
            self._slots += 1
            self._done(image)
            self._outcome.latencies_s.append(now_s - image.request.came_s)
        return [*events, *self._read(now_s)]

    def _done(self, image: _Image) -> None:
        image.request.left -= 1
        if not image.request.left:
            image.request.permit.__exit__(None, None, None)


def simulate(
    server: Server,
    servers: int,
    arrivals: Iterable[tuple[float, int, int]],
    *,
    work: Callable[[int], tuple[float, float]] | None = None,
) -> Outcome:
    """Simulate servers event by event.

    Args:
        server: What each of them is.
        servers: How many.
        arrivals: When a request comes in seconds, ascending, how many images it has, and which server gets it; -1
            is the one with the fewest images under way.
        work: Seconds to decode an image and of a run of n images; None takes the server's means.
    """
    outcome = Outcome()
    fixed = work or (lambda images: (server.decode_s, server.run_s(images)))
    fleet = [_Simulated(server, fixed, outcome) for _ in range(servers)]
    events: list[tuple[float, int, Callable[[float], Any]]] = []
    order = itertools.count()

    def later(new: Iterable[tuple[float, Callable[[float], Any]]]) -> None:
        for at_s, action in new:
            heapq.heappush(events, (at_s, next(order), action))

    for at_s, images, place in arrivals:
        while events and events[0][0] <= at_s:
            then_s, _, action = heapq.heappop(events)
            later(action(then_s))
        chosen = fleet[place] if place >= 0 else min(fleet, key=lambda one: one.host.admission.held)
        later(chosen.arrive(at_s, images))
    while events:
        then_s, _, action = heapq.heappop(events)
        later(action(then_s))
    return outcome


def poisson(rate: float, seconds: float, servers: int, seed: int, images: int = 1) -> list[tuple[float, int, int]]:
    """Requests at random times, each for a server by chance."""
    chance = np.random.default_rng(seed)
    count = chance.poisson(rate / images * seconds)
    times, places = np.sort(chance.uniform(0, seconds, count)), chance.integers(servers, size=count)
    return [(at_s, images, place) for at_s, place in zip(times.tolist(), places.tolist(), strict=True)]


def cameras(number: int, fps: float, seconds: float, servers: int, seed: int) -> list[tuple[float, int, int]]:
    """Cameras of a fixed rate, each with its own moment, and each with a server that it keeps."""
    chance = np.random.default_rng(seed)
    phases = chance.uniform(0, 1 / fps, number)
    times = phases[:, None] + np.arange(math.floor(seconds * fps)) / fps
    places = np.broadcast_to(np.arange(number)[:, None] % servers, times.shape)
    order = np.argsort(times, axis=None, kind="stable")
    return [
        (at_s, 1, place)
        for at_s, place in zip(times.ravel()[order].tolist(), places.ravel()[order].tolist(), strict=True)
    ]


def fewest(is_enough: Callable[[int], bool], upper: int) -> int:
    """The smallest number of servers that is enough, if `upper` is."""
    low, high = 1, upper
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return high
