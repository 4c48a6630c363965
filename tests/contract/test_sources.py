"""One suite over every source of the table: what a run may rely on."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import av
import cv2
import numpy as np
import pytest

from helpers.cameras import BytesServer, video_bytes
from helpers.web_server import WebServer, answer
from yoloship._util.tables import Table
from yoloship.errors import InputError
from yoloship.images import read_image
from yoloship.sources import SOURCES, AddressRules, Frame, Source, SourceOptions, open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COUNT = 3


def _images(folder: Path) -> list[str]:
    for index in range(COUNT):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((48, 64, 3), 80 * index, np.uint8))
    return [str(folder)]


def _video(folder: Path) -> list[str]:
    with av.open(str(folder / "a.mkv"), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for index in range(COUNT):
            image = np.full((48, 64, 3), 80 * index, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        output.mux(stream.encode(None))
    return [str(folder / "a.mkv")]


def _stdin(folder: Path) -> list[str]:
    images = (np.full((48, 64, 3), 80 * index, np.uint8) for index in range(COUNT))
    data = b"".join(cv2.imencode(".jpg", image)[1].tobytes() for image in images)
    sys.stdin = io.TextIOWrapper(io.BytesIO(data))
    return ["-"]


def _live(folder: Path) -> list[str]:
    SERVERS.append(BytesServer(video_bytes(COUNT)))
    return [SERVERS[-1].address]


def _list(folder: Path) -> list[str]:
    (images,) = _images(folder)
    lines = [f"{index}.png" for index in range(COUNT)]
    Path(images, "images.txt").write_text("\n".join(["# three", *lines, ""]), encoding="utf-8")
    return [str(folder / "images.txt")]


def _csv(folder: Path) -> list[str]:
    (images,) = _images(folder)
    rows = [f'{index},"{Path(images, f"{index}.png")}"' for index in range(COUNT)]
    Path(images, "images.csv").write_text("\n".join(["id,source", *rows]), encoding="utf-8")
    return [str(folder / "images.csv")]


def _archives(folder: Path) -> list[str]:
    """The first image in a zip archive, the others in a packed tar archive."""
    _images(folder)
    with ZipFile(folder / "a.zip", "w") as first:
        first.write(folder / "0.png", "in/0.png")
    with tarfile.open(folder / "b.tar.gz", "w:gz") as second:
        for index in (1, 2):
            second.add(folder / f"{index}.png", f"in/{index}.png")
    return [str(folder / "a.zip"), str(folder / "b.tar.gz")]


def _url(folder: Path) -> list[str]:
    _images(folder)
    return [f"{_server().url}{folder}/{index}.png" for index in range(COUNT)]


OPTIONS = SourceOptions(live="every", addresses=AddressRules(allow_http=True, allow_private=True))


@cache
def _server() -> WebServer:
    """Serves the files that `_url` names, as long as the tests run."""
    return WebServer(lambda target: answer(Path(target).read_bytes()))


MAKE: dict[str, Callable[[Path], list[str]]] = {
    "images": _images, "video": _video, "list": _list, "csv": _csv, "archive": _archives, "url": _url,
    "live": _live, "stdin": _stdin,
}  # fmt: skip
"""For each source, makes something with three frames of 48×64, each brighter than the last, and names it."""
SERVERS: list[BytesServer] = []
"""What was made and runs; it is closed after each test."""


@pytest.fixture(params=list(SOURCES.own))
def kind(request: pytest.FixtureRequest) -> type[Source]:
    return SOURCES.load(request.param)


@pytest.fixture
def texts(kind: type[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setattr(sys, "stdin", sys.stdin)  # it is as it was after the test
    (name,) = (name for name in SOURCES.own if SOURCES.load(name) is kind)
    if name == "live" and sys.platform == "win32":
        pytest.skip("live sources are not for Windows yet")
    yield MAKE[name](tmp_path)
    while SERVERS:
        SERVERS.pop().close()


def pixels(frame: Frame) -> np.ndarray:
    if isinstance(frame.image, Path | bytes):
        return read_image(frame.image)
    assert isinstance(frame.image, np.ndarray)
    return frame.image


def test_every_source_is_tried_here() -> None:
    assert set(MAKE) == set(SOURCES.own)


def test_the_table_is_read_only_and_says_what_each_reads(kind: type[Source]) -> None:
    assert isinstance(SOURCES, Table)
    assert kind.help.endswith(".")


def test_frames_come_in_order_with_their_places_and_names(kind: type[Source], texts: list[str]) -> None:
    with kind.open(texts, OPTIONS) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert len({frame.name for frame in frames}) == COUNT
    means = [float(pixels(frame).mean()) for frame in frames]
    assert means == sorted(means)
    assert len(set(means)) == COUNT


def test_frames_are_images_in_bgr_or_files(kind: type[Source], texts: list[str]) -> None:
    with kind.open(texts, OPTIONS) as source:
        for frame in source:
            assert isinstance(frame.image, Path | bytes | np.ndarray)
            assert pixels(frame).shape == (48, 64, 3)
            assert pixels(frame).dtype == np.uint8


def test_what_it_says_beforehand_is_true(kind: type[Source], texts: list[str]) -> None:
    with kind.open(texts, OPTIONS) as source:
        count, files = source.count, source.files
        frames = list(source)
    assert count in {None, len(frames)}
    if files is not None:
        assert [frame.image for frame in frames] == list(files)
        assert [frame.name for frame in frames] == [str(path) for path in files]


def test_it_is_read_one_frame_at_a_time_and_may_be_left_early(kind: type[Source], texts: list[str]) -> None:
    with kind.open(texts, OPTIONS) as source:
        assert next(iter(source)).index == 0
    source.close()


def test_nothing_there_is_one_clear_line(kind: type[Source], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        kind.open([str(tmp_path / "empty")], OPTIONS)
    assert "\n" not in str(caught.value)


def test_it_is_the_one_that_takes_its_own_texts(kind: type[Source], texts: list[str]) -> None:
    with open_source(texts, OPTIONS) as source:
        assert type(source) is kind


def test_importing_the_table_loads_no_heavy_library() -> None:
    program = "import sys, yoloship.sources\nassert not {'cv2', 'PIL', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
