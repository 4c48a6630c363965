"""Release weights by name, from a server on this machine."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from yoloship.errors import DownloadError, InputError, OutputError
from yoloship.models import releases
from yoloship.models.releases import RELEASES, UNPINNED, resolve

CONTENT = bytes(range(256)) * 40


class Server:
    """Answers every request with what `body` and `status` say, and counts them."""

    def __init__(self) -> None:
        self.body = CONTENT
        self.claimed_length: int | None = None
        self.status = 200
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                self.send_response(outer.status)
                self.send_header("Content-Length", str(outer.claimed_length or len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
                """Keep quiet."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=partial(self._server.serve_forever, poll_interval=0.01))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    release = replace(RELEASES["yolov5n"], size_bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(releases, "RELEASES", {"yolov5n": release})
    running = Server()
    yield running
    running.stop()


def test_a_name_is_fetched_once_and_then_comes_from_the_cache(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    path = resolve("yolov5n", cache=tmp_path / "new" / "cache", source=server.url, say=said.append)
    assert path.read_bytes() == CONTENT
    assert path.name.endswith("-yolov5n.pt")
    assert resolve("yolov5n", cache=tmp_path / "new" / "cache", source=server.url, say=said.append) == path
    assert server.requests == ["/yolov5n.pt"]
    assert said == [f"yolov5n: downloading {server.url}/yolov5n.pt (0.0 MB, licence AGPL-3.0) to {path}"]


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, tmp_path: Path) -> None:
    path = resolve("yolov5n", cache=tmp_path, source=server.url)
    for damage in (CONTENT[:-1], bytes(len(CONTENT))):
        path.write_bytes(damage)
        assert resolve("yolov5n", cache=tmp_path, source=server.url).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_the_notice_goes_to_the_log_unless_asked_otherwise(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "yoloship.releases"):
        resolve("yolov5n", cache=tmp_path, source=server.url)
    assert capsys.readouterr() == ("", "")
    assert "licence AGPL-3.0" in caplog.text


@pytest.mark.parametrize(
    ("body", "got"),
    [
        (CONTENT[::-1], f"got {len(CONTENT)} with "),
        (CONTENT[:100], "got 100 with "),
        (CONTENT + b"x", "got more bytes"),
        (b"<html>not found</html>", "got 22 with "),
    ],
)
def test_another_file_than_promised_is_refused_and_not_kept(
    server: Server, tmp_path: Path, body: bytes, got: str
) -> None:
    server.body = body
    with pytest.raises(DownloadError) as caught:
        resolve("yolov5n", cache=tmp_path, source=server.url)
    text = str(caught.value)
    assert "is not the official file; nothing was kept" in text
    assert got in text
    assert "download it by hand from https://github.com/ultralytics/yolov5/releases/download/v7.0/yolov5n.pt" in text
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_breaks_off_is_one_clear_line(server: Server, tmp_path: Path) -> None:
    server.claimed_length, server.body = len(CONTENT), CONTENT[: len(CONTENT) // 2]
    with pytest.raises(DownloadError, match="is not the official file; nothing was kept"):
        resolve("yolov5n", cache=tmp_path, source=server.url)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_server_is_one_clear_line(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DownloadError, match="the server answered 404 Not Found; download it by hand from"):
        resolve("yolov5n", cache=tmp_path, source=server.url)
    assert list(tmp_path.iterdir()) == []


def test_no_network_says_where_to_find_the_file(server: Server, tmp_path: Path) -> None:
    server.stop()
    with pytest.raises(DownloadError) as caught:
        resolve("yolov5n", cache=tmp_path, source=server.url)
    assert "cannot be downloaded: [Errno 111] Connection refused; download it by hand from" in str(caught.value)
    assert str(caught.value).endswith("/yolov5n.pt and pass the path")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_one_clear_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"the cache cannot be created: .*; set YOLOSHIP_CACHE to a folder"):
        resolve("yolov5n", cache=tmp_path / "file" / "cache", source=server.url)


@pytest.mark.parametrize("name", sorted(UNPINNED))
def test_a_name_without_a_pinned_checksum_is_not_fetched(name: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        resolve(name, cache=tmp_path)
    assert "is not downloaded, because its checksum is not known: expected one of yolov5n, yolov5s, yolov5m" in str(
        caught.value
    )
    assert f"/releases/download/v7.0/{name}.pt and pass the path" in str(caught.value)


def test_a_file_of_a_releases_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("yolov5s").touch()
    assert resolve("yolov5s", source="http://127.0.0.1:9") == Path("yolov5s")


@pytest.mark.parametrize("path", ["best.pt", "yolov5s.pt", "a/yolov5s", "yolov8n", "https:"])
def test_anything_else_is_a_path(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).touch()
    assert resolve(path) == Path(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yolov5s.pt", "yolov5s.pt: no such file; give 'yolov5s', without .pt, to download the official weights"),
        ("a/yolov5s.pt", "a/yolov5s.pt: no such file"),
        ("yolov8n", "yolov8n: no such file; the releases that can be downloaded by name are yolov5n, yolov5s, yolov5m"),
        ("bset.pt", "bset.pt: no such file; did you mean 'best.pt'?"),
        ("", "'': no such file"),
        (
            "https://example.org/best.pt",
            "https://example.org/best.pt: is an address, and yoloship reads files; download it",
        ),
        ("rtsp://cam/1", "rtsp://cam/1: is an address"),
        ("file:///tmp/best.pt", "file:///tmp/best.pt: is an address, and yoloship reads files; give the path itself"),
    ],
)
def test_a_missing_file_says_what_was_probably_meant(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("best.pt").touch()
    with pytest.raises(InputError) as caught:
        resolve(name)
    assert str(caught.value).startswith(message)


def test_the_pins_are_well_formed() -> None:
    for name, release in RELEASES.items():
        assert (release.name, release.file_name) == (name, f"{name}.pt")
        assert len(bytes.fromhex(release.sha256)) == 32
        assert release.size_bytes > 1_000_000
