"""The encoder: what FFmpeg and OpenCV read back of it."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest

from helpers.videos import scene
from yoloship.errors import DependencyError
from yoloship.sinks.mp4 import Mp4Encoder, fitted, load_encoder
from yoloship.sources import Frame, Stream

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.videos import Image

MS = Fraction(1, 1000)


def frame_at(time_s: float, stream: Stream, pts: int | None = None) -> Frame:
    return Frame(0, "a", None, time_s, stream, pts)


def encoded(images: list[Image], frames: list[Frame], stream: Stream) -> bytes:
    file = io.BytesIO()
    encoder = Mp4Encoder(file, stream, images[0].shape[:2])
    for image, frame in zip(images, frames, strict=True):
        encoder.add(image, frame)
    encoder.finish()
    return file.getvalue()


def read(data: bytes) -> list[Any]:
    with av.open(io.BytesIO(data)) as container:
        return list(container.decode(container.streams.video[0]))


def times_of(frames: list[Any]) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames]


def boxes_of(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        found.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big") or len(data)
    return found


def many(count: int, size: tuple[int, int] = (96, 64)) -> list[Image]:
    return [scene(index, size) for index in range(count)]


@pytest.mark.parametrize(
    ("base", "first"),
    [(MS, 0), (MS, 700), (Fraction(1, 90_000), 6570), (Fraction(1, 12_800), 0), (Fraction(1001, 30_000), 2)],
)
def test_each_frame_is_shown_at_the_time_of_the_source(base: Fraction, first: int) -> None:
    stream = Stream("a", rate=Fraction(25), time_base=base)
    pts = [first + step for step in (0, 1, 3, 40, 77, 78, 500)]
    frames = [frame_at(float((one - first) * base), stream, one) for one in pts]
    assert times_of(read(encoded(many(7), frames, stream))) == [one * base for one in pts]


def test_times_that_go_back_go_on_by_one_unit() -> None:
    stream = Stream("a", time_base=MS)
    frames = [frame_at(time, stream, pts) for time, pts in ((0, 5), (0.04, 45), (0.04, 45), (0.04, 30), (0.2, 205))]
    assert times_of(read(encoded(many(5), frames, stream))) == [5 * MS, 45 * MS, 46 * MS, 47 * MS, 205 * MS]


def test_a_camera_without_times_of_a_file_has_those_of_its_clock() -> None:
    stream = Stream("rtsp://camera", is_live=True)
    frames = [frame_at(time, stream) for time in (0, 0.1, 0.5, 3.25)]
    assert times_of(read(encoded(many(4), frames, stream))) == [0, Fraction(1, 10), Fraction(1, 2), Fraction(13, 4)]


def test_a_unit_too_small_for_mp4_becomes_one_that_it_has() -> None:
    stream = Stream("a", time_base=Fraction(1, 1_000_000_000))
    frames = [frame_at(time, stream, round(time * 1e9)) for time in (0, 0.04, 0.08)]
    found = times_of(read(encoded(many(3), frames, stream)))
    assert [float(time) for time in found] == pytest.approx([0, 0.04, 0.08], abs=1e-4)


def test_pixels_and_colours_survive_and_odd_sides_get_one_more(tmp_path: Path) -> None:
    stream = Stream("a", time_base=MS)
    image = np.zeros((63, 95, 3), np.uint8)
    for place, colour in enumerate([(30, 30, 220), (30, 220, 30), (220, 30, 30), (128, 128, 128), (255, 255, 255)]):
        image[:, 19 * place : 19 * place + 19] = colour
    data = encoded([image] * 3, [frame_at(0.04 * place, stream, 40 * place) for place in range(3)], stream)
    frame = read(data)[1]
    assert (frame.width, frame.height, frame.format.name) == (96, 64, "yuv420p")
    assert (frame.colorspace, frame.color_range) == (1, 1), "BT.709, limited, and said so"
    (tmp_path / "a.mp4").write_bytes(data)
    for shown in (frame.to_ndarray(format="bgr24"), cv2.VideoCapture(str(tmp_path / "a.mp4")).read()[1]):
        middles = [9 + 19 * place for place in range(5)]
        assert np.abs(shown[30, middles].astype(int) - image[30, middles]).max() <= 6


def test_a_frame_of_another_size_is_scaled_to_fit_between_black_bars() -> None:
    image = np.full((30, 120, 3), 200, np.uint8)
    found = fitted(image, (64, 96))
    assert found.shape == (64, 96, 3)
    assert found[32].min() == 200
    assert found[[0, 10, 55, 63]].max() == 0
    assert fitted(np.full((64, 96, 3), 7, np.uint8), (64, 96)).min() == 7
    assert fitted(np.full((63, 95, 3), 7, np.uint8), (64, 96)).min() == 7
    assert fitted(np.full((1, 4000, 3), 7, np.uint8), (2, 2)).shape == (2, 2, 3)


def test_the_file_grows_in_fragments_and_ends_with_their_index(tmp_path: Path) -> None:
    stream = Stream("a", rate=Fraction(25), time_base=MS)
    file = io.BytesIO()
    encoder = Mp4Encoder(file, stream, (64, 96))
    for index in range(200):
        encoder.add(scene(index, (96, 64)), frame_at(index * 0.04, stream, index * 40))
    growing = file.getvalue()
    assert boxes_of(growing)[:4] == [b"ftyp", b"moov", b"moof", b"mdat"]
    assert len(read(growing)) >= 100, "all but the last fragment and what the encoder holds"
    encoder.finish()
    assert boxes_of(file.getvalue())[-2:] == [b"mdat", b"mfra"]
    (tmp_path / "a.mp4").write_bytes(file.getvalue())
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    capture.set(cv2.CAP_PROP_POS_MSEC, 6000)
    assert capture.read()[0]
    assert capture.get(cv2.CAP_PROP_POS_MSEC) == pytest.approx(6000, abs=41), "it can be sought"
    with av.open(io.BytesIO(file.getvalue())) as container:
        assert container.duration == pytest.approx(8_000_000, abs=50_000), "its length is known"
        assert len(list(container.decode(container.streams.video[0]))) == 200


def test_a_slow_camera_is_on_disk_within_a_few_frames() -> None:
    stream = Stream("camera", is_live=True)
    file = io.BytesIO()
    encoder = Mp4Encoder(file, stream, (64, 96))
    for index in range(12):
        encoder.add(scene(index, (96, 64)), frame_at(index, stream))
    assert len(read(file.getvalue())) >= 8
    encoder.finish()
    assert times_of(read(file.getvalue())) == list(range(12))


def test_an_encoder_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.sinks.mp4.ENCODER", "libnothing")
    with pytest.raises(DependencyError) as caught:
        load_encoder()
    assert str(caught.value) == (
        "cannot write annotated videos: the installed PyAV has no encoder 'libnothing'; "
        "pip install 'yoloship[video]', or give --no-draw"
    )
