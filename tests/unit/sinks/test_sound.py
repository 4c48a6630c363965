"""The sound of a video in its annotated copy: the same packets at the same times, or AAC."""

from __future__ import annotations

import io
import logging
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from helpers.videos import AUDIO_RATE, Clip, read_back, scene, write_clip
from yoloship.errors import InputError
from yoloship.sinks.mp4 import Mp4Encoder
from yoloship.sinks.sound import Sound, audio_specific_config
from yoloship.sources.video import VideoFiles

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.videos import ReadBack


def copied(path: Path) -> ReadBack:
    file = io.BytesIO()
    with VideoFiles.open([str(path)]) as source:
        encoder = None
        for frame in source:
            assert isinstance(frame.image, np.ndarray)
            assert frame.stream is not None
            encoder = encoder or Mp4Encoder(file, frame.stream, frame.image.shape[:2])
            encoder.add(frame.image, frame)
        assert encoder is not None
        encoder.finish()
    made = path.with_name("made.mp4")
    made.write_bytes(file.getvalue())
    return read_back(made)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp4", "aac"), (".mkv", "aac"), (".mov", "alac"), (".mkv", "libmp3lame"), (".mkv", "libopus"),
        (".mkv", "flac"), (".mkv", "ac3"), (".ts", "mp2"),
    ],
)  # fmt: skip
def test_packets_are_copied_at_their_times(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_clip(tmp_path / f"a{suffix}", Clip(audio=codec))
    found, whole = copied(path), read_back(path)
    assert [data for _, data in found.audio] == [data for _, data in whole.audio]
    assert len(found.audio) > 5
    for (ours, _), (theirs, _) in zip(found.audio, whole.audio, strict=True):
        assert abs(ours - theirs) <= Fraction(1, 1000)
    assert found.times == whole.times


def test_sound_of_a_transport_stream_loses_only_its_headers(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.ts", Clip(audio="aac"))
    found, whole = copied(path), read_back(path)
    assert [data for _, data in found.audio] == [data[7:] for _, data in whole.audio]
    assert found.times == whole.times
    with av.open(str(tmp_path / "made.mp4")) as container:
        assert sum(frame.samples for frame in container.decode(container.streams.audio[0])) >= 1024 * len(whole.audio)


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_mulaw"])
def test_what_mp4_does_not_take_becomes_aac_and_sounds_the_same(
    tmp_path: Path, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_clip(tmp_path / "a.mov", Clip(audio=codec, times_ms=range(0, 1200, 40)))
    with caplog.at_level(logging.INFO, "yoloship.sinks"):
        found = copied(path)
    assert found.codecs == ("h264", "aac")
    assert f"the sound is encoded as AAC, because MP4 does not support {codec}" in caplog.text
    with av.open(str(tmp_path / "made.mp4")) as container:
        frames = list(container.decode(container.streams.audio[0]))
    wave = np.concatenate([frame.to_ndarray()[0] for frame in frames])[4800:24_000]
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert abs(np.argmax(spectrum) * AUDIO_RATE / len(wave) - 440) < 5


@pytest.mark.parametrize(("channels", "codecs"), [(6, ("h264", "aac")), (16, ("h264",))])
def test_speakers_without_a_stated_place_get_the_usual_one_and_too_many_of_them_leave_a_silent_video(
    tmp_path: Path, channels: int, codecs: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.mkv"  # Matroska does not state the places of PCM
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        layout = {6: "5.1", 16: "hexadecagonal"}[channels]
        audio = output.add_stream("pcm_s16le", rate=AUDIO_RATE, layout=layout)
        for index in range(5):
            output.mux(video.encode(av.VideoFrame.from_ndarray(scene(index, (96, 64)), format="bgr24")))
        output.mux(video.encode(None))
        samples = np.zeros((1, AUDIO_RATE // 5 * channels), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, 0, Fraction(1, AUDIO_RATE)
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    found = copied(path)
    assert found.codecs == codecs
    assert found.times == read_back(path).times
    assert ("sound of 16 channels cannot be encoded as AAC" in caplog.text) is (channels == 16)


def test_sound_may_begin_late_and_end_early_or_late(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        audio = output.add_stream("aac", rate=AUDIO_RATE, layout="mono")
        packets = []
        for index in range(100):
            packets += video.encode(av.VideoFrame.from_ndarray(scene(index, (96, 64)), format="bgr24"))
        packets += video.encode(None)
        for start in [*range(2 * AUDIO_RATE, 3 * AUDIO_RATE, 1024), *range(6 * AUDIO_RATE, 7 * AUDIO_RATE, 1024)]:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
            packets += audio.encode(frame)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            output.mux(packet)
    found, whole = copied(path), read_back(path)
    assert [data for _, data in found.audio] == [data for _, data in whole.audio]
    for (ours, _), (theirs, _) in zip(found.audio, whole.audio, strict=True):
        assert abs(ours - theirs) <= Fraction(1, 1000)
    assert found.times == whole.times


def test_a_video_that_is_gone_is_one_line_and_the_annotated_one_is_without_sound(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(audio="aac"))
    with VideoFiles.open([str(path)]) as source:
        frames = list(source)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        Sound(path, None)
    assert frames[0].stream is not None
    encoder = Mp4Encoder(io.BytesIO(), frames[0].stream, (64, 96))
    encoder.finish()
    assert f"the annotated video is without sound: {path}: no such file" in caplog.text


@pytest.mark.parametrize(
    ("header", "config"),
    [("fff15080", "1210"), ("fff94c80", "1190"), ("fff16080", "1410"), ("fff15040", "1208")],
)
def test_the_headers_of_a_transport_stream_say_what_mp4_wants_to_know(header: str, config: str) -> None:
    assert audio_specific_config(bytes.fromhex(header)).hex() == config
