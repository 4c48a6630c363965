"""Connections that cost little while idle, and on which refusing a request costs little: `Connection`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    from collections.abc import Sized

    from starlette.responses import Response

    from yoloship.serve.guard import Guard
    from yoloship.serve.settings import RequestLimits

_MAX_HEAD_BYTES: Final = 64 << 10
_MAX_UNREAD_BYTES: Final = 1 << 20
"""Unread bytes of a body. Pausing and resuming takes two system calls, in which other threads take the interpreter."""
_RECEIVED_BYTES: Final = 1 << 20
"""Bytes received at once, so that a photo arrives in one system call instead of several."""
_FIRST_BYTES: Final = 4 << 10
"""Bytes that the parser gets first. It copies them, so it should get little of the body of a refused request."""
_MAX_WAITING: Final = 1000
"""Requests on one connection that wait for the answer to the first one. Each takes a few kB and a few microseconds."""
_SIZES: Final = frozenset({b"content-length", b"transfer-encoding"})


class Connection(HttpToolsProtocol, asyncio.BufferedProtocol):
    """Uvicorn's connection, with limits.

    It ends if the head of a request, or a body that nobody reads, does not arrive in time, if a head is too long, if
    too many requests wait for the answer to the first, or if the client does not take its answers.

    Attributes:
        limits: Seconds for a head and for a body, and connections at the same time.
        guard: Refuses requests from their heads.
        received: What comes is put here, and taken before anything else comes.
    """

    limits: RequestLimits
    guard: Guard
    received: memoryview
    scope: Any  # its type in Uvicorn is not that of Starlette

    @classmethod
    def within(cls, limits: RequestLimits, guard: Guard) -> type[Connection]:
        """The class of the connections of one server."""
        received = memoryview(bytearray(_RECEIVED_BYTES))
        return type("LimitedConnection", (cls,), {"limits": limits, "guard": guard, "received": received})

    def connection_made(self, transport: Any) -> None:
        """Begin, unless there are too many connections."""
        self._timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._heads = self._unwanted_bytes = 0
        self._is_in_request = self._is_last = self._may_refuse = False
        self._head_bytes = 0
        self._joined = _JoinedWrites(transport, self.loop, self.limits.answer_timeout_s)
        super().connection_made(self._joined)  # type: ignore[arg-type]  # it is like a transport
        self.flow = _Flow(self.transport, self.pipeline)
        if len(self.connections) > self.limits.max_connections:
            transport.abort()
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        for timer in (self._timer, self._answer_timer):
            if timer is not None:
                timer.cancel()
        self._joined.is_over = True
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The system's buffer is full: the client must now read the answer in time."""
        super().pause_writing()
        self._answer_timer = self.loop.call_later(self.limits.answer_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read it."""
        super().resume_writing()
        if self._answer_timer is not None:
            self._answer_timer.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - it has room for whatever comes
        """Where the loop puts the next bytes. It calls `buffer_updated` before it reads for any other connection."""
        return self.received

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that arrived. After an answer, they are the rest of its body or the next head, both timed."""
        if self._timer is None and self._is_between() and not self.transport.is_closing():
            self._start_timer()
        self._may_refuse = True
        taken = 0
        while taken < nbytes and not self.transport.is_closing():
            if self._unwanted_bytes:
                taken += self._throw_away(nbytes - taken)
                continue
            end = min(taken + _FIRST_BYTES, nbytes) if self._is_between() else nbytes
            self._head_bytes += end - taken
            self.data_received(self.received[taken:end])  # type: ignore[arg-type]  # the parser takes any buffer
            taken = end
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.transport.abort()

    def _throw_away(self, nbytes: int) -> int:
        """Skip up to this many bytes of a refused body without parsing them, and return how many."""
        self._unset_keepalive_if_required()
        nbytes = min(nbytes, self._unwanted_bytes)
        self._unwanted_bytes -= nbytes
        if not self._unwanted_bytes:
            self.parser = httptools.HttpRequestParser(self)  # the one before still waits for the body
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as Uvicorn does
            self.on_message_complete()
        return nbytes

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_request = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole: refuse the request, or begin with it.

        A request for another protocol gets its answer in this one, and is the last to be answered. Only one request is
        refused from its head in one turn of the loop: of thousands sent at once, the others wait as any request does.
        """
        if self.transport.is_closing():
            return  # what comes behind the last request is not for us
        if len(self.pipeline) >= _MAX_WAITING:
            self.transport.abort()
            return
        self._head_bytes = 0
        self._heads += 1
        asks_for_other = self.parser.should_upgrade()
        if self._may_refuse and self._is_between() and not self.flow.write_paused and not asks_for_other:
            self.scope["method"] = self.parser.get_method().decode("ascii")
            self.scope["path"] = self.url.partition(b"?")[0].decode("latin-1")
            answer = self.guard.refusal(self.scope)
            if answer is not None:
                self._refuse(answer)
                return
        super().on_headers_complete()
        if asks_for_other:
            self.cycle.keep_alive = False

    def _refuse(self, answer: Response) -> None:
        """Answer at once, and discard the body as it arrives.

        A client may send all of it before it reads, so the connection stays open until then, unless the client waits to
        be asked for the body.
        """
        self._may_refuse = False
        lines = [b"%b: %b\r\n" % one for one in (*self.server_state.default_headers, *answer.raw_headers)]
        is_over = b"connection: close\r\n" in lines
        self._is_last = is_over or self.parser.get_http_version() == "1.0" or not self.parser.should_keep_alive()
        if self._is_last and not is_over:
            lines.append(b"connection: close\r\n")
        self._joined.write_now(b"".join((STATUS_LINE[answer.status_code], *lines, b"\r\n", answer.body)))
        if is_over:
            self.transport.close()
        self.on_response_complete()
        sizes = {name: value for name, value in self.headers if name in _SIZES}
        self._unwanted_bytes = int(sizes[b"content-length"]) if sizes.keys() == {b"content-length"} else 0

    def on_body(self, body: bytes) -> None:
        """A part of a body arrived. It is taken in this turn of the loop, so reading seldom has to pause."""
        self._head_bytes = 0
        if self._is_between():
            self._unwanted_bytes = max(self._unwanted_bytes - len(body), 0)
            return
        self.cycle.body += body
        if len(self.cycle.body) > _MAX_UNREAD_BYTES:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The body is whole. If nobody read it, the time for idle connections begins again."""
        self._head_bytes = 0
        self._is_in_request = False
        if not self._is_between():
            super().on_message_complete()
            if not self.pipeline:
                self.guard.note_body(self.scope)
        elif self._is_last:
            self.transport.close()
        elif self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """The answer is whole: it goes out now, not in the loop's next turn, which other threads may delay."""
        self._joined.flush()
        super().on_response_complete()

    def _is_between(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.limits.head_timeout_s, self._end_if_slow, self._heads)

    def _end_if_slow(self, heads: int) -> None:
        """End a connection on which no request began since the timer did, and the last one was answered."""
        self._timer = None
        if not self._is_between() or not (self._is_in_request or not self._heads):
            return  # a request is being answered, or the time for idle connections runs
        if self._heads == heads:
            self.transport.abort()
        else:
            self._start_timer()


class _Flow(FlowControl):
    """Stops reading while complete requests wait. Otherwise each answer would let in more of them than it finishes."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, if no request waits."""
        if not self._waiting:
            super().resume_reading()


class _JoinedWrites:
    """A transport that sends the head and the body of an answer at once.

    Each call of the system gives the interpreter to another thread, and costs the wait to get it back.

    Attributes:
        is_over: Whether it was closed or lost; then nothing is sent.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, close_timeout_s: float) -> None:
        self._transport, self._loop, self._close_timeout_s = transport, loop, close_timeout_s
        self._held: list[bytes] = []
        self.is_over = False

    def write(self, data: bytes) -> None:
        """Send these bytes with those of further calls, at `flush`, or in the loop's next turn."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)

    def write_now(self, data: bytes) -> None:
        """Send these bytes."""
        self._held.append(data)
        self.flush()

    def close(self) -> None:
        """Send what is held, and end, even if the client does not read it."""
        if self.is_over:
            return
        self.flush()
        self.is_over = True
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(self._close_timeout_s, self._transport.abort)

    def flush(self) -> None:
        """Send what is held."""
        if self._held and not self.is_over:
            self._transport.write(b"".join(self._held))
        self._held.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
