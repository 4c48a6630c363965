"""A client that sends requests when they are due, whether or not the ones before have their answers."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class Tally:
    """What became of the requests: milliseconds from when each was due to the end of its answer, by status."""

    latencies_ms: dict[int, list[float]] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, status: int, latency_s: float, body: bytes) -> None:
        """Count an answer; status 0 is a connection that failed."""
        self.latencies_ms.setdefault(status, []).append(latency_s * 1e3)
        self.bodies.setdefault(status, body)

    def count(self, status: int) -> int:
        """Answers of this status."""
        return len(self.latencies_ms.get(status, ()))

    @property
    def counts(self) -> dict[int, int]:
        """Answers by status."""
        return {status: len(times) for status, times in sorted(self.latencies_ms.items())}

    def percentile(self, share: float, status: int = 200) -> float:
        """Milliseconds within which this share of the answers came."""
        times = sorted(self.latencies_ms.get(status, [float("nan")]))
        return times[min(int(share * len(times)), len(times) - 1)]


class Client:
    """Connections that are kept and used again."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Send an image; the status and the body of the answer."""
        lines = ("Host: localhost", "Content-Type: image/jpeg", f"Content-Length: {len(body)}", "", "")
        head = "\r\n".join((f"POST {self._path} HTTP/1.1", *lines))
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(head.encode() + body)
            said = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in said[1:])}
            answer = await reader.readexactly(int(headers["content-length"]))
        except BaseException:
            writer.close()
            raise
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(said[0].split()[1]), answer

    def close(self) -> None:
        """End all connections."""
        while self._idle:
            self._idle.pop()[1].close()


async def load(client: Client, bodies: Sequence[bytes], rate: float, seconds: float, seed: int = 0) -> Tally:
    """Send images at random times (Poisson) with this mean rate."""
    tally, chance, tasks = Tally(), random.Random(seed), set()
    loop = asyncio.get_running_loop()
    begun = due = loop.time()

    async def one(at: float, body: bytes) -> None:
        try:
            status, answer = await client.post(body)
        except (OSError, asyncio.IncompleteReadError):
            status, answer = 0, b""
        tally.add(status, loop.time() - at, answer)

    number = 0
    while due < begun + seconds:
        wait_s = due - loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        task = asyncio.ensure_future(one(due, bodies[number % len(bodies)]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
        due += chance.expovariate(rate)
    tally.seconds = loop.time() - begun
    await asyncio.gather(*tasks)
    return tally


async def closed(client: Client, bodies: Sequence[bytes], at_once: int, seconds: float) -> Tally:
    """Send the next image as soon as an answer comes, from this many clients."""
    tally, end = Tally(), time.monotonic() + seconds

    async def one(place: int) -> None:
        number = place
        while time.monotonic() < end:
            started = time.monotonic()
            status, answer = await client.post(bodies[number % len(bodies)])
            tally.add(status, time.monotonic() - started, answer)
            number += at_once

    begun = time.monotonic()
    await asyncio.gather(*map(one, range(at_once)))
    tally.seconds = time.monotonic() - begun
    return tally
