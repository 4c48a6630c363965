"""A client that sends requests when they are due, whether or not the ones before have their answers.

It is one thread over sockets that do not block, because it runs on the server's cores: what it takes, they lack. A
request costs it about 0.03 ms and the copy of its body.
"""

from __future__ import annotations

import heapq
import random
import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_RETRY_S: Final = 0.05


@dataclass(slots=True)
class Tally:
    """What became of the requests: milliseconds from when each was due to the end of its answer, by status.

    Attributes:
        latencies_ms: By status; 0 is a connection that failed.
        in_time: Answers with status 200 that came while requests were sent, and not from the queue afterwards.
        from_sent_ms: By status, from when each was sent, without the time that the client itself was late.
        late_ms: From when each was due to when it was sent.
        seconds: How long requests were sent.
        cpu_s: Seconds of a processor that the client took.
    """

    latencies_ms: dict[int, list[float]] = field(default_factory=dict)
    in_time: int = 0
    from_sent_ms: dict[int, list[float]] = field(default_factory=dict)
    late_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0

    def count(self, status: int) -> int:
        """Answers of this status."""
        return len(self.latencies_ms.get(status, ()))

    @property
    def counts(self) -> dict[int, int]:
        """Answers by status."""
        return {status: len(times) for status, times in sorted(self.latencies_ms.items())}

    def percentile(self, share: float, status: int = 200) -> float:
        """Milliseconds within which this share of the answers came."""
        return percentile(self.latencies_ms.get(status, []), share)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed; NaN of none."""
    ordered = sorted(values) or [float("nan")]
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer; status 0 is a connection that failed. `head` is its head in lower case."""

    number: int
    due_s: float
    sent_s: float
    status: int
    body: bytes
    head: bytes = b""


class _Connection:
    """A connection, and the request on it."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.rest = memoryview(b"")
        self.said = bytearray()
        self.number, self.due_s, self.sent_s, self.is_waiting, self.ends = 0, 0.0, 0.0, False, False

    def begin(self, data: bytes, number: int, due_s: float) -> None:
        self.rest, self.number, self.due_s, self.is_waiting = memoryview(data), number, due_s, True
        self.sent_s = time.monotonic()
        self.write()

    def write(self) -> None:
        with suppress(BlockingIOError):
            self.rest = self.rest[self.sock.send(self.rest) :]

    def failed(self) -> Answered:
        return Answered(self.number, self.due_s, self.sent_s, 0, b"")

    def read(self) -> Answered | None:
        """The answer, if it is whole."""
        part = self.sock.recv(1 << 16)
        if not part:
            raise ConnectionResetError("ended by the server")
        self.said += part
        end = self.said.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self.said[:end]).lower()
        length = int(head.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        if len(self.said) < end + 4 + length:
            return None
        self.ends = b"\r\nconnection: close" in head
        body = bytes(self.said[end + 4 :])
        answer = Answered(self.number, self.due_s, self.sent_s, int(head.split()[1]), body, head)
        self.said.clear()
        self.is_waiting = False
        return answer


class Client:
    """Requests under way on connections that are kept and used again.

    Args:
        port: At 127.0.0.1.
        path: The address that images are sent to.
        bodies: The images, which are sent in turn.
    """

    def __init__(self, port: int, path: str, bodies: Sequence[bytes]) -> None:
        self._port = port
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: "
        self._requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._idle: deque[_Connection] = deque()
        self._selector = selectors.DefaultSelector()
        self._failed: list[Answered] = []
        self.under_way = 0

    def send(self, number: int, due_s: float) -> None:
        """Send the image of this number."""
        self.under_way += 1
        connection = None
        try:
            if self._idle:
                connection = self._idle.popleft()  # in turn: the last one free may be that of a process that is full
            else:
                connection = _Connection(self._port)
                self._selector.register(connection.sock, selectors.EVENT_READ, connection)
            connection.begin(self._requests[number % len(self._requests)], number, due_s)
            if connection.rest:
                self._selector.modify(connection.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
        except OSError:
            self._failed.append(Answered(number, due_s, due_s, 0, b""))
            if connection is not None:
                self._end(connection)

    def poll(self, wait_s: float) -> list[Answered]:
        """The answers that came, after waiting for one."""
        answers, self._failed = self._failed, []
        for key, events in self._selector.select(0 if answers else max(wait_s, 0)):
            connection: _Connection = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    connection.write()
                    if not connection.rest:
                        self._selector.modify(connection.sock, selectors.EVENT_READ, connection)
                answer = connection.read() if events & selectors.EVENT_READ else None
                is_free = not connection.is_waiting and not connection.rest
                if connection.ends:
                    self._end(connection)
                elif is_free:
                    self._idle.append(connection)
            except OSError:
                answer = connection.failed() if connection.is_waiting else None
                self._end(connection)
            if answer is not None:
                answers.append(answer)
        self.under_way -= len(answers)
        return answers

    def _end(self, connection: _Connection) -> None:
        self._selector.unregister(connection.sock)
        connection.sock.close()
        if connection in self._idle:
            self._idle.remove(connection)

    def renew(self) -> None:
        """End the connections on which nothing is under way."""
        for connection in tuple(self._idle):
            self._end(connection)

    def close(self) -> None:
        """End all connections."""
        for key in tuple(self._selector.get_map().values()):
            self._end(key.data)
        self._selector.close()


def load(client: Client, rate: float, seconds: float, seed: int | None = 0) -> Tally:
    """Send images at their times, and wait for all answers.

    Args:
        client: Sends.
        rate: Images a second, in the mean.
        seconds: How long.
        seed: Of random times (Poisson); None sends at even times.
    """
    tally, chance = Tally(), random.Random(seed)
    cpu_s, begun = time.process_time(), time.monotonic()
    due, number = begun, 0
    while due < begun + seconds or client.under_way:
        now = time.monotonic()
        while due <= now and due < begun + seconds:
            client.send(number, due)
            tally.late_ms.append((time.monotonic() - due) * 1e3)
            number += 1
            due += 1 / rate if seed is None else chance.expovariate(rate)
        for answer in client.poll(due - time.monotonic() if due < begun + seconds else 1.0):
            now = time.monotonic()
            tally.latencies_ms.setdefault(answer.status, []).append((now - answer.due_s) * 1e3)
            tally.from_sent_ms.setdefault(answer.status, []).append((now - answer.sent_s) * 1e3)
            tally.in_time += answer.status == 200 and now < begun + seconds
    tally.seconds, tally.cpu_s = seconds, time.process_time() - cpu_s
    return tally


def closed(
    client: Client, at_once: int, is_over: Callable[[int], bool], check: Callable[[Answered], None] = lambda _: None
) -> Tally:
    """Send the next image as soon as an answer comes, on this many connections. What fails is sent again.

    Args:
        client: Sends.
        at_once: Requests under way.
        is_over: Whether no more are sent, from how many were.
        check: Called with each answer.
    """
    tally, number = Tally(), at_once
    cpu_s, begun = time.process_time(), time.monotonic()
    again: deque[tuple[float, int]] = deque()
    for first in range(at_once):
        client.send(first, begun)
    while client.under_way or again:
        while again and again[0][0] <= time.monotonic():
            client.send(again.popleft()[1], time.monotonic())
        for answer in client.poll(again[0][0] - time.monotonic() if again else 1.0):
            now = time.monotonic()
            tally.latencies_ms.setdefault(answer.status, []).append((now - answer.due_s) * 1e3)
            check(answer)
            if answer.status != 200:
                again.append((now + _RETRY_S, answer.number))
            elif not is_over(number):
                client.send(number, now)
                number += 1
    tally.seconds, tally.cpu_s = time.monotonic() - begun, time.process_time() - cpu_s
    return tally


def for_seconds(seconds: float) -> Callable[[int], bool]:
    """Ends a closed loop after this time."""
    end = time.monotonic() + seconds
    return lambda _: time.monotonic() >= end


def perfect(servers: int, share: float, load: float = 0.7, images: int = 200_000) -> float:
    """What no server can do better: the time within which this share of the answers comes, of one that never waits.

    Images come at random times (Poisson) to servers that take the same time for each, one image at a time, in turn: the
    queue M/D/c.

    Args:
        servers: Images at the same time.
        share: Of the answers.
        load: Images that come, of those that the servers can take.
        images: How many are simulated.
    """
    chance, free, now = random.Random(1), [0.0] * servers, 0.0
    times = []
    for _ in range(images):
        now += chance.expovariate(load * servers)
        ended = max(now, free[0]) + 1
        heapq.heapreplace(free, ended)
        times.append(ended - now)
    return percentile(times, share)
