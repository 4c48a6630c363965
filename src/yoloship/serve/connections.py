"""Connections that cost little while nothing happens on them, and little to refuse a request on: `Connection`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

    from yoloship.serve.settings import RequestLimits

_MAX_HEAD_BYTES: Final = 64 << 10
_MAX_UNREAD_BYTES: Final = 1 << 20
"""Of a body. To stop and go on takes two system calls, in which other threads take the interpreter."""


class Connection(HttpToolsProtocol):
    """Uvicorn's connection, with limits.

    It ends if the head of a request, or a body that nobody reads, does not come in time, if a head is too long, or if
    the client does not take its answers.

    Attributes:
        limits: Seconds for a head and for a body, and connections at the same time.
    """

    limits: RequestLimits

    @classmethod
    def within(cls, limits: RequestLimits) -> type[Connection]:
        """The class of the connections of one server."""
        return type("LimitedConnection", (cls,), {"limits": limits})

    def connection_made(self, transport: Any) -> None:
        """Begin, unless there are too many connections."""
        self._timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._is_in_request = False
        self._head_bytes = 0
        self._joined = _JoinedWrites(transport, self.loop, self.limits.answer_timeout_s)
        super().connection_made(self._joined)  # type: ignore[arg-type]  # it is like a transport
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
        """More of an answer waits than the system takes: the client must take it in time."""
        super().pause_writing()
        self._answer_timer = self.loop.call_later(self.limits.answer_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client took it."""
        super().resume_writing()
        if self._answer_timer is not None:
            self._answer_timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Take bytes. After an answer, they are the rest of its body or the next head, which must come in time too."""
        if self.transport.is_closing():
            return
        if self._timer is None and self._is_between():
            self._start_timer()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _MAX_HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_request = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole. What asks for another protocol gets its answer in this one, and no other after it."""
        self._head_bytes = 0
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of a body came. It is taken in this turn of the loop, so there is seldom a reason to read no more."""
        self._head_bytes = 0
        if self.cycle.response_complete:
            return
        self.cycle.body += body
        if len(self.cycle.body) > _MAX_UNREAD_BYTES:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._head_bytes = 0
        self._is_in_request = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is whole: it goes out now, not in the loop's next turn, which other threads may delay."""
        self._joined.flush()
        super().on_response_complete()

    def _is_between(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.limits.head_timeout_s, self._end_if_slow, self.cycle)

    def _end_if_slow(self, cycle: object) -> None:
        """End a connection on which no request began since the timer did, and the last one was answered."""
        self._timer = None
        if not self._is_between() or not (self._is_in_request or self.cycle is None):
            return  # a request is being answered, or the time for idle connections runs
        if self.cycle is cycle:
            self.transport.abort()
        else:
            self._start_timer()


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

    def close(self) -> None:
        """Send what is held, and end, also if the client does not take it."""
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
