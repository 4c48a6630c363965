"""Deadlines by header, clients that leave, and work that is ended when its time is over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from yoloship.errors import InputError
from yoloship.serve.errors import ClientLeftError, LateError
from yoloship.serve.waiting import deadline_of, unless_client_leaves, until


def request(text: str | None = None, *messages: str) -> Request:
    headers = [] if text is None else [(b"x-deadline-ms", text.encode())]
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return {"type": left.pop(0)}

    return Request({"type": "http", "headers": headers, "state": {"came_s": 100.0}}, receive)


@pytest.mark.parametrize(("text", "deadline_s"), [(None, 110), ("200", 100.2), ("1e9", 110)])
def test_the_deadline_is_the_earlier_of_the_servers_and_the_clients(text: str | None, deadline_s: float) -> None:
    assert deadline_of(request(text), 10) == pytest.approx(deadline_s)


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "soon"])
def test_a_deadline_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="X-Deadline-Ms: wrong value: expected milliseconds above 0"):
        deadline_of(request(text), 10)


def test_work_ends_when_the_client_leaves() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    async def run() -> None:
        with pytest.raises(ClientLeftError):
            async with unless_client_leaves(request(None, "http.request", "http.disconnect")):
                await work()

    asyncio.run(run())
    assert ended == ["work"]


def test_work_of_a_client_that_stays_gives_its_result() -> None:
    async def run() -> int:
        async with unless_client_leaves(request()):
            return await asyncio.sleep(0, 5)

    assert asyncio.run(run()) == 5


def test_what_is_late_ends_with_its_own_error_and_does_not_begin_if_the_time_is_over() -> None:
    steps: list[str] = []

    async def work(left_s: float) -> None:
        async with until(asyncio.get_running_loop().time() + left_s, LateError("too late")):
            steps.append("begun")
            try:
                await asyncio.Event().wait()
            finally:
                steps.append("ended")

    for left_s, said in ((0.01, ["begun", "ended"]), (0, []), (-1, [])):
        steps.clear()
        with pytest.raises(LateError, match="too late"):
            asyncio.run(work(left_s))
        assert steps == said


def test_who_was_late_is_not_taken_for_cancelled_afterwards() -> None:
    async def run() -> int:
        with pytest.raises(LateError):
            async with until(asyncio.get_running_loop().time() + 0.01, LateError("too late")):
                await asyncio.Event().wait()
        task = asyncio.current_task()
        return getattr(task, "cancelling", int)()  # from Python 3.11 on; asyncio.timeout looks at it

    assert asyncio.run(run()) == 0


def test_what_is_in_time_goes_on_and_a_cancelled_one_is_cancelled() -> None:
    async def run() -> None:
        async with until(asyncio.get_running_loop().time() + 0.01, LateError("too late")):
            pass
        await asyncio.sleep(0.03)  # the time is over, and nothing is cancelled any more
        waiting = asyncio.ensure_future(forever())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    async def forever() -> None:
        async with until(asyncio.get_running_loop().time() + 60, LateError("too late")):
            await asyncio.Event().wait()

    asyncio.run(run())
