"""The client, against a small server of canned answers."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.kserve.client import Client
from yoloship.kserve.codec import decode_request, encode_answer, head_length
from yoloship.kserve.failures import ProtocolError, RemoteError
from yoloship.kserve.tensors import InferAnswer, InferRequest, Limits, Tensor, WantedOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD = "Inference-Header-Content-Length"


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Said(NamedTuple):
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = {}  # noqa: RUF012 - it is never changed


class Canned:
    """A server that answers each request by a function, and keeps what it was asked."""

    def __init__(self, answer: Callable[[Asked], Said]) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        canned = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                canned.connections += 1

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = Asked(self.command, self.path, dict(self.headers), body)
                canned.asked.append(asked)
                said = answer(asked)
                self.send_response(said.status)
                for name, value in {"Content-Length": str(len(said.body)), **said.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said.body)
                self.close_connection = said.headers.get("X-Drop") == "1"

            do_GET = do_POST = _answer

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Canned:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def doubles(asked: Asked) -> Said:
    """A model that doubles each input."""
    request = decode_request(asked.body, head_length(asked.headers.get(HEAD)))
    tensors = tuple(Tensor.of(f"{one.name}2", one.array * 2) for one in request.inputs)
    encoded = encode_answer(InferAnswer("m", tensors, "1", request.id), request.is_binary)
    return Said(200, encoded.body, encoded.headers)


@contextmanager
def client_of(answer: Callable[[Asked], Said], **how: Any) -> Iterator[tuple[Client, Canned]]:
    with Canned(answer) as server, Client(server.url, **how) as client:
        yield client, server


@pytest.mark.parametrize("binary", [True, False])
def test_tensors_go_there_and_back(binary: bool) -> None:
    with client_of(doubles) as (client, server):
        x = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
        found = client.infer("m", {"x": x, "n": [1, 2]}, binary=binary)
        assert (HEAD in server.asked[0].headers) is binary
    assert list(found) == ["x2", "n2"]
    np.testing.assert_array_equal(found["x2"], x * 2)
    assert found["n2"].tolist() == [2, 4]


def test_the_addresses_are_those_of_the_protocol() -> None:
    with client_of(lambda _: Said()) as (client, server):
        assert client.is_live()
        assert client.is_ready()
        assert client.is_ready("a/b c")
        for ask in (client.model_metadata, client.model_config, client.statistics):
            assert ask("m") == {}
            ask("m", "3")
        client.statistics()
        client.server_metadata()
    assert [one.path for one in server.asked] == [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/a%2Fb%20c/ready",
        "/v2/models/m",
        "/v2/models/m/versions/3",
        "/v2/models/m/config",
        "/v2/models/m/versions/3/config",
        "/v2/models/m/stats",
        "/v2/models/m/versions/3/stats",
        "/v2/models/stats",
        "/v2",
    ]


def test_one_connection_serves_requests_one_after_the_other() -> None:
    with client_of(lambda _: Said()) as (client, server):
        assert all(client.is_live() for _ in range(5))
        assert server.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    with client_of(lambda _: Said(headers={"X-Drop": "1"})) as (client, server):
        assert all(client.is_live() for _ in range(3))
        assert server.connections == 3


def test_many_threads_may_ask_at_once() -> None:
    with client_of(doubles) as (client, _):
        found: list[Any] = [None] * 8

        def ask(number: int) -> None:
            found[number] = client.infer("m", {"x": [number]})["x2"].tolist()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert found == [[2 * number] for number in range(8)]


def test_the_api_key_and_headers_are_sent_with_each_request() -> None:
    with client_of(lambda _: Said(), api_key="key", headers={"X-A": "b"}) as (client, server):
        client.is_live()
    assert server.asked[0].headers["Authorization"] == "Bearer key"
    assert server.asked[0].headers["X-A"] == "b"


@pytest.mark.parametrize(
    "body", [b'{"error": "no such model"}', b'{"error": {"type": "E", "message": "no such model", "request_id": "1"}}']
)
def test_a_refusal_is_an_error_with_its_status_and_the_servers_words(body: bytes) -> None:
    with client_of(lambda _: Said(404, body)) as (client, _):
        assert not client.is_ready()
        with pytest.raises(RemoteError, match=r"GET /v2/models/m: 404: no such model$") as caught:
            client.model_metadata("m")
    assert caught.value.status == 404


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 5}', b"[" * 10_000])
def test_a_refusal_without_words_has_those_of_http(body: bytes) -> None:
    with client_of(lambda _: Said(503, body)) as (client, _), pytest.raises(RemoteError, match="503: Service Unav"):
        client.server_metadata()


def test_a_wrong_key_is_not_a_server_that_is_not_ready() -> None:
    with client_of(lambda _: Said(401)) as (client, _):
        with pytest.raises(RemoteError, match="give the server's API key"):
            client.is_ready()
        with pytest.raises(RemoteError, match="401"):
            client.is_live()


def test_redirects_are_not_followed() -> None:
    with client_of(lambda _: Said(302, b"", {"Location": "/elsewhere"})) as (client, server):
        with pytest.raises(RemoteError, match="302"):
            client.server_metadata()
        assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", timeout_s=5) as client:
        assert not client.is_live()
        assert not client.is_ready()
        with pytest.raises(RemoteError, match=rf"^http://127.0.0.1:{port}: cannot be reached: .*; is the server st"):
            client.server_metadata()


def test_a_server_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(RemoteError, match="timed out") as caught:
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05).server_metadata()
    assert caught.value.status is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "ended the connection"),
        (b"SSH-2.0\r\n", "its answer is broken: BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "its answer is broken: IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000, "its answer is broken: LineTooLong"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "the JSON is not an object"),
    ],
)
def test_an_answer_that_is_not_one_is_an_error(data: bytes, words: str) -> None:
    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with Client(url) as client, pytest.raises((RemoteError, ProtocolError), match=words):
            client.server_metadata()
        thread.join()


@pytest.mark.parametrize("chunked", [True, False])
def test_an_answer_is_no_longer_than_allowed(chunked: bool) -> None:
    def answer(_: Asked) -> Said:
        if chunked:
            return Said(200, b"c8\r\n" + b" " * 200 + b"\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"})
        return Said(200, b" " * 200)

    too_long = pytest.raises(RemoteError, match="the answer is too long; at most 100 bytes are read")
    with client_of(answer, limits=Limits(body_bytes=100)) as (client, _), too_long:
        client.server_metadata()


def test_an_answer_without_a_wanted_output_is_refused() -> None:
    with client_of(doubles) as (client, _), pytest.raises(ProtocolError, match="y: the answer does not have this"):
        client.infer("m", {"x": [1]}, ["x2", "y"])


def test_a_whole_request_has_its_id_and_parameters() -> None:
    with client_of(doubles) as (client, server):
        request = InferRequest(
            (Tensor.of("x", [1]),), (WantedOutput("x2", {"binary_data": True}),), "7", {"timeout": 9}
        )
        answer = client.ask("m", request)
    assert (answer.id, answer.model_name, answer.model_version) == ("7", "m", "1")
    head = json.loads(server.asked[0].body[: int(server.asked[0].headers[HEAD])])
    assert (head["id"], head["parameters"]) == ("7", {"timeout": 9})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8000",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://user:key@host",
        "http://host?a=b",
        "http://host#a",
        "http://ho st",
        "http://host\r\nX: y",
        "http://[::1",
    ],
)
def test_what_is_not_the_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="is not the address of a server"):
        Client(url)


def test_a_path_in_front_of_the_protocol_is_kept() -> None:
    with Canned(lambda _: Said()) as server, Client(f"{server.url}/models/") as client:
        client.server_metadata()
    assert server.asked[0].path == "/models/v2"


@pytest.mark.parametrize("headers", [{"A\n": "b"}, {"A": "b\r\nC: d"}, {"A": "\u20ac"}])
def test_what_cannot_be_a_header_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(InputError, match="cannot be a header"):
        Client("http://host", headers=headers)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_cannot_be_the_name_of_a_model_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a model"):
        Client("http://127.0.0.1:9").model_metadata(name)


def test_https_checks_the_certificate() -> None:
    with Canned(lambda _: Said()) as server, pytest.raises(RemoteError, match=r"cannot be reached: .*SSL"):
        Client(server.url.replace("http:", "https:"), tls=ssl.create_default_context()).server_metadata()
