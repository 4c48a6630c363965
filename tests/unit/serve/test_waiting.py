"""Deadlines by header, and clients that leave."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from yoloship.errors import InputError
from yoloship.serve.errors import ClientLeftError
from yoloship.serve.waiting import deadline_of, unless_client_leaves


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
            await unless_client_leaves(request(None, "http.request", "http.disconnect"), work())

    asyncio.run(run())
    assert ended == ["work"]


def test_work_of_a_client_that_stays_gives_its_result() -> None:
    async def run() -> int:
        return await unless_client_leaves(request(), asyncio.sleep(0, 5))

    assert asyncio.run(run()) == 5
