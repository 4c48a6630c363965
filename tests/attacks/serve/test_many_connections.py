"""Thousands of connections on which little happens: everybody else is served, and nothing is left of them."""

from __future__ import annotations

import gc
import json
import socket
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.serving import PHOTO, PREDICT, cat_model, listening, settings_of
from yoloship.serve.listening import allow_files
from yoloship.serve.settings import RequestLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(PHOTO)}\r\n\r\n"
WHOLE = HEAD.encode() + PHOTO
IDLE = 2200

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors as Linux lists them")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    resource = pytest.importorskip("resource", reason="this system has no limit of files")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_files(2 * IDLE + 500)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2 * IDLE + 500:
        pytest.skip("this process may not open so many files")
    limits = RequestLimits(head_timeout_s=1.0, body_timeout_s=1.0, max_connections=IDLE + 20)
    try:
        with listening(settings_of(cat_model(tmp_path), limits)) as found:
            yield found
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def connections(port: int, count: int, data: bytes) -> Iterator[list[socket.socket]]:
    """So many connections, on each of which these bytes were sent."""
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
        for one in made:
            one.sendall(data)
        yield made


def is_right(connection: socket.socket) -> bool:
    connection.sendall(WHOLE)
    said = b""
    while not said.endswith(b"]}"):
        part = connection.recv(65_536)
        if not part:
            return False
        said += part
    found: str = json.loads(said.partition(b"\r\n\r\n")[2])["detections"][0]["class_name"]
    return found == "cat"


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("data", [b"", b"GET /healthz HTT", WHOLE[:-10]], ids=["idle", "half a head", "half a body"])
def test_thousands_of_connections_hinder_nobody_and_are_ended(port: int, data: bytes) -> None:
    before = open_files()
    with connections(port, IDLE, data) as held, socket.create_connection(("127.0.0.1", port)) as other:
        assert all(is_right(other) for _ in range(20))
        for one in held:
            while one.recv(65_536):  # 408, or nothing, and then the end
                pass
        assert is_right(other)
    while open_files() > before:
        pass
