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
