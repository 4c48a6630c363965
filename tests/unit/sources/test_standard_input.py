"""The source ``-``: what the first bytes say, and that nothing is waited for or kept for ever."""

from __future__ import annotations

import io
import os
import sys
import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from helpers.videos import TIMES_MS, Clip, scene, write_clip
from yoloship.errors import InputError
from yoloship.sources import Frame, SourceOptions, open_source
from yoloship.sources.standard_input import StandardInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def encoded(suffix: str, index: int = 0) -> bytes:
    return bytes(cv2.imencode(suffix, scene(index, (64, 48)))[1].tobytes())


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """What is written into it comes from standard input."""
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    yield data
    data.seek(0)


def frames_of(given: io.BytesIO, data: bytes, step: int = 1) -> list[Frame]:
    given.write(data)
    given.seek(0)
    with StandardInput.open(["-"], SourceOptions(frame_step=step)) as source:
        return list(source)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".bmp", ".tiff"])
def test_the_bytes_of_an_image_are_one_image(given: io.BytesIO, suffix: str) -> None:
    data = encoded(suffix)
    (frame,) = frames_of(given, data)
    assert (frame.name, frame.image, frame.stream, frame.time_s) == ("stdin", data, None, None)


def test_several_jpeg_images_are_a_stream(given: io.BytesIO, caplog: pytest.LogCaptureFixture) -> None:
    images = [encoded(".jpg", index) for index in range(5)]
    frames = frames_of(given, b"".join(images))
    assert [frame.image for frame in frames] == images
    assert [frame.name for frame in frames] == [f"stdin#{index}" for index in range(5)]
    assert [frame.time_s for frame in frames] == [0, 0.04, 0.08, 0.12, 0.16]
    assert len({frame.stream for frame in frames}) == 1
    assert "stdin: MJPEG has no times, so 25 frames a second are assumed" in caplog.text


def test_a_multipart_message_is_a_stream_even_of_one_image(given: io.BytesIO) -> None:
    image = encoded(".jpg")
    head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n"
    data = (
        head + b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(image) + image + b"\r\n--x--\r\n"
    )
    (frame,) = frames_of(given, data)
    assert (frame.name, frame.image) == ("stdin#0", image)


def test_a_step_gives_every_nth_image_of_a_stream(given: io.BytesIO) -> None:
    frames = frames_of(given, b"".join(encoded(".jpg", index) for index in range(7)), step=3)
    assert [frame.index for frame in frames] == [0, 3, 6]


@pytest.mark.parametrize(
    "clip",
    [
        Clip(container="matroska"), Clip(container="mpegts"),
        Clip(container="mp4", container_options={"movflags": "frag_keyframe+empty_moov"}),
    ],
)  # fmt: skip
def test_a_video_comes_with_its_times(given: io.BytesIO, tmp_path: Path, clip: Clip) -> None:
    frames = frames_of(given, write_clip(tmp_path / "a", clip).read_bytes())
    assert [frame.time_s for frame in frames] == [time / 1000 for time in TIMES_MS]
    assert all(isinstance(frame.image, np.ndarray) for frame in frames)


def test_y4m_comes_with_its_rate(given: io.BytesIO) -> None:
    head = b"YUV4MPEG2 W64 H48 F10:1 Ip A1:1 C420jpeg\n"
    data = head + b"".join(
        b"FRAME\n" + bytes([40 * index]) * (64 * 48) + bytes([128]) * (64 * 24) for index in range(4)
    )
    frames = frames_of(given, data)
    assert [frame.time_s for frame in frames] == [0, 0.1, 0.2, 0.3]
    assert frames[0].stream is not None
    assert frames[0].stream.rate == 10
    means = [float(np.asarray(frame.image).mean()) for frame in frames]
    assert means == sorted(means)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "stdin: is empty; check the program that writes to it"),
        (b"hello", "stdin: is a text file, not an image"),
        (b"PK\x03\x04" + bytes(600), "stdin: is a checkpoint, not an image"),
        (bytes(range(1, 200)) * 40, "stdin: is not a video"),
        (b"\xff\xd8\xff" + bytes(3 << 20), "stdin: "),
    ],
)
def test_what_it_cannot_be_is_one_error(given: io.BytesIO, data: bytes, problem: str) -> None:
    (frame,) = frames_of(given, data)
    if frame.error is None:  # a broken image, of which decoding says what is wrong
        assert isinstance(frame.image, bytes)
    else:
        assert str(frame.error).startswith(problem)


def test_an_mp4_file_that_needs_seeking_says_what_to_do(
    given: io.BytesIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yoloship.sources.pyav_video._BUFFER_BYTES", 1024)
    data = write_clip(tmp_path / "a.mp4", Clip(size=(320, 240), times_ms=range(0, 8000, 40))).read_bytes()
    frames = frames_of(given, data)
    assert "if it is an MP4 file that was not made for streaming, give its name" in str(frames[-1].error)
    assert len(frames) <= 2


def test_a_terminal_and_a_closed_standard_input_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    closed = io.StringIO()
    closed.close()
    for stdin, problem in ((Terminal(), "is a terminal"), (None, "is closed"), (closed, "is closed")):
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(InputError, match=f"-: standard input {problem}; pipe an image or a video into it"):
            StandardInput.open(["-"])


def test_it_is_given_once_and_read_once(given: io.BytesIO) -> None:
    with pytest.raises(InputError, match="standard input can be read only once"):
        StandardInput.open(["-", "-"])
    with pytest.raises(InputError, match="is not standard input"):
        StandardInput.open(["x"])
    source = open_source(["-"])
    assert type(source) is StandardInput
    list(source)
    with pytest.raises(InputError, match="has been read already"):
        list(source)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a pipe to write to, whose other end is standard input."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as file, os.fdopen(write, "wb", buffering=0):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        yield write


@pytest.mark.timeout(120)
def test_frames_come_while_the_stream_goes_on(pipe: int) -> None:
    images = [encoded(".jpg", index) for index in range(3)]
    os.write(pipe, images[0] + images[1])
    with StandardInput.open(["-"]) as source:
        frames = iter(source)
        assert next(frames).image == images[0]
        assert next(frames).image == images[1]
        os.write(pipe, images[2])
        assert next(frames).image == images[2]


@pytest.mark.timeout(120)
@pytest.mark.skipif(not hasattr(__import__("select"), "poll"), reason="this system cannot wait for a pipe for a while")
def test_leaving_a_video_whose_writer_is_silent_does_not_wait(pipe: int, tmp_path: Path) -> None:
    data = write_clip(tmp_path / "a.ts", Clip(times_ms=range(0, 40_000, 40), size=(320, 240))).read_bytes()
    writer = threading.Thread(target=lambda: os.write(pipe, data[: len(data) // 2]), daemon=True)
    writer.start()
    with StandardInput.open(["-"]) as source:
        frames = iter(source)
        assert next(frames).index == 0
        frames.close()  # type: ignore[attr-defined]
    assert "yoloship-read" not in {thread.name for thread in threading.enumerate()}
