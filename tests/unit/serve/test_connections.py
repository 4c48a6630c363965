"""Connections on which nothing happens are ended."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from helpers.certificates import self_signed
from helpers.serving import PHOTO, PREDICT, cat_model, listening, listening_app, settings_of
from yoloship.serve.settings import RequestLimits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(PHOTO)}\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path = cat_model(tmp_path_factory.mktemp("models"))
    limits = RequestLimits(
        head_timeout_s=0.3, body_timeout_s=0.5, answer_timeout_s=0.3, max_connections=20, max_body_bytes=100_000
    )
    with listening(settings_of(path, limits)) as found:
        yield found


def talk(port: int, data: bytes) -> bytes:
    """All that the server says until it ends the connection."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)
        said = b""
        try:
            while part := connection.recv(65_536):
                said += part
        except ConnectionResetError:
            pass
        return said


@pytest.mark.parametrize("data", [b"", b"POST /v1", HEAD.encode()[:-2], HEALTH + b"\r\nGET"])
def test_a_head_that_does_not_come_ends_the_connection(port: int, data: bytes) -> None:
    assert talk(port, data).count(b"HTTP/1.1") == data.count(b"\r\n\r\n")


def test_a_body_that_does_not_come_is_answered_with_408(port: int) -> None:
    assert talk(port, HEAD.encode() + b"\r\n" + PHOTO[:-1]).startswith(b"HTTP/1.1 408")


def test_the_rest_of_a_body_that_was_refused_must_come_in_time_too(port: int) -> None:
    refused = HEAD.replace(PREDICT, "/v1/models/dog/predict").encode() + b"\r\n" + PHOTO[:-1]
    assert talk(port, refused).startswith(b"HTTP/1.1 404")


def test_more_connections_than_allowed_are_ended_and_the_first_ones_stay(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    try:
        assert talk(port, HEALTH + b"\r\n") == b""
    finally:
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_the_server_lives(port: int, data: bytes) -> None:
    assert b"HTTP/1.1 200" not in talk(port, data)
    assert talk(port, HEALTH + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ",  # one value without an end
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n",  # one header after the other
        f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".encode(),  # trailers
    ],
    ids=["a value", "headers", "trailers"],
)
def test_a_head_without_an_end_is_not_kept(port: int, data: bytes) -> None:
    more = b"X: y\r\n" * 1000 if data.endswith(b"\n") else b"y" * 6000
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            for _ in range(1000):
                connection.sendall(more)


def test_a_request_for_another_protocol_is_answered_in_this_one_and_is_the_last(port: int) -> None:
    said = talk(port, HEALTH + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + HEALTH + b"\r\n")
    assert said.startswith(b"HTTP/1.1 200")
    assert said.count(b"HTTP/1.1") == 1


def test_pipelined_requests_are_answered_in_their_order(port: int) -> None:
    other = HEALTH.replace(b"/healthz", b"/nothing") + b"Connection: close\r\n\r\n"
    said = talk(port, (HEALTH + b"\r\n") * 3 + other)
    assert [part[:3] for part in said.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"200", b"404"]


def test_a_client_that_waits_before_its_body_and_is_refused_sends_it_nowhere(port: int) -> None:
    refused = HEAD.replace(PREDICT, "/v1/models/dog/predict") + "Expect: 100-continue\r\n\r\n"
    said = talk(port, refused.encode())
    assert said.startswith(b"HTTP/1.1 404")
    assert b"connection: close" in said.lower()


@pytest.mark.parametrize("last", [b"", HEALTH + b"Connection: close\r\n\r\n"], ids=["kept", "closed"])
def test_clients_that_do_not_take_their_answers_do_not_hold_connections(port: int, last: bytes) -> None:
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 600 + last
    held = []
    try:
        for _ in range(20):
            connection = socket.socket()
            held.append(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", port))
            connection.setblocking(False)
            connection.send(asked)
        while not talk(port, HEALTH + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200"):
            pass
    finally:
        for connection in held:
            connection.close()


def test_connections_with_tls_are_answered_and_end_without_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path, "localhost"))
    trusting = ssl.create_default_context(cafile=tmp_path / "both.pem")

    def connected(port: int) -> ssl.SSLSocket:
        return trusting.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")

    with listening_app(settings_of(cat_model(tmp_path)), context) as (port, _):
        assert talk(port, HEALTH + b"\r\n") == b""  # no TLS
        for last in (b"Connection: close\r\n", b"Accept: image/png\r\nConnection: close\r\n"):
            with connected(port) as connection:
                connection.sendall(HEAD.encode() + b"\r\n" + PHOTO)
                assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
                connection.sendall(HEAD.encode() + last + b"\r\n" + PHOTO)
                while part := connection.recv(1 << 16):
                    said = part
            assert said.endswith((b"]}", b"IEND\xaeB`\x82"))
        with connected(port) as connection:
            connection.sendall(HEAD.encode() + b"\r\n" + PHOTO)  # and leaves
    assert not [record for record in caplog.records if record.name == "asyncio" and record.exc_info]


def test_a_handshake_of_tls_that_does_not_come_ends_the_connection(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path, "localhost"))
    settings = settings_of(cat_model(tmp_path), RequestLimits(head_timeout_s=0.3))
    with listening_app(settings, context) as (port, _):
        for data in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            assert talk(port, data) == b""
