"""Decoding by PyAV: what is given, what is named as broken, and what is refused."""

from __future__ import annotations

import io
import sys
from contextlib import ExitStack
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest

from helpers.videos import Clip, packets_of, read_back, scene, write_clip
from yoloship.errors import DependencyError, InputError
from yoloship.images import ImageLimits
from yoloship.sources.pyav_video import PyavVideo, load_av

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.sources.reader import Decoded


def decoded(path: Path, limits: ImageLimits | None = None) -> list[Decoded]:
    with ExitStack() as stack:
        return list(PyavVideo.of_path(path, stack, limits=limits or ImageLimits()).frames(lambda _: True))


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught, ExitStack() as stack:
        list(PyavVideo.of_path(path, stack).frames(lambda _: True))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov"])
def test_every_frame_is_given_with_the_time_of_the_file(tmp_path: Path, suffix: str) -> None:
    path = write_clip(tmp_path / f"a{suffix}", Clip(audio="aac"))
    with ExitStack() as stack:
        video = PyavVideo.of_path(path, stack)
        base = video.stream.time_base
        frames = list(video.frames(lambda _: True))
    assert base is not None
    whole = read_back(path)
    assert tuple((frame.pts or 0) * base for frame in frames) == whole.times
    for frame, image in zip(frames, whole.images, strict=True):
        assert isinstance(frame.image, np.ndarray)
        assert np.abs(frame.image.astype(int) - image).max() == 0
        assert not frame.image.flags.writeable


def test_a_video_says_when_all_its_packets_were_decoded(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    with ExitStack() as stack:
        video = PyavVideo.of_path(path, stack)
        seen = [video.is_at_end for _ in video.frames(lambda _: True)]
        assert seen == [False] * 12
        assert video.is_at_end


def test_a_stream_says_what_the_file_declares(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(times_ms=range(0, 400, 40), time_base=Fraction(1, 25), audio="aac"))
    with ExitStack() as stack:
        stream = PyavVideo.of_path(path, stack).stream
    assert (stream.name, stream.path, stream.rate, stream.frame_count) == (str(path), path, Fraction(25), 10)
    assert stream.has_audio
    assert not stream.is_live


def test_frames_that_are_not_wanted_are_not_converted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    with ExitStack() as stack:
        frames = list(PyavVideo.of_path(path, stack).frames(lambda place: place % 3 == 0))
    assert [frame.image is not None for frame in frames] == [place % 3 == 0 for place in range(12)]


@pytest.mark.parametrize(("damage", "cores"), [("zeros", 1), ("noise", 1), ("some", 1), ("zeros", 3), ("noise", 3)])
def test_a_damaged_packet_in_the_middle_is_one_broken_frame(
    tmp_path: Path, damage: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yoloship.sources.pyav_video.usable_cores", lambda: cores)
    path = write_clip(tmp_path / "a.mp4")
    whole = [frame.pts for frame in decoded(path)]
    data = bytearray(path.read_bytes())
    at, size = packets_of(path)[5]
    noise = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    if damage == "some":
        data[at + 30 : at + size : 20] = noise[30::20].tobytes()
    else:
        data[at : at + size] = bytes(size) if damage == "zeros" else noise.tobytes()
    path.write_bytes(data)
    frames = decoded(path)
    assert len(frames) == 12
    (broken,) = [frame for frame in frames if frame.error is not None]
    assert "frame is damaged" in str(broken.error)
    assert [frame.pts for frame in frames if frame.error is None] == [pts for pts in whole if pts != broken.pts]


def test_frames_that_a_damaged_key_frame_takes_along_are_counted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    at, size = packets_of(path)[4]
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    frames = decoded(path)
    errors = [str(frame.error) for frame in frames if frame.error is not None]
    assert "frame is damaged" in errors[0]
    given = len(frames) - 1
    assert errors[-1] == f"{12 - given} of 12 frames could not be decoded, because others are damaged"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("part", [0.5, 0.7, 0.9])
def test_a_cut_video_gives_its_frames_and_then_one_error(tmp_path: Path, suffix: str, part: float) -> None:
    clip = Clip(container_options={"movflags": "faststart"} if suffix == ".mp4" else {}, size=(320, 240))
    if suffix == ".avi":
        clip = Clip(codec="mpeg4", times_ms=range(0, 480, 40), time_base=Fraction(1, 25), size=(320, 240))
    path = write_clip(tmp_path / f"a{suffix}", clip)
    whole, data = decoded(path), path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    frames = decoded(path)
    assert len(frames) <= len(whole)
    images = {frame.pts: frame.image for frame in whole}
    for frame in frames[:-1]:
        assert frame.image is not None
        assert np.array_equal(frame.image, images[frame.pts])  # type: ignore[arg-type]
    assert "is cut short: " in str(frames[-1].error)
    assert "bytes are missing after this frame; copy the video again" in str(frames[-1].error)


def test_a_video_without_the_table_of_its_frames_says_that_it_is_cut(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:2000])
    assert "is cut short before its first frame: " in refusal(path)


def test_a_video_whose_every_frame_is_damaged_is_given_up(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(times_ms=range(0, 4800, 40), gop=1))
    data = bytearray(path.read_bytes())
    for at, size in packets_of(path):
        data[at : at + size] = bytes(size)
    path.write_bytes(data)
    frames = decoded(path)
    assert len(frames) == 101
    assert str(frames[-1].error) == "was abandoned after 100 damaged frames in a row"


def test_sound_alone_and_a_song_with_a_cover_are_no_videos(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.m4a"), "w") as output:
        audio = output.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    assert refusal(tmp_path / "song.m4a").endswith("song.m4a: has no video: got audio")


def test_a_codec_that_is_missing_is_named(tmp_path: Path) -> None:
    for suffix, old, new in ((".mp4", b"avc1", b"zzz1"), (".mkv", b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/ZZZ")):
        path = write_clip(tmp_path / f"a{suffix}")
        path.write_bytes(path.read_bytes().replace(old, new))
        assert refusal(path) == (
            f"{path}: has a codec that the installed FFmpeg cannot decode: got {new.decode()!r}; "
            "convert the video to H.264"
        )


def test_a_playlist_cannot_open_other_files(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.ts")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:3,\n{tmp_path / 'a.ts'}\n#EXT-X-ENDLIST\n")
    assert "list.m3u8: is not a video" in refusal(playlist)


@pytest.mark.parametrize("data", [b"", b"hello", bytes(5000), b"\0\0\0\x18ftypisom" + bytes(3000)])
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path}: is ")


def test_a_video_of_no_frames_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.y4m"
    path.write_bytes(b"YUV4MPEG2 W64 H48 F25:1 C420\n")
    (frame,) = decoded(path)
    assert str(frame.error) == "has no frames: got yuv4mpegpipe"


def test_a_video_beyond_the_limits_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"a\.mp4: frame is too large: expected at most 5,000 pixels .* got 96×64"):
        decoded(path, ImageLimits(max_pixels=5000))


def mjpeg(*sizes: tuple[int, int]) -> bytes:
    return b"".join(cv2.imencode(".jpg", scene(index, size))[1].tobytes() for index, size in enumerate(sizes))


def test_frames_that_change_their_size_keep_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.mjpeg"
    path.write_bytes(mjpeg((96, 64), (96, 64), (64, 48), (200, 100)))
    frames = decoded(path)
    assert [frame.image.shape for frame in frames if isinstance(frame.image, np.ndarray)] == [
        (64, 96, 3), (64, 96, 3), (48, 64, 3), (100, 200, 3),
    ]  # fmt: skip


def test_a_frame_that_grows_beyond_the_limits_is_an_error_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.mjpeg"
    path.write_bytes(mjpeg((96, 64), (400, 300), (96, 64)))
    frames = decoded(path, ImageLimits(max_pixels=50_000))
    assert [frame.error is None for frame in frames] == [True, False, True]


def test_bytes_that_cannot_be_sought_are_read_as_they_come(tmp_path: Path) -> None:
    data = write_clip(tmp_path / "a.mkv").read_bytes()

    class Pipe:
        def __init__(self) -> None:
            self._bytes = io.BytesIO(data)

        def read(self, count: int) -> bytes:
            return self._bytes.read(min(count, 700))

    video = PyavVideo(Pipe(), "pipe")  # type: ignore[arg-type]
    assert len(list(video.frames(lambda _: True))) == 12
    video.close()
    video.close()


def test_a_title_that_is_not_utf_8_is_no_reason_to_refuse_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        output.metadata["title"] = "TITLE-ABCDE"
        video: Any = output.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "bgr0"
        output.mux(video.encode(av.VideoFrame.from_ndarray(scene(0, (96, 64)), format="bgr24")))
        output.mux(video.encode(None))
    path.write_bytes(path.read_bytes().replace(b"TITLE-ABCDE", b"TITLE-\xe9\xff\xfeDE"))
    (frame,) = decoded(path)
    assert frame.error is None


def test_without_pyav_the_way_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DependencyError, match=r"a\.mp4: needs PyAV; pip install 'yoloship\[video\]'"):
        load_av("a.mp4")
