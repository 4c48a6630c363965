"""How many servers are needed: the rule of docs/capacity.md, and simulations that check it.

    python bench/simulate_capacity.py plan --per-image-ms 35 --decode-ms 7 --a-day 1e7 --peak 2 --p99-ms 500
    python bench/simulate_capacity.py plan --per-image-ms 35 --decode-ms 7 --cameras 64 --fps 5
    python bench/simulate_capacity.py check
    python bench/simulate_capacity.py day --a-day 1e9
    python bench/simulate_capacity.py measure MODEL.onnx PHOTO.jpg

`plan` gives the rule's answer and simulates it. `check` compares the rule with the fewest servers that simulations
find, for many demands. `day` simulates each image of a day. `measure` starts `yoloship serve`, reads what a user would
read, and compares its answers under load with the simulation of the same arrivals.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _fleet import Counted, Day, simulate_rows
from _server_model import (
    SHARE,
    Outcome,
    Server,
    Wanted,
    cameras,
    cameras_per_server,
    fewest,
    most_load,
    poisson,
    servers_needed,
    simulate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SMALL = Server(0.035, 0.0, (1,), runs=2, cores=2, decode_s=0.007)
"""Two cores and yolov5n at 640, as measured under full load (bench/results/capacity-2026-11-28.md)."""
GPU = Server(0.0016, 0.002, (1, 4, 16, 32), runs=4, cores=16, decode_s=0.006)
"""Assumed, not measured: about the images a second that `stream` reached on an H100 from arrays, and 16 cores."""


@dataclass(frozen=True)
class Case:
    """Something to plan for.

    Attributes:
        name: What it is.
        server: The servers.
        wanted: What is asked of them.
        rate: Images a second at the peak.
        day: The rate over time; None is the peak all the time.
        seconds: How long.
        fps: Of each camera; 0 if there are none.
        exact: Images to simulate event by event, with the server's own classes; 0 simulates in arrays.
        least: Whether the dispatcher chooses the server with the fewest images under way, not by chance.
    """

    name: str
    server: Server
    wanted: Wanted
    rate: float
    day: Day | None = None
    seconds: float = 0.0
    fps: float = 0.0
    exact: int = 0
    least: bool = False

    @property
    def by_rule(self) -> int:
        """Servers by the rule."""
        if self.fps:
            return math.ceil(self.rate / self.fps / cameras_per_server(self.server, self.fps, self.wanted))
        return servers_needed(self.server, self.rate, self.wanted)

    def simulated(self, servers: int, images: float = 6e6) -> Outcome | Counted:
        """What happens with so many servers."""
        if not self.exact:
            seconds = self.seconds or images / self.rate
            return simulate_rows(self.server, self.day or Day.steady(self.rate, seconds), seconds, servers)
        seconds = self.exact / self.rate
        if self.fps:
            arrivals = cameras(round(self.rate / self.fps), self.fps, seconds, servers, seed=1)
        else:
            arrivals = poisson(self.rate, seconds, servers, 1, self.wanted.images_per_request)
        if self.least:
            arrivals = [(at_s, count, -1) for at_s, count, _ in arrivals]
        return simulate(self.server, servers, arrivals)


def squares(mean: float, seconds: float) -> Day:
    """One second of 1.5 times the mean, one of half of it, and so on."""
    times_s = np.arange(-3600.0, seconds + 3600)
    rate = mean * np.where(np.arange(times_s.size - 1) % 2 == 0, 1.5, 0.5)
    expected = np.concatenate([[0.0], np.cumsum(rate)])
    return Day(times_s, expected - np.interp(0, times_s, expected))


def cases() -> list[Case]:
    """Demands of many kinds."""
    half, fifth, tenth = Wanted(0.5), Wanted(0.2), Wanted(0.1)
    wide = replace(SMALL, queue=128)
    found = [
        Case("100 a second, p99 500 ms", SMALL, half, 100),
        Case("100 a second, p99 200 ms", SMALL, fifth, 100),
        Case("1,000 a second, p99 500 ms", SMALL, half, 1000),
        Case("the same, --queue 128", wide, half, 1000),
        Case("the same, least connections, event by event", wide, half, 1000, exact=300_000, least=True),
        Case("200 a second in requests of 8, p99 1 s, --queue 128", wide, Wanted(1, 1e-6, 8), 200, exact=300_000),
        Case("64 cameras at 5 a second, p99 500 ms", SMALL, half, 320, fps=5, exact=300_000),
        Case("64 cameras at 10 a second, p99 500 ms", SMALL, half, 640, fps=10, exact=300_000),
        Case("1,000 cameras at 1 a second, p99 500 ms", SMALL, half, 1000, fps=1, exact=300_000),
        Case("a second of 1,500, a second of 500, …, --queue 128", wide, half, 1500, squares(1000, 6000), 6000),
        Case("10,000 a second, p99 100 ms, GPU", GPU, tenth, 10_000),
        Case("10,000 a second, p99 80 ms, GPU", GPU, Wanted(0.08), 10_000),
    ]
    for number in (1e6, 1e7, 1e8):
        day = Day.diurnal(number, 2)
        name = f"{number:,.0f} a day, the peak twice the mean, --queue 128"
        found.append(Case(name, wide, half, 2 * number / 86400, day, 86400.0))
    return found


def row(name: str, case: Case, servers: int, found: Outcome | Counted) -> str:
    """One line of the table."""
    if isinstance(found, Counted):
        refused, images = found.without_room, found.images
    else:
        refused, images = found.refused + found.late, len(found.latencies_s) + found.refused + found.late
    load, p99_ms = case.rate / servers / case.server.rate, found.percentile(SHARE) * 1e3
    return f"{name} {servers:6d}  load {load:4.2f} at the peak  p99 {p99_ms:6.0f} ms  429: {refused} of {images:,}"


def check(options: argparse.Namespace) -> None:
    """For each case: the rule's number, and the fewest that are enough in a simulation, and one fewer than those."""
    for case in cases():
        if options.only not in case.name:
            continue
        begun = time.monotonic()
        number = case.by_rule
        print(f"\n{case.name}", flush=True)
        found = case.simulated(number)
        verdict = "enough" if found.is_good(case.wanted) else "NOT ENOUGH"
        print(row("  by the rule     ", case, number, found), verdict, flush=True)
        known: dict[int, Outcome | Counted] = {number: found}

        def is_enough(servers: int, case: Case = case, known: dict[int, Any] = known) -> bool:
            if servers < case.rate / case.server.rate * (0.5 if case.day else 0.98):
                return False
            known[servers] = case.simulated(servers)
            return bool(known[servers].is_good(case.wanted))

        least = fewest(is_enough, number)
        if least < number:
            print(row("  fewest simulated", case, least, known[least]), flush=True)
        if least > 1:
            fewer = known.get(least - 1) or case.simulated(least - 1)
            print(row("  one fewer       ", case, least - 1, fewer), "not enough", flush=True)
        print(f"  rule / fewest {number / least:.2f}; {time.monotonic() - begun:.0f} s", flush=True)


def day(options: argparse.Namespace) -> None:
    """Each image of a day."""
    for name, server, wanted in (("CPU", replace(SMALL, queue=128), Wanted(0.5)), ("GPU", GPU, Wanted(0.1))):
        if options.only and options.only != name:
            continue
        peak = options.peak * options.a_day / 86400
        number = servers_needed(server, peak, wanted)
        case = Case(name, server, wanted, peak)
        for servers in (number, math.floor(number * options.fewer)) if options.fewer else (number,):
            begun = time.monotonic()
            shape = Day.diurnal(options.a_day, options.peak)
            found = simulate_rows(server, shape, 86400.0, servers, rows=16_000, progress=_bar)
            verdict = "enough" if found.is_good(wanted) else "not enough"
            print(row(f"\r{name}", case, servers, found), verdict, end="")
            print(f"; {found.images / found.runs:.2f} images a run; {time.monotonic() - begun:.0f} s", flush=True)


def _bar(share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{share:4.0%}", end="", file=sys.stderr)


def plan(options: argparse.Namespace) -> None:
    """The rule's answer for what the command line says, and its simulation."""
    batches = tuple(sorted(options.batches))
    server = Server(
        options.per_image_ms / 1e3, options.per_run_ms / 1e3, batches, options.runs, options.cores,
        options.decode_ms / 1e3, options.deadline, options.queue,
    )  # fmt: skip
    wanted = Wanted(options.p99_ms / 1e3, options.refused, options.images_per_request)
    rate = options.cameras * options.fps or options.rate or options.peak * options.a_day / 86400
    exact = 300_000 if options.cameras or options.images_per_request > 1 else 0
    case = Case("plan", server, wanted, rate, fps=options.fps if options.cameras else 0, exact=exact)
    try:
        number, share = case.by_rule, most_load(server, wanted)
    except (ValueError, ZeroDivisionError) as error:
        raise SystemExit(f"error: {error}") from error
    most = f"one server answers {server.rate:.1f} images a second at most, {server.batch} a run"
    print(f"{most}, and has room for {server.room}")
    print(f"the rule loads it with {share:.2f} of that")
    print(f"{rate:,.1f} images a second at the peak need {number} servers; with one to spare {number + 1}")
    print(row("simulated:", case, number, case.simulated(number)))


def measure(options: argparse.Namespace) -> None:
    """A real server beside its simulation."""
    import httpx
    from _open_loop import Answered, Client, closed, for_seconds, load
    from serve_load import PATH, server

    class Timed(Client):
        """Keeps what the server says of its times."""

        heads: list[bytes]

        def poll(self, wait_s: float) -> list[Answered]:
            answers = super().poll(wait_s)
            self.heads += [answer.head for answer in answers if answer.status == 200]
            return answers

    body = [Path(options.photo).read_bytes()]
    for number in range(options.rounds):
        with server(Path(options.model)) as (port, _):
            client = Timed(port, PATH, body)
            client.heads = []
            full = closed(client, 8, for_seconds(options.seconds))
            said = httpx.get(f"http://127.0.0.1:{port}/v1/models/m").json()
            served, times = full.count(200) / full.seconds, _times(client.heads)
            cost, under, decode_s = said["run_ms"], said["under_load"], float(times[:, 0].mean())
            print(
                f"round {number}: a {cost['per_image']:.1f} ms, b {cost['per_run']:.1f} ms, decode {decode_s * 1e3:.1f}"
                f" ms; says {under['images_per_second']} images a second, answered {served:.1f}; "
                f"system load {os.getloadavg()[0]:.1f}"
            )
            one = Server(
                cost["per_image"] / 1e3, cost["per_run"] / 1e3, tuple(said["batches"]), under["runs_at_once"],
                len(os.sched_getaffinity(0)), decode_s,
            )  # fmt: skip
            for share in options.loads:
                rate = share * served
                client.heads.clear()
                tally = load(client, rate, options.seconds, seed=number)
                arrivals = _same_arrivals(rate, options.seconds, number)
                by_full = simulate(one, 1, arrivals, work=_drawn(times, number))
                by_own = simulate(one, 1, arrivals, work=_drawn(_times(client.heads), number))
                words = [
                    f"  load {share:4.2f}",
                    _said("measured", tally.percentile(0.5), tally.percentile(0.99), tally.count(429)),
                    _said("simulated", by_full.percentile(0.5) * 1e3, by_full.percentile(0.99) * 1e3, by_full.refused),
                    _said(
                        "by its own runs", by_own.percentile(0.5) * 1e3, by_own.percentile(0.99) * 1e3, by_own.refused
                    ),
                ]
                print("  | ".join(words), flush=True)
            client.close()


def _said(name: str, p50_ms: float, p99_ms: float, refused: int) -> str:
    return f"{name} p50 {p50_ms:5.0f} p99 {p99_ms:5.0f} ms, 429: {refused:3d}"


def _times(heads: Sequence[bytes]) -> Any:
    """(N, 2) seconds: decoding and the run, from Server-Timing."""
    found = [re.findall(rb"(?:decode|network);dur=([\d.]+)", head) for head in heads]
    return np.array([[float(one) for one in pair] for pair in found]) / 1e3


def _drawn(times: Any, seed: int) -> Callable[[int], tuple[float, float]]:
    """Times that were measured, drawn by chance."""
    chance = random.Random(seed)
    pairs = times.tolist()
    return lambda _: (chance.choice(pairs)[0], chance.choice(pairs)[1])


def _same_arrivals(rate: float, seconds: float, seed: int) -> list[tuple[float, int, int]]:
    """The arrivals of `_open_loop.load`."""
    chance, due, found = random.Random(seed), 0.0, []
    while due < seconds:
        found.append((due, 1, 0))
        due += chance.expovariate(rate)
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    one = modes.add_parser("plan")
    for name, kind, default in (
        ("per-image-ms", float, None), ("per-run-ms", float, 0.0), ("decode-ms", float, 5.0), ("runs", int, 2),
        ("cores", int, 2), ("deadline", float, 10.0), ("queue", int, None), ("rate", float, 0.0), ("a-day", float, 0.0),
        ("peak", float, 2.0), ("cameras", int, 0), ("fps", float, 0.0), ("p99-ms", float, 500.0),
        ("refused", float, 1e-6), ("images-per-request", int, 1),
    ):  # fmt: skip
        one.add_argument(f"--{name}", type=kind, default=default, required=name == "per-image-ms")
    one.add_argument("--batches", type=int, nargs="+", default=[1])
    two = modes.add_parser("check")
    two.add_argument("--only", default="", help="only the cases whose name has this")
    three = modes.add_parser("day")
    three.add_argument("--a-day", type=float, default=1e9)
    three.add_argument("--peak", type=float, default=2.0)
    three.add_argument("--only", choices=["CPU", "GPU"])
    three.add_argument("--fewer", type=float, default=0.0, help="simulate this share of the servers, too")
    four = modes.add_parser("measure")
    four.add_argument("model")
    four.add_argument("photo")
    four.add_argument("--seconds", type=float, default=15)
    four.add_argument("--rounds", type=int, default=2)
    four.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.7, 0.85])
    options = parser.parse_args()
    {"plan": plan, "check": check, "day": day, "measure": measure}[options.mode](options)


if __name__ == "__main__":
    main()
