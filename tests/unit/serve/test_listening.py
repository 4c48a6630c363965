"""A server in a process of its own, on a real socket."""

from __future__ import annotations

import gc
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from helpers.serving import cat_model, settings_of
from yoloship.errors import InputError, OutputError, SessionError
from yoloship.serve.listening import Listening, allow_files, interpreter_for_answers, serve

if TYPE_CHECKING:
    from pathlib import Path


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OutputError, match=f"127.0.0.1:{port}: cannot be listened on: .*choose another --port"):
            serve(settings_of(cat_model(tmp_path)), Listening(port=port), print)


def test_an_address_that_is_not_ours_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"192.0.2.1:0: cannot be listened on: .*choose another --host"):
        serve(settings_of(cat_model(tmp_path)), Listening("192.0.2.1", 0), print)


def test_answers_are_sent_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket names its protocol, or else asyncio leaves Nagle's algorithm on."""
    sockets: list[socket.socket] = []

    class Recorded(socket.socket):
        def listen(self, *backlog: int) -> None:
            super().listen(*backlog)
            sockets.append(self)

    monkeypatch.setattr("yoloship.serve.listening.socket.socket", Recorded)
    path = tmp_path / "cat.onnx"
    path.write_bytes(b"garbage")
    protocols: list[int] = []
    with pytest.raises(SessionError):
        serve(settings_of(path), Listening(port=0), lambda _: protocols.append(sockets[-1].proto))
    assert protocols == [socket.IPPROTO_TCP]


def test_thousands_of_connections_may_wait_and_few_are_taken_in_one_turn_of_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call of asyncio takes as many as it says to the system that may wait."""
    backlogs: list[int] = []

    class Recorded(socket.socket):
        def listen(self, backlog: int = 0) -> None:
            super().listen(backlog)
            backlogs.append(backlog)

    monkeypatch.setattr("yoloship.serve.listening.socket.socket", Recorded)
    path = tmp_path / "cat.onnx"
    path.write_bytes(b"garbage")
    with pytest.raises(SessionError):
        serve(settings_of(path), Listening(port=0), print)
    before, of_asyncio, after = backlogs
    assert before == after == 2048
    assert of_asyncio <= 16


def test_a_certificate_that_is_none_is_said(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    path.write_text("nothing")
    with pytest.raises(InputError, match=r"cert\.pem: the certificate or its key cannot be used"):
        serve(settings_of(cat_model(tmp_path)), Listening(port=0, certificate=path), print)


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    path = tmp_path / "cat.onnx"
    path.write_bytes(b"garbage")
    addresses: list[str] = []
    with pytest.raises(SessionError, match=r"cat\.onnx"):
        serve(settings_of(path), Listening(port=0), addresses.append)
    assert addresses[0].startswith("http://127.0.0.1:")


def test_as_many_files_may_be_open_as_connections_are_allowed() -> None:
    resource = pytest.importorskip("resource", reason="this system has no such limit")
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 500 if soft == resource.RLIM_INFINITY else min(500, soft)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
        allow_files(few - 1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few, hard)
        allow_files(few + 10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == few + 10
        if hard != resource.RLIM_INFINITY:
            allow_files(hard + 10)
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_interpreter_is_as_it_was_when_the_server_has_ended() -> None:
    before = sys.getswitchinterval(), gc.get_threshold()
    with pytest.raises(KeyError), interpreter_for_answers():
        assert sys.getswitchinterval() < before[0]
        assert gc.get_threshold()[0] > before[1][0]
        raise KeyError
    assert (sys.getswitchinterval(), gc.get_threshold()) == before
