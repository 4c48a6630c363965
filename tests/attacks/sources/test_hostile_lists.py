"""Lists, CSV files and answers of web servers with random damage: images, errors of ours, and nothing else."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from helpers.archives import png
from helpers.web_server import WebServer, answer
from yoloship._util.addresses import AddressRules
from yoloship._util.fetching import fetch
from yoloship.errors import InputError, YoloshipError, visible
from yoloship.sources.csv_list import CsvList
from yoloship.sources.lists import SourceList

if TYPE_CHECKING:
    from pathlib import Path

PIECES = (
    b"a.png", b"b/*.png", b"\n", b"\r\n", b",", b";", b'"', b"source", b"#", b"\0", b"\xff", b"\xef\xbb\xbf", b"-",
    b"..", b"/", b"https://h/x.png", b"l.txt", b"~", b"\t", b" ", b"\x1b[2J", b"0", b"rtsp://h", b"[", b"**", b"\x85",
    b"\xe2\x80\xa8", b"x" * 300, b"nul:", b"zip:", b"con",
)  # fmt: skip


@pytest.mark.parametrize("kind", [SourceList, CsvList])
def test_any_text_is_a_list_or_one_clear_line(
    kind: type[SourceList], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chance = random.Random(12)
    path = tmp_path / "l.txt"
    opened = 0
    for _ in range(200):
        head = b"source\n" if kind is CsvList and chance.random() < 0.9 else b""
        path.write_bytes(head + b"".join(chance.choices(PIECES, k=chance.randrange(12))))
        try:
            with kind.open([str(path)]) as source:
                if not source.is_live and not any("://" in str(name) for name in source._names):
                    frames = list(source)
                    assert all(frame.image is not None or frame.error is not None for frame in frames)
                    opened += 1
        except InputError as error:
            problem = str(error)
            assert visible(problem) == problem, problem
    assert opened > 15
    assert [one.name for one in tmp_path.iterdir()] == ["l.txt"]


def test_any_answer_is_a_file_or_one_clear_line() -> None:
    chance = random.Random(13)
    whole = [
        answer(png()),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n2;x=y\r\nef\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /1\r\n\r\n",
    ]

    def damaged() -> bytes:
        data = bytearray(chance.choice(whole))
        for _ in range(chance.choice((1, 2, 5))):
            at = chance.randrange(len(data))
            data[at : at + chance.choice((0, 1, 4))] = chance.choice(
                (b"", b"\0", b"\r\n", b"\xff" * 3, b"9" * 20, b": ")
            )
        return bytes(data) or b"x"

    rules = AddressRules(allow_http=True, allow_private=True, max_bytes=10_000, timeout_s=60, max_redirects=1)
    read = 0
    with WebServer(lambda target: damaged()) as server:
        for _ in range(150):
            found = fetched(f"{server.url}/0", rules)
            read += isinstance(found, bytes)
            assert len(found) <= 10_000 if isinstance(found, bytes) else visible(found) == found
    assert read > 10


def fetched(url: str, rules: AddressRules) -> bytes | str:
    """What an address gives, or why it gives nothing."""
    try:
        return fetch(url, rules).data
    except YoloshipError as error:
        return str(error)
