"""Connections that cost little while nothing happens on them: `Connection`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from yoloship.serve.settings import RequestLimits


class Connection(H11Protocol):
    """Uvicorn's connection, which ends if the head of a request, or a body that nobody reads, does not come in time.

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
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.abort()
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes. After an answer, they are the rest of its body or the next head, which must come in time too."""
        if self._timer is None and self._is_between():
            self._start_timer()
        super().data_received(data)

    def _is_between(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.limits.head_timeout_s, self._end_if_slow, self.cycle)

    def _end_if_slow(self, cycle: object) -> None:
        """End a connection on which no request began since the timer did, and the last one was answered."""
        self._timer = None
        has_begun = self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
        if not self._is_between() or not (has_begun or self.cycle is None):
            return  # a request is being answered, or the time for idle connections runs
        if self.cycle is cycle:
            self.transport.abort()
        else:
            self._start_timer()
