"""Small videos for tests, made by PyAV: the same bytes every time."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Image = npt.NDArray[np.uint8]

AUDIO_RATE = 48_000
TIMES_MS = (0, 40, 73, 123, 143, 243, 283, 316, 366, 386, 486, 526)
"""When the frames of a video of variable rate are shown, in milliseconds."""


@dataclass(frozen=True)
class Clip:
    """What a video shall be like.

    Attributes:
        times_ms: When each frame is shown.
        size: (width, height) of each frame.
        codec: Name of FFmpeg's encoder.
        pixel_format: As FFmpeg calls it.
        audio: Name of the encoder of its sound; None for none.
        rotation: Degrees that the display matrix states, counterclockwise.
        options: Of the encoder.
        container_options: Of the container.
        container: Its name; None goes by the file's suffix.
        time_base: Seconds of one unit of time.
        gop: Frames from one key frame to the next.
        colour: (colour space, range) as FFmpeg numbers them, None if it is not stated.
    """

    times_ms: Sequence[int] = TIMES_MS
    size: tuple[int, int] = (96, 64)
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    audio: str | None = None
    rotation: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    container: str | None = None
    time_base: Fraction = Fraction(1, 1000)
    gop: int = 4
    colour: tuple[int, int] | None = None


def scene(index: int, size: tuple[int, int]) -> Image:
    """(height, width, 3) uint8 BGR: a bright square that moves over a slope; its blue says which frame it is."""
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = 20 * index % 250
    image[..., 1] = np.linspace(0, 120, width, dtype=np.uint8)
    image[..., 2] = np.linspace(0, 120, height, dtype=np.uint8)[:, None]
    at = 4 * index % max(1, width - 16)
    image[height // 4 : height // 4 + 16, at : at + 16] = 230
    return image


def write_clip(path: Path, clip: Clip = Clip()) -> Path:
    """Write a video of `scene`; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        _same_scheduling(),
        av.open(str(path), "w", format=clip.container, options=dict(clip.container_options)) as output,
    ):
        video: Any = output.add_stream(clip.codec, rate=25, options=dict(clip.options))
        video.width, video.height = clip.size
        video.pix_fmt = clip.pixel_format
        video.codec_context.time_base = clip.time_base
        video.codec_context.gop_size = clip.gop
        if clip.colour is not None:
            video.codec_context.colorspace, video.codec_context.color_range = clip.colour
        if clip.rotation:
            video.set_display_rotation(clip.rotation)
        audio: Any = output.add_stream(clip.audio, rate=AUDIO_RATE, layout="mono") if clip.audio else None
        for index, time_ms in enumerate(clip.times_ms):
            frame = av.VideoFrame.from_ndarray(scene(index, clip.size), format="bgr24")
            frame.pts, frame.time_base = round(Fraction(time_ms, 1000) / clip.time_base), clip.time_base
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio is not None:
            _write_tone(output, audio, (max(clip.times_ms) + 40) * AUDIO_RATE // 1000)
    return path


@contextmanager
def _same_scheduling() -> Iterator[None]:
    """SVT-AV1 gives the thread that opens it real-time priority if that is root's; all that it starts inherits it."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _write_tone(output: Any, audio: Any, count: int) -> None:
    wave = (8000 * np.sin(np.arange(count) * (2 * np.pi * 440 / AUDIO_RATE))).astype(np.int16)
    for start in range(0, count, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
        output.mux(audio.encode(frame))
    output.mux(audio.encode(None))


@dataclass(frozen=True)
class ReadBack:
    """What FFmpeg's own library says of a video.

    Attributes:
        times: Seconds at which each frame is shown.
        images: (height, width, 3) uint8 BGR, as they are stored.
        audio: The time in seconds and the bytes of each packet of sound.
        codecs: Of its streams.
    """

    times: tuple[Fraction, ...]
    images: tuple[Image, ...]
    audio: tuple[tuple[Fraction, bytes], ...]
    codecs: tuple[str, ...]


def read_back(path: Path) -> ReadBack:
    """Read a whole video."""
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.video[0]))
        codecs = tuple(stream.codec_context.name for stream in container.streams)
    audio: list[tuple[Fraction, bytes]] = []
    with av.open(str(path)) as container:
        if container.streams.audio:
            packets = container.demux(container.streams.audio[0])
            audio = [(one.pts * Fraction(one.time_base), bytes(one)) for one in packets if one.size]
    return ReadBack(
        tuple(frame.pts * Fraction(frame.time_base) for frame in frames if frame.pts is not None),
        tuple(frame.to_ndarray(format="bgr24") for frame in frames),
        tuple(audio),
        codecs,
    )


def packets_of(path: Path) -> list[tuple[int, int]]:
    """The place in the file and the length of each packet of the video."""
    with av.open(str(path)) as container:
        return [(p.pos or 0, p.size) for p in container.demux(container.streams.video[0]) if p.size]


def without_stated_order(path: Path) -> Path:
    """Take from an H.264 video what says how far frames are out of order, as some encoders leave it out.

    Source: ITU-T H.264, 7.3.2.1.1: everything behind `vui_parameters_present_flag` is optional.
    """
    data = bytearray(path.read_bytes())
    at = data.index(b"avcC") + 4 + 6
    size = int.from_bytes(data[at : at + 2], "big")
    start = at + 2
    bits = "".join(f"{byte:08b}" for byte in data[start : start + size])
    place = 32  # behind the header, the profile, its constraints and the level

    def number() -> int:
        nonlocal place
        zeros = bits.index("1", place) - place
        value = int(bits[place + zeros : place + 2 * zeros + 1], 2) - 1
        place += 2 * zeros + 1
        return value

    number()
    if data[start + 1] == 100:
        assert [number() for _ in range(3)] == [1, 0, 0]  # 4:2:0 of 8 bits
        place += 2
    number()
    if number() == 0:
        number()
    number()
    place += 1
    number(), number()
    place += 2
    place += 1
    if bits[place - 1] == "1":
        for _ in range(4):
            number()
    assert bits[place] == "1"
    kept = (bits[:place] + "01").ljust(8 * size, "0")
    data[start : start + size] = bytes(int(kept[n : n + 8], 2) for n in range(0, 8 * size, 8))
    path.write_bytes(data)
    return path
