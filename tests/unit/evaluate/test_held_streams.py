from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.videos import Clip, write_clip
from yoloship.errors import YoloshipError
from yoloship.evaluate import held_streams
from yoloship.evaluate.held_streams import HeldImages, HeldVideos, due_frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack
    from pathlib import Path

IMAGES = [np.full((4, 6, 3), number, np.uint8) for number in range(3)]


class Clock:
    """A time that goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds + 1e-9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(held_streams, "time", made)
    return made


def test_each_stream_has_its_own_phase_and_shows_the_images_in_turn(clock: Clock) -> None:
    source = HeldImages(IMAGES, 2, 10.0, 0.2)
    frames = list(source)
    assert [(frame.name, frame.time_s) for frame in frames] == [
        ("stream 0#0", 0.0), ("stream 1#0", pytest.approx(0.05)), ("stream 0#1", pytest.approx(0.1)),
        ("stream 1#1", pytest.approx(0.15)),
    ]  # fmt: skip
    shown: list[Any] = [frame.image for frame in frames]
    assert [int(image[0, 0, 0]) for image in shown] == [0, 1, 1, 2]
    assert clock.now_s == pytest.approx(100.15, abs=1e-6)
    assert source.begun_s == 100.0
    assert source.is_ready()  # that it has ended


def test_a_frame_is_gone_when_the_next_one_of_its_stream_is_due(clock: Clock) -> None:
    source = HeldImages(IMAGES, 2, 10.0, 0.5)
    frames = iter(source)
    assert next(frames).name == "stream 0#0"
    assert not source.is_ready()
    clock.now_s += 0.17  # #1 of both are due; #0 of stream 1 is gone with that
    assert source.is_ready()
    assert [next(frames).name for _ in range(3)] == ["stream 0#1", "stream 1#1", "stream 0#2"]
    clock.now_s += 10
    assert list(frames) == []


def test_frames_that_are_due_are_counted() -> None:
    assert due_frames(2, 10.0, 0.0, 0.2) == 4
    assert due_frames(2, 10.0, 0.1, 0.2) == 2
    assert due_frames(3, 30.0, 0.5, 3.5) == 270
    assert due_frames(1, 30.0, 0.0, 0.01) == 1


@pytest.fixture
def video(tmp_path: Path) -> Path:
    pytest.importorskip("av")
    return write_clip(tmp_path / "clip.mp4", Clip(times_ms=(0, 40, 80)))


def test_videos_are_played_over_and_over_by_as_many_streams_as_there_shall_be(video: Path) -> None:
    before = threading.active_count()
    with HeldVideos([video], 2, 50.0, 0.2) as source:
        frames = list(source)
    assert {frame.name.split("#")[0] for frame in frames} == {"stream 0", "stream 1"}
    assert all(isinstance(frame.image, np.ndarray) for frame in frames)
    times = [(frame.time_s, frame.index, frame.name) for frame in frames]
    assert all(
        time_s == pytest.approx((index + (0.5 if name.startswith("stream 1") else 0)) / 50)
        for time_s, index, name in times
    )
    assert source.begun_s > 0
    assert source.is_ready()
    assert threading.active_count() == before


class Device:
    """Lends a decoder whose frames lie on a device."""

    takes_files, side_by_side = True, 2

    def __init__(self) -> None:
        self.given = self.closed = 0
        self.decoders_closed = 0

    def open(self, _path: Path, resources: ExitStack, _tell: Any) -> Any:
        resources.callback(self._close_decoder)
        return self

    def _close_decoder(self) -> None:
        self.decoders_closed += 1

    stream: Any = type("Stream", (), {"name": "v", "time_base": None, "rate": None})

    def frames(self, _: Any) -> Iterator[Any]:
        from yoloship.sources.reader import Decoded

        for _number in range(1000):
            self.given += 1
            image: Any = type("Image", (), {"close": self._close, "nbytes": 1})()
            yield Decoded(image)

    def _close(self) -> None:
        self.closed += 1


def test_frames_that_nobody_takes_give_their_memory_back(tmp_path: Path) -> None:
    source, device = HeldVideos([tmp_path / "any.mp4"], 3, 100.0, 60.0), Device()
    source.decode_with(device)  # type: ignore[arg-type]  # it has what is used
    frames: Any = iter(source)
    taken = [next(frames) for _ in range(4)]
    frames.close()
    source.close()
    assert device.given - device.closed == len(taken)
    for frame in taken:
        frame.image.close()


def test_a_video_that_cannot_be_read_ends_the_run(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with (
        HeldVideos([tmp_path / "clip.mp4"], 2, 10.0, 10.0) as source,
        pytest.raises(YoloshipError, match=r"clip\.mp4"),
    ):
        list(source)


def test_no_decoder_is_closed_while_results_of_other_streams_may_be_awaited(tmp_path: Path) -> None:
    device = Device()
    with HeldVideos([tmp_path / "any.mp4"], 3, 100.0, 0.05) as source:
        source.decode_with(device)  # type: ignore[arg-type]  # it has what is used
        for frame in source:
            image: Any = frame.image
            image.close()
        assert device.decoders_closed == 0
    assert device.decoders_closed == 3
    assert device.given == device.closed
