"""Hostile requests on a real socket: broken HTTP, bombs, damaged bodies. Nothing ends the server, and nothing leaks."""

from __future__ import annotations

import base64
import json
import random
import socket
import time
import zlib
from typing import TYPE_CHECKING

import pytest

from helpers.images import chunk, png
from helpers.serving import PHOTO, PREDICT, cat_model, listening, settings_of, talk
from yoloship.images import ImageLimits
from yoloship.serve.settings import RequestLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = RequestLimits(
    max_body_bytes=200_000,
    max_images=3,
    image=ImageLimits(max_pixels=1_000_000, max_file_bytes=200_000),
    head_timeout_s=1.0,
    body_timeout_s=1.0,
)
EXPECTED = frozenset({200, 400, 404, 405, 406, 408, 413, 415, 422, 429, 504})
SEED = 20261128
FORM = b"--XX\r\nContent-Disposition: form-data; name=a; filename=a.jpg\r\n\r\n" + PHOTO + b"\r\n--XX--\r\n"
BODIES = (
    ("image/jpeg", PHOTO),
    ("multipart/form-data; boundary=XX", FORM),
    ("application/json", json.dumps({"images": [{"name": "a", "data": base64.b64encode(PHOTO).decode()}]}).encode()),
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with listening(settings_of(cat_model(tmp_path_factory.mktemp("models")), LIMITS)) as found:
        yield found


def request(kind: str, body: bytes, *, target: str = PREDICT, extra: str = "") -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n{extra}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def is_right(port: int) -> bool:
    said = talk(port, request("image/jpeg", PHOTO))
    return said.status == 200 and json.loads(said.body)["detections"][0]["class_name"] == "cat"


@pytest.mark.parametrize(("kind", "body"), BODIES, ids=["image", "form", "JSON"])
def test_damaged_bodies_get_an_answer_without_a_traceback(port: int, kind: str, body: bytes) -> None:
    chance = random.Random(SEED)
    for _ in range(60):
        damaged = bytearray(body)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(damaged))
            what = chance.randrange(4)
            if what == 0:
                damaged[at] = chance.randrange(256)
            elif what == 1:
                del damaged[at : at + chance.randint(1, 50)]
            elif what == 2:
                damaged[at:at] = chance.randbytes(chance.randint(1, 50))
            else:
                del damaged[max(at, 1) :]
        said = talk(port, request(kind, bytes(damaged)))
        assert said.status in EXPECTED
        assert b"Traceback" not in said.body
        assert b'File "' not in said.body
    assert is_right(port)


def test_damaged_heads_do_not_end_the_server(port: int) -> None:
    chance = random.Random(SEED)
    whole = request("image/jpeg", PHOTO)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(120)] = chance.randrange(256)
        said = talk(port, bytes(damaged), patience_s=0.05)
        assert said.status in EXPECTED | {0}
        assert b"Traceback" not in said.body
    assert is_right(port)


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fetc%2fpasswd",
        "..",
        ".",
        "%00",
        "cat%00",
        "CAT",
        "cat%2f..%2fcat",
        "%2e%2e",
        "a" * 5000,
        "cat;id",
        "%ff",
    ],
)
def test_no_name_of_a_model_is_a_path(port: int, name: str) -> None:
    said = talk(port, request("image/jpeg", PHOTO, target=f"/v1/models/{name}/predict"))
    assert said.status == 404
    assert b"root:" not in said.body


def bomb() -> bytes:
    """A PNG of 20,000 × 20,000 pixels in less than 200 kB, were it allowed."""
    rows = zlib.compress(bytes(60_001) * 100, 9)
    return png(20_000, 20_000, data=rows)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bomb(), b"image too large"),
        (png(1_000_000, 1), b"image too large"),
        (png(8, 8, chunk(b"tEXt", b"x" * 100_000), data=b""), b"damaged"),
        (b"\xff\xd8\xff" + b"\xff" * 100_000, b"JPEG"),
        (b"GIF89a\xff\xff\xff\xff", b"image too large"),
    ],
)
def test_a_bomb_is_refused_before_it_is_decoded(port: int, data: bytes, words: bytes) -> None:
    said = talk(port, request("image/png", data))
    assert said.status == 422
    assert words in said.body
    assert is_right(port)


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (request("image/jpeg", PHOTO).replace(f"Content-Length: {len(PHOTO)}".encode(), b"Content-Length: 5"), {422}),
        (request("image/jpeg", PHOTO)[:-10], {0, 408}),
        (request("image/jpeg", PHOTO, extra="Content-Encoding: gzip\r\n"), {415}),
        (request("image/jpeg", PHOTO, extra="Transfer-Encoding: chunked\r\n"), {400, 408}),
        (request("image/jpeg", PHOTO, extra="Expect: 100-continue\r\n"), {100, 200}),
        (request("image/jpeg", b"x" * 200_001), {0, 413}),
        (request("image/jpeg", PHOTO, target=f"{PREDICT}?conf=NaN&iou=-inf"), {400}),
        (request("image/jpeg", PHOTO, target=f"{PREDICT}?" + "conf=0.5&" * 2000), {400}),
        (request("application/json", b"[" * 150_000), {400}),
        (request("application/json", b'{"images": ["' + b"A" * 4 + b'"' + b', "AAAA"' * 1000 + b"]}"), {400}),
    ],
)
def test_what_is_wrong_on_the_wire_has_its_status(port: int, data: bytes, statuses: set[int]) -> None:
    assert talk(port, data).status in statuses
    assert is_right(port)


def test_clients_that_leave_leave_nothing_behind(port: int) -> None:
    for length in (len(PHOTO) // 2, len(PHOTO)):
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                whole = request("image/jpeg", PHOTO)
                connection.sendall(whole[: len(whole) - len(PHOTO) + length])
    metrics = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    while b'yoloship_in_flight{model="cat"} 0.0' not in talk(port, metrics).body:
        time.sleep(0.01)
    assert is_right(port)
