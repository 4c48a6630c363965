"""How long a request may take, its end if nobody waits for it, and the count of those that end without an answer."""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from yoloship.errors import InputError
from yoloship.serve.errors import BusyError, ClientLeftError, LateError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from starlette.requests import Request

    from yoloship.errors import YoloshipError
    from yoloship.serve.metrics import Metrics

DEADLINE_HEADER: Final = "x-deadline-ms"
T = TypeVar("T")


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


class until:  # noqa: N801 - it reads like asyncio.timeout_at, which Python 3.10 does not have
    """Ends what is inside when the time is over, as `asyncio.timeout_at` does.

    Args:
        deadline_s: By the event loop's clock.
        error: What is raised then.
    """

    def __init__(self, deadline_s: float, error: YoloshipError) -> None:
        self._deadline_s, self._error = deadline_s, error
        self._is_late = False

    async def __aenter__(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        if loop.time() >= self._deadline_s:
            raise self._error

        def end() -> None:
            self._is_late = True
            task.cancel()

        self._uncancel = getattr(task, "uncancel", None)  # from Python 3.11 on
        self._timer = loop.call_at(self._deadline_s, end)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._timer.cancel()
        if self._is_late and kind is asyncio.CancelledError:
            if self._uncancel is not None:
                self._uncancel()
            raise self._error from error


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do work, and end it if the client closes its connection.

    Raises:
        ClientLeftError: it did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeftError("the client left")
        return task.result()
    finally:
        for one in (task, gone):
            if not one.done():
                one.cancel()
                with suppress(asyncio.CancelledError):
                    await one


@contextmanager
def rejections_counted(metrics: Metrics, name: str) -> Iterator[None]:
    """Count a request for this model that ends without room, too late, or without its client."""
    try:
        yield
    except (BusyError, LateError, ClientLeftError) as error:
        metrics.rejected.labels(name, type(error).__name__).inc()
        raise


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
