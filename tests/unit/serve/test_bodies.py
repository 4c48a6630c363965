"""Bodies are read within limits, and what is in them is one of the known forms."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from yoloship.errors import YoloshipError
from yoloship.serve.bodies import BodyBudget, clean_name, images_of, parse_json, read_body
from yoloship.serve.errors import BodyError, BusyError, ClientLeftError
from yoloship.serve.settings import RequestLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMITS = RequestLimits(max_body_bytes=10, max_images=2)


def request(messages: Sequence[dict[str, Any]] = (), **headers: str) -> Request:
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.sleep(60)
        return waiting.pop(0)

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": named}, receive)


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def read(given: Request, budget: BodyBudget, seconds: float = 60) -> bytes:
    async def run() -> bytes:
        return await read_body(given, LIMITS, budget, asyncio.get_running_loop().time() + seconds)

    return asyncio.run(run())


def test_the_parts_of_a_body_are_joined_and_counted_until_they_are_released() -> None:
    budget = BodyBudget(100)
    assert read(request([part(b"abc", more=True), part(b"def")]), budget) == b"abcdef"
    assert budget.held_bytes == 6
    budget.release(6)
    assert budget.held_bytes == 0


@pytest.mark.parametrize(
    ("given", "error", "status", "words"),
    [
        (request([part(b"x" * 11)]), BodyError, 413, "too long: expected at most 10 bytes"),
        (request([part(b"x" * 6, more=True), part(b"x" * 6)]), BodyError, 413, "too long"),
        (request(content_length="11"), BodyError, 413, "too long"),
        (request(content_length="-1"), BodyError, 413, "too long"),
        (request(content_length="9" * 30), BodyError, 413, "too long"),
        (request([part(b"")]), BodyError, 400, "is empty"),
        (request([part(b"x")], content_encoding="gzip"), BodyError, 415, "must not be encoded"),
        (request([part(b"x", more=True)]), BodyError, 408, "came too slowly"),
        (
            request([part(b"x", more=True), {"type": "http.disconnect"}]),
            ClientLeftError,
            499,
            "disconnected before the end",
        ),
    ],
)
def test_a_bad_body_is_refused_and_leaves_nothing_counted(
    given: Request, error: type[YoloshipError], status: int, words: str
) -> None:
    budget = BodyBudget(100)
    with pytest.raises(error, match=words) as caught:
        read(given, budget, seconds=0.05)
    assert getattr(caught.value, "status", None) == status
    assert budget.held_bytes == 0


def test_bodies_of_all_requests_share_their_memory() -> None:
    budget = BodyBudget(8)
    read(request([part(b"12345")]), budget)
    with pytest.raises(BusyError, match="the memory for request bodies is full"):
        read(request([part(b"1234")]), budget)
    assert budget.held_bytes == 5


@pytest.mark.parametrize("kind", ["image/x-unknown", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_one_image_is_the_body_whatever_a_client_calls_it(kind: str) -> None:
    (image,), is_list = images_of(request(content_type=kind), b"abc", LIMITS, with_urls=False)
    assert (image.data, is_list) == (b"abc", False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "not valid JSON"),
        (b'{"image": NaN}', "NaN is not JSON"),
        (b'{"image": "", "image": ""}', "a key appears twice"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" + b"9" * 10_000 + b"]", "not valid JSON"),
    ],
)
def test_json_that_readers_would_understand_in_different_ways_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(BodyError, match=words):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[]", "expected {"),
        (b"{}", "expected {"),
        (b'{"image": "aaaa", "images": []}', "expected {"),
        (b'{"images": "aaaa"}', "expected a list of images"),
        (b'{"images": []}', "expected 1 to 2, got 0"),
        (b'{"images": ["aaaa", "aaaa", "aaaa"]}', "expected 1 to 2, got 3"),
        (b'{"image": 5}', "image 0 does not have the expected form"),
        (b'{"image": {"data": "aaaa", "url": "https://a"}}', "image 0 does not have the expected form"),
        (b'{"image": {"data": "aaaa", "path": "/etc/passwd"}}', "image 0 does not have the expected form"),
        (b'{"image": {"name": "x"}}', "image 0 does not have the expected form"),
        (b'{"image": "a a a"}', "not valid base64"),
    ],
)
def test_json_of_another_form_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(YoloshipError, match=words):
        images_of(request(content_type="application/json"), text, LIMITS, with_urls=False)


def test_a_data_address_is_base64_and_an_address_is_kept_if_addresses_are_allowed() -> None:
    given = request(content_type="application/json; charset=utf-8")
    (image,), is_list = images_of(given, b'{"image": "data:image/png;base64,AAEC"}', LIMITS, with_urls=False)
    assert (image.data, image.url, is_list) == (b"\0\1\2", None, False)
    (image,), _ = images_of(given, b'{"image": {"url": "https://a/b.jpg"}}', LIMITS, with_urls=True)
    assert (image.data, image.url) == (b"", "https://a/b.jpg")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.jpg", "a.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("a\x1b[31m.jpg", "x1b[31m.jpg"),
        ("x" * 999, "x" * 255),
        ("", "image 3"),
        (None, "image 3"),
        (5, "image 3"),
    ],
)
def test_a_name_of_a_client_has_no_folders_and_nothing_that_controls_a_terminal(name: object, shown: str) -> None:
    assert clean_name(name, 3) == shown
