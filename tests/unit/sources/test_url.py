"""Images at addresses, through the whole source."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.archives import png
from helpers.web_server import WebServer, answer, redirect
from yoloship.errors import InputError
from yoloship.sources import AddressRules, SourceOptions, open_source
from yoloship.sources.url import AHEAD, WebImages

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = SourceOptions(addresses=AddressRules(allow_http=True, allow_private=True))


def test_images_come_in_order_each_once_and_one_that_fails_does_not_end_the_rest() -> None:
    answers = {
        "/a.png": answer(png(1)), "/b.png": answer(b"", status="404 Not Found"), "/c.png": answer(png(3)),
        "/d": redirect("/c.png"),
    }  # fmt: skip
    with WebServer(lambda target: answers[target]) as server:
        urls = [f"{server.url}{target}" for target in ("/a.png", "/b.png", "/a.png", "/c.png", "/d")]
        with open_source(urls, OPTIONS) as source:
            assert type(source) is WebImages
            assert source.count == 4
            frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.name for frame in frames] == [urls[0], urls[1], urls[3], urls[4]]
    assert [frame.image for frame in frames] == [png(1), None, png(3), png(3)]
    assert str(frames[1].error) == f"{urls[1]}: the server answered 404 Not Found"


def test_credentials_are_in_no_name() -> None:
    with WebServer(lambda target: answer(b"", status="401 Unauthorized")) as server:
        url = server.url.replace("://", "://me:secret@") + "/a.png"
        (frame,) = open_source([url], OPTIONS)
    assert "secret" not in f"{frame.name} {frame.error}"
    assert frame.name == f"{server.url}/a.png"


def test_addresses_that_differ_in_what_is_secret_alone_get_a_number() -> None:
    with WebServer(lambda target: answer(png(int(target[-1])))) as server:
        urls = [f"{server.url}/a.png?token={number}" for number in (1, 2)]
        frames = list(open_source(urls, OPTIONS))
    shown = f"{server.url}/a.png?token=***"
    assert [frame.name for frame in frames] == [shown, f"{shown} (2)"]
    assert [frame.image for frame in frames] == [png(1), png(2)]


def test_addresses_that_may_not_be_read_are_refused_before_the_run() -> None:
    with pytest.raises(
        InputError, match=r"use https, or allow it \(--allow-http, allow_http\); for a stream, put live: in front"
    ):
        open_source(["https://example.org/a.jpg", "http://example.org/a.jpg"])


def test_an_address_of_this_machine_fails_unless_it_is_allowed() -> None:
    (frame,) = open_source(["https://127.0.0.1/a.jpg"])
    assert str(frame.error) == (
        "https://127.0.0.1/a.jpg: leads into a private network or to this machine: got 127.0.0.1; "
        "if you intend this, allow it (allow_private, --allow-private)"
    )


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("multipart/x-mixed-replace; boundary=x", "give it as live:"),
        ("video/mp4", "give it as live:"),
        ("application/vnd.apple.mpegurl", "give it as live:"),
        ("text/html", "give the address of the image itself"),
        ("application/json", "give the address of the image itself"),
    ],
)
def test_what_is_not_an_image_is_refused_by_its_type(kind: str, hint: str) -> None:
    with WebServer(lambda target: answer(b"x" * 100, kind=kind)) as server:
        (frame,) = open_source([f"{server.url}/x"], OPTIONS)
    assert f"is of the type {kind.partition(';')[0]!r}, not an image; {hint}" in str(frame.error)


@pytest.mark.parametrize("kind", ["image/jpeg", "IMAGE/x", "application/octet-stream", ""])
def test_what_may_be_an_image_is_read_and_the_decoder_decides(kind: str) -> None:
    with WebServer(lambda target: answer(png(), kind=kind)) as server:
        (frame,) = open_source([f"{server.url}/x"], OPTIONS)
    assert frame.image == png()


def test_only_a_few_are_fetched_ahead_and_leaving_early_ends_it() -> None:
    asked = threading.Semaphore(0)

    def respond(target: str) -> bytes:
        asked.release()
        return answer(png())

    with WebServer(respond) as server:
        with open_source([f"{server.url}/{number}" for number in range(100)], OPTIONS) as source:
            frames = iter(source)
            next(frames)
            frames.close()  # type: ignore[attr-defined]  # it is a generator
        assert len(server.requests) <= AHEAD + 1


def test_a_list_of_addresses_is_fetched_as_one_source(tmp_path: Path) -> None:
    with WebServer(lambda target: answer(png(int(target[1:])))) as server:
        text = tmp_path / "l.txt"
        text.write_text("".join(f"{server.url}/{number}\n" for number in range(9)), encoding="utf-8")
        frames = list(open_source([str(text)], OPTIONS))
    assert [frame.image for frame in frames] == [png(number) for number in range(9)]
    assert [frame.index for frame in frames] == list(range(9))


@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="this system interrupts in another way")
@pytest.mark.timeout(60)
def test_the_program_ends_without_waiting_for_a_slow_server() -> None:
    def respond(target: str) -> Iterator[bytes | float]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        yield 600.0

    program = """
import sys
from yoloship.sources import AddressRules, SourceOptions, open_source
rules = AddressRules(allow_http=True, allow_private=True, timeout_s=500)
print("asked", flush=True)
next(iter(open_source([sys.argv[1]], SourceOptions(addresses=rules))))
"""
    with WebServer(respond) as server:
        command = [sys.executable, "-c", program, f"{server.url}/x"]
        asking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with asking:
            assert asking.stdout is not None
            asking.stdout.readline()
            while not server.requests:
                time.sleep(0.01)
            asking.send_signal(signal.SIGINT)
            assert asking.wait() != 0
