"""How long a request may take, and how it ends if nobody is waiting for it."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from yoloship.errors import InputError
from yoloship.serve.errors import ClientLeftError

if TYPE_CHECKING:
    from starlette.requests import Request

    from yoloship.errors import YoloshipError

DEADLINE_HEADER: Final = "x-deadline-ms"


def deadline_of(request: Request, longest_s: float) -> float:
    """When the answer must be there, by the event loop's clock: as the header X-Deadline-Ms says, but no later.

    Args:
        request: The request.
        longest_s: The longest time from when it came.

    Raises:
        InputError: the header is not a number of milliseconds.
    """
    text = request.headers.get(DEADLINE_HEADER)
    wanted_s = longest_s
    if text is not None:
        try:
            wanted_s = float(text) / 1e3
        except ValueError:
            wanted_s = math.nan
        if not 0 < wanted_s < math.inf:
            raise InputError(
                "wrong value", subject="X-Deadline-Ms", expected="milliseconds above 0", got=repr(text[:60])
            )
    return float(request.state.came_s) + min(wanted_s, longest_s)


class _Ending:
    """Ends the block by cancelling it, and raises an error of its own instead of the cancellation."""

    def __init__(self, error: YoloshipError) -> None:
        self._error = error
        self._is_ended = self._is_over = False

    def _begin(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task

    def _end(self) -> None:
        if not self._is_over:
            self._is_ended = True
            self._task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._is_over = True
        if self._is_ended and kind is asyncio.CancelledError:
            if hasattr(self._task, "uncancel"):  # from Python 3.11 on
                self._task.uncancel()
            raise self._error from error


class until(_Ending):  # noqa: N801 - it reads like asyncio.timeout_at, which Python 3.10 does not have
    """Ends the block when the time is over, as `asyncio.timeout_at` does.

    Args:
        deadline_s: By the event loop's clock.
        error: The error to raise then.
    """

    def __init__(self, deadline_s: float, error: YoloshipError) -> None:
        super().__init__(error)
        self._deadline_s = deadline_s

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._deadline_s:
            raise self._error
        self._begin()
        self._timer = loop.call_at(self._deadline_s, self._end)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._timer.cancel()
        await super().__aexit__(kind, error, _)


class unless_client_leaves(_Ending):  # noqa: N801 - as `until`
    """Ends the block if the client closes its connection, and raises `ClientLeftError`.

    Args:
        request: The client's request; its body has been read.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(ClientLeftError("the client left"))
        self._request = request

    async def __aenter__(self) -> None:
        self._begin()
        self._watch = asyncio.ensure_future(self._until_left())

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._watch.cancel()
        del self._watch  # it knows this object, and both would wait for the garbage collector
        await super().__aexit__(kind, error, _)

    async def _until_left(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._end()
