"""Connections on which nothing happens are ended, and what has no room is refused before its body comes."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from helpers.certificates import self_signed
from helpers.serving import PHOTO, PREDICT, cat_model, listening, listening_app, served, settings_of
from yoloship.serve.connections import Connection
from yoloship.serve.keys import ApiKeys
from yoloship.serve.settings import RequestLimits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from starlette.applications import Starlette

    from helpers.serving import InProcess

KEY = "0123456789abcdef"
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


@pytest.mark.filterwarnings("ignore:.*_SSLProtocolTransport.__del__:pytest.PytestUnraisableExceptionWarning")  # of 3.10
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


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Starlette]]:
    """A server whose one place is taken by an image that never runs."""
    path = cat_model(tmp_path_factory.mktemp("models"))
    settings = settings_of(path, RequestLimits(queue=1, head_timeout_s=0.3), keys=ApiKeys((KEY,)))
    with listening_app(settings) as (port, app):
        (host,) = app.state.server.models
        with host.admission.permit():
            yield port, app


def refused_head(size: int, *lines: str, path: str = PREDICT) -> bytes:
    more = "".join(f"{line}\r\n" for line in (*lines, f"X-API-Key: {KEY}"))
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n{more}\r\n".encode()


def heads(said: bytes) -> list[bytes]:
    return [part[:3] for part in said.split(b"HTTP/1.1 ")[1:]]


LAST = HEALTH + b"Connection: close\r\n\r\n"


def test_an_image_without_room_is_refused_before_its_body_comes(full: tuple[int, Starlette]) -> None:
    with socket.create_connection(("127.0.0.1", full[0])) as connection:
        connection.sendall(refused_head(len(PHOTO), "X-Request-Id: mine"))
        head, _, body = connection.recv(65_536).decode().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 429 Too Many Requests\r\n")
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        assert (fields["x-request-id"], fields["x-content-type-options"]) == ("mine", "nosniff")
        assert int(fields["retry-after"]) >= 1
        assert fields["content-length"] == str(len(body))
        error = json.loads(body)["error"]
        assert (error["type"], error["request_id"]) == ("BusyError", "mine")
        assert error["message"].startswith("cat: 1 image waiting or running; try again in ")
        connection.sendall(PHOTO + LAST)
        assert heads(connection.recv(65_536)) == [b"200"]


@pytest.mark.parametrize("size", [0, 1, 4000, 5000, 100_000, 3_000_000])
@pytest.mark.parametrize("piece", [1 << 24, 3001])
def test_a_refused_body_is_thrown_away_to_its_last_byte_and_no_further(
    full: tuple[int, Starlette], size: int, piece: int
) -> None:
    # Bodies that look like requests: if a byte too many or too few were thrown away, they would be answered too.
    body = (HEALTH + b"\r\n") * (size // len(HEALTH) + 1)
    data = (refused_head(size) + body[:size]) * 2 + LAST
    with socket.create_connection(("127.0.0.1", full[0])) as connection:
        for at in range(0, len(data), piece):
            connection.sendall(data[at : at + piece])
        said = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert heads(said) == [b"429", b"429", b"200"]


def test_a_refused_body_in_chunks_is_thrown_away_too(full: tuple[int, Starlette]) -> None:
    chunked = refused_head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    body = b"1388\r\n" + b"x" * 0x1388 + b"\r\n0\r\n\r\n"
    assert heads(talk(full[0], (chunked + body) * 2 + LAST)) == [b"429", b"429", b"200"]


@pytest.mark.parametrize(
    ("data", "rest"),
    [
        (refused_head(200_000, "Connection: close"), b"x" * 200_000),
        (refused_head(200_000).replace(b"HTTP/1.1", b"HTTP/1.0"), b"x" * 200_000),
        (refused_head(200_000, "Expect: 100-continue"), b""),
    ],
    ids=["it closes", "HTTP/1.0", "it waits for 100"],
)
def test_the_connection_of_a_refused_request_that_is_its_last_ends_after_its_body(
    full: tuple[int, Starlette], data: bytes, rest: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", full[0])) as connection:
        connection.sendall(data)
        said = connection.recv(65_536)
        connection.sendall(rest)
        assert connection.recv(65_536) == b""
    assert heads(said) == [b"429"]
    assert b"\r\nconnection: close\r\n" in said


def test_a_refused_body_that_does_not_come_ends_the_connection(full: tuple[int, Starlette]) -> None:
    assert heads(talk(full[0], refused_head(200_000) + b"x" * 100_000)) == [b"429"]


@pytest.mark.parametrize(
    "data",
    [
        refused_head(0, "Expect: 100-continue"),
        refused_head(0, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["it waits for 100", "HTTP/1.0"],
)
def test_nothing_is_done_for_what_comes_behind_a_refused_request_that_is_the_last(
    full: tuple[int, Starlette], caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    with caplog.at_level(logging.INFO, "yoloship.serve"):
        talk(full[0], data + HEALTH + b"X-Request-Id: behind\r\n\r\n")
        talk(full[0], LAST)
    assert "behind" not in {one.__dict__.get("facts", {}).get("id") for one in caplog.records}


def test_a_connection_is_not_idle_while_a_refused_body_comes(tmp_path: Path) -> None:
    settings = settings_of(cat_model(tmp_path), RequestLimits(queue=1))
    with listening_app(settings, keep_alive_s=0.2) as (port, app):
        (host,) = app.state.server.models
        with host.admission.permit(), socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(refused_head(200_000) + b"x" * 100_000)
            assert heads(connection.recv(65_536)) == [b"429"]
            time.sleep(0.5)
            connection.sendall(b"x" * 100_000 + LAST)
            assert heads(connection.recv(65_536)) == [b"200"]


def test_a_refusal_has_the_form_of_its_address_and_is_counted(full: tuple[int, Starlette]) -> None:
    port, app = full
    paths = ["/v2/models/cat/infer", "/v2/models/cat/versions/1/infer"]
    for path in paths:
        said = talk(port, refused_head(0, path=path) + LAST)
        assert b'{"error": "cat: 1 image waiting or running; try again in' in said
    counts = app.state.server.metrics.text().decode()
    for route in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        assert f'requests_total{{model="cat",route="{route}",status="429"}} 1.0' in counts


def test_a_refusal_is_counted_and_logged_as_any_other_answer(
    full: tuple[int, Starlette], caplog: pytest.LogCaptureFixture
) -> None:
    port, app = full
    wanted = re.compile(r'yoloship_rejected_total{model="cat",reason="BusyError"} (\S+)')

    def rejected() -> float:
        found = wanted.search(app.state.server.metrics.text().decode())
        return 0.0 if found is None else float(found[1])

    before = rejected()
    with caplog.at_level(logging.INFO, "yoloship.serve"):
        talk(port, refused_head(0, "X-Request-Id: line-2") + LAST)
    assert rejected() == before + 1
    (facts,) = [facts for one in caplog.records if (facts := one.__dict__.get("facts", {})).get("id") == "line-2"]
    assert (facts["method"], facts["path"], facts["status"]) == ("POST", PREDICT, 429)
    assert facts["client"] == "127.0.0.1"


def test_nobody_without_a_key_is_told_that_there_is_no_room(full: tuple[int, Starlette]) -> None:
    without = refused_head(0).replace(KEY.encode(), b"another key")
    assert heads(talk(full[0], without + LAST)) == [b"401", b"200"]


@pytest.mark.parametrize("path", [PREDICT.replace("cat", "dog"), "/v1/models", "/nothing"])
def test_what_needs_no_room_is_answered_as_ever(full: tuple[int, Starlette], path: str) -> None:
    assert heads(talk(full[0], refused_head(0, path=path) + LAST))[0] in {b"404", b"405"}
    got = refused_head(0).replace(b"POST", b"GET")
    assert heads(talk(full[0], got + LAST)) == [b"405", b"200"]


def test_the_time_for_idle_connections_begins_after_a_body_that_nobody_read(tmp_path: Path) -> None:
    head = HEAD.replace(PREDICT, "/v1/models/dog/predict").encode() + b"\r\n"
    with (
        listening_app(settings_of(cat_model(tmp_path)), keep_alive_s=0.3) as (port, _),
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        connection.sendall(head)
        assert heads(connection.recv(65_536)) == [b"404"]
        connection.sendall(PHOTO)
        with suppress(ConnectionResetError):  # it ended while we were sending
            assert connection.recv(65_536) == b""


class Kept(asyncio.Transport):
    """A transport that keeps what is written."""

    said = b""
    is_over = False

    def write(self, data: Any) -> None:
        self.said += data

    def close(self) -> None:
        self.is_over = True

    def abort(self) -> None:
        self.is_over = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.is_over

    def get_write_buffer_size(self) -> int:
        return 0


def in_one_turn(
    server: InProcess, limits: RequestLimits, *given: bytes, answers: Sequence[int]
) -> list[tuple[Kept, bytes]]:
    """The transport of a connection for each of these, which all come in one turn of the loop; and what it said then.

    They end when they have so many answers.
    """

    async def said() -> list[tuple[Kept, bytes]]:
        limited = Connection.within(limits, server.app.state.guard)
        config = uvicorn.Config(server.app, http=limited, log_config=None)
        config.load()
        state, connections, transports = ServerState(), [], [Kept() for _ in given]
        for transport, data in zip(transports, given, strict=True):
            connection = limited(config, state, {})
            connection.connection_made(transport)
            connection.get_buffer(-1)[: len(data)] = data
            connection.buffer_updated(len(data))
            connections.append(connection)
        at_once = [transport.said for transport in transports]
        while any(len(heads(one.said)) < count for one, count in zip(transports, answers, strict=True)):
            await asyncio.sleep(0.01)
        for connection in connections:
            connection.connection_lost(None)
        while state.tasks:
            await asyncio.sleep(0.01)
        return list(zip(transports, at_once, strict=True))

    found: list[tuple[Kept, bytes]] = server.do(said())
    return found


IMAGE = HEAD.encode() + b"\r\n" + PHOTO


def test_images_that_come_in_one_turn_of_the_loop_are_refused_from_their_heads_once_there_is_no_more_room(
    tmp_path: Path,
) -> None:
    limits = RequestLimits(queue=1)
    with served(settings_of(cat_model(tmp_path), limits)) as server:
        # The first one is not whole, and takes no room.
        found = in_one_turn(server, limits, IMAGE[:-1], IMAGE, IMAGE, answers=(0, 1, 1))
    assert [heads(at_once) for _, at_once in found] == [[], [], [b"429"]]
    assert heads(found[1][0].said) == [b"200"]


@pytest.mark.parametrize(
    "other",
    [
        IMAGE,
        IMAGE.replace(b"\r\n", b"\r\nX-API-Key: another\r\n", 1),
        IMAGE.replace(b"POST", b"GET").replace(b"\r\n", f"\r\nX-API-Key: {KEY}\r\n".encode(), 1),
        HEALTH + b"\r\n" + IMAGE.replace(b"\r\n", f"\r\nX-API-Key: {KEY}\r\n".encode(), 1),
    ],
    ids=["no key", "wrong key", "GET", "after another request"],
)
def test_what_will_not_take_a_place_in_the_next_turn_of_the_loop_leaves_it_to_others(
    tmp_path: Path, other: bytes
) -> None:
    limits = RequestLimits(queue=1)
    image = IMAGE.replace(b"\r\n", f"\r\nX-API-Key: {KEY}\r\n".encode(), 1)
    with served(settings_of(cat_model(tmp_path), limits, keys=ApiKeys((KEY,)))) as server:
        _, (_, at_once) = in_one_turn(server, limits, other, image, answers=(0, 0))
    assert at_once == b""


def test_of_many_requests_sent_at_once_one_is_refused_at_once_and_the_others_wait(tmp_path: Path) -> None:
    limits = RequestLimits(queue=1)
    with served(settings_of(cat_model(tmp_path), limits)) as server, server.image_waiting("cat"):
        ((transport, at_once),) = in_one_turn(server, limits, IMAGE * 3, answers=(3,))
    assert heads(at_once) == [b"429"]
    assert heads(transport.said) == [b"429"] * 3


def test_thousands_of_requests_before_the_first_answer_end_the_connection(tmp_path: Path) -> None:
    limits = RequestLimits()
    with served(settings_of(cat_model(tmp_path), limits)) as server:
        for count in (1000, 1100):
            ((transport, _),) = in_one_turn(server, limits, (HEALTH + b"\r\n") * count, answers=(0,))
            assert transport.is_over == (count > 1001)


def test_no_more_is_read_until_all_requests_that_wait_are_answered(tmp_path: Path) -> None:
    limits = RequestLimits()
    read_while_waiting = []
    with served(settings_of(cat_model(tmp_path), limits)) as server:

        def answered(transport: Kept) -> None:
            read_while_waiting.append(len(heads(transport.said)))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Kept, "resume_reading", answered)
            in_one_turn(server, limits, (HEALTH + b"\r\n") * 20, answers=(20,))
    assert read_while_waiting == [20]
