"""Video files on the decoders of a GPU, real or stood in for, against the CPU's decoder."""

from __future__ import annotations

import gc
import io
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.nvdec_stand_in import SIZE, StandInAv, StandInFrame
from helpers.videos import Clip, packets_of, without_stated_order, write_clip
from yoloship.cuda.nvdec import NvdecDecoder
from yoloship.cuda.nvdec_video import NvdecVideo, NvdecVideos
from yoloship.errors import InputError, YoloshipError
from yoloship.images import ImageLimits
from yoloship.sources import pyav_video
from yoloship.sources.pyav_video import PyavVideo
from yoloship.sources.video import VideoFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.cuda.nvdec import Nvdec
    from yoloship.sources import Frame
    from yoloship.sources.reader import VideoReader


def read(
    opened: Callable[[ExitStack], VideoReader], is_wanted: Callable[[int], bool] = lambda _: True
) -> tuple[list[Any], list[bool]]:
    """What a reader gives of each frame, with its pixels on the host; and which frames were on the device."""
    found, on_device = [], []
    with ExitStack() as stack:
        try:
            for decoded in opened(stack).frames(is_wanted):
                image: Any = decoded.image
                is_there = hasattr(image, "host")
                pixels = image.host() if is_there else image
                if is_there:
                    image.close()
                if image is not None:
                    on_device.append(is_there)
                found.append((pixels, decoded.pts, None if decoded.error is None else str(decoded.error)))
        except YoloshipError as error:
            found.append((None, None, str(error)))
    return found, on_device


def compare(
    nvdec: Nvdec, path: Path, is_wanted: Callable[[int], bool] = lambda _: True, *, apart: int = 0, **how: Any
) -> tuple[list[bool], list[str]]:
    """Assert that the GPU gives what the CPU gives; say which frames it decoded, and what was told.

    Values of pixels may be `apart` by that much, and by a tenth of it on average.
    """
    told: list[str] = []
    limits = how.get("limits", ImageLimits())
    expected, _ = read(lambda stack: PyavVideo.of_path(path, stack, limits=limits), is_wanted)
    found, on_device = read(lambda stack: NvdecVideos(nvdec, **how).open(path, stack, told.append), is_wanted)
    assert [(pts, error) for _, pts, error in found] == [(pts, error) for _, pts, error in expected]
    for (pixels, _, _), (wanted, _, _) in zip(found, expected, strict=True):
        if apart and pixels is not None:
            difference = np.abs(pixels.astype(int) - wanted)
            assert difference.max() <= apart
            assert difference.mean() <= apart / 10
        else:
            np.testing.assert_array_equal(pixels, wanted)
    gc.collect()
    return on_device, told


@pytest.mark.parametrize(
    "clip",
    [
        Clip(size=SIZE),
        Clip(size=SIZE, audio="aac", gop=12, options={"bf": "2"}),
        Clip(size=SIZE, rotation=90),
        Clip(size=SIZE, rotation=180, colour=(1, 1)),
        Clip(size=SIZE, rotation=-90, colour=(1, 2)),
        Clip(size=(190, 158), colour=(9, 1)),
        Clip(size=SIZE, pixel_format="yuvj420p", colour=(6, 2)),
        Clip(size=SIZE, codec="mpeg2video", times_ms=tuple(range(0, 480, 40)), time_base=Clip.time_base * 40),
        Clip(size=SIZE, codec="mpeg1video", times_ms=tuple(range(0, 480, 40)), time_base=Clip.time_base * 40),
        Clip(size=SIZE, codec="libx265", options={"x265-params": "log-level=none"}),
    ],
    ids=lambda clip: f"{clip.codec} {clip.pixel_format} {clip.rotation} {clip.colour} {clip.audio}",
)
def test_frames_times_and_turns_are_those_of_the_cpu(
    nvdec: Nvdec, nvdec_stand_in: StandInAv | None, tmp_path: Path, clip: Clip
) -> None:
    # MPEG-1 and MPEG-2 leave the rounding of their transform to the decoder. An H100 was apart by 6, and by 0.08 on
    # average.
    is_inexact = nvdec_stand_in is None and clip.codec in {"mpeg1video", "mpeg2video"}
    on_device, told = compare(nvdec, write_clip(tmp_path / "a.mkv", clip), apart=8 if is_inexact else 0)
    assert (on_device, told) == ([True] * 12, [])


def test_frames_come_in_order_though_the_video_does_not_state_how_far_they_are_out_of_it(
    nvdec: Nvdec, tmp_path: Path
) -> None:
    options = {"bf": "3", "b_strategy": "0", "x264-params": "b-pyramid=2:ref=4"}
    clip = Clip(size=SIZE, gop=30, times_ms=tuple(range(0, 1600, 40)), options=options)
    path = without_stated_order(write_clip(tmp_path / "a.mp4", clip))
    assert compare(nvdec, path) == ([True] * 40, [])


def test_frames_that_are_not_wanted_are_passed_over(nvdec: Nvdec, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    assert compare(nvdec, path, lambda place: place % 5 == 0) == ([True] * 3, [])


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        (Clip(size=SIZE, pixel_format="yuv422p"), "has pixels that the GPU's letterbox does not take (yuv422p)"),
        (Clip(size=SIZE, codec="mjpeg", pixel_format="yuvj420p"), "mjpeg: is a codec that NVDEC does not have"),
        (Clip(size=SIZE, codec="mpeg4"), "mpeg4: is a codec that NVDEC does not have"),
        (Clip(size=SIZE, colour=(7, 1)), "states a colour matrix that the GPU's letterbox does not have (number 7)"),
    ],
    ids=["4:2:2", "MJPEG", "MPEG-4", "colours"],
)
def test_what_the_gpu_does_not_take_is_decoded_by_the_cpu_and_said(
    nvdec: Nvdec, tmp_path: Path, clip: Clip, reason: str
) -> None:
    path = write_clip(tmp_path / "a.mkv", clip)
    on_device, told = compare(nvdec, path)
    assert on_device == [False] * 12
    assert told == [f"{path}: decoded by the CPU: {reason}"]
    found, _ = read(lambda stack: NvdecVideos(nvdec, "none").open(path, stack, told.append))
    ((pixels, _, error),) = found
    assert pixels is None
    assert error.startswith(f"{path}: cannot be decoded by the GPU (frame 0): {reason}")
    assert "--decode auto" in error


def test_a_damaged_video_is_judged_by_the_cpu(nvdec: Nvdec, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    data = bytearray(path.read_bytes())
    at, size = packets_of(path)[5]
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    on_device, told = compare(nvdec, path)
    assert not all(on_device)
    assert told[0].startswith(f"{path}: decoded by the CPU from frame ")


@pytest.mark.parametrize("place", [1, 5, 10, 11])
def test_a_damaged_packet_is_told_in_its_place_though_h264_is_decoded_ahead(
    nvdec: Nvdec, tmp_path: Path, place: int
) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE, gop=30, options={"bf": "0"}))
    sound, _ = read(lambda stack: PyavVideo.of_path(path, stack))
    data = bytearray(path.read_bytes())
    at, size = packets_of(path)[place]
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    found, _ = read(lambda stack: NvdecVideos(nvdec, "none").open(path, stack, print))
    assert [error is not None for *_, error in found[:12]] == [number == place for number in range(12)]
    assert [pts for _, pts, _ in found[:12]] == [pts for _, pts, _ in sound]


class Broken(io.FileIO):
    """A file of which the end cannot be read."""

    ends = 1 << 40

    def readinto(self, buffer: Any) -> int:
        if self.tell() + len(buffer) > self.ends:
            raise OSError(5, "Input/output error")
        return super().readinto(buffer) or 0

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and self.tell() + size > self.ends:
            raise OSError(5, "Input/output error")
        return super().read(-1 if size is None else size) or b""


def test_frames_before_what_cannot_be_read_come_though_h264_is_decoded_ahead(nvdec: Nvdec, tmp_path: Path) -> None:
    clip = Clip(size=SIZE, gop=300, times_ms=tuple(range(0, 16000, 40)), options={"bf": "0", "crf": "1"})
    path = write_clip(tmp_path / "a.mkv", clip)
    with ExitStack() as stack:
        files = [stack.enter_context(Broken(path)) for _ in range(2)]
        by_cpu = PyavVideo(files[0], str(path), threads=1)
        by_gpu = NvdecVideo(nvdec, files[1], path, "none", print)
        for file in files:
            file.ends = 2 * path.stat().st_size // 3
        expected = [(decoded.pts, decoded.error and str(decoded.error)) for decoded in by_cpu.frames(lambda _: True)]
        found = []
        for decoded in by_gpu.frames(lambda _: True):
            found.append((decoded.pts, decoded.error and str(decoded.error)))
            image: Any = decoded.image
            if image is not None:
                image.close()
        by_cpu.close()
        by_gpu.close()
    assert found == expected
    assert "cannot be read any further" in str(found[-1][1])
    assert 50 < len(found) < 390
    gc.collect()


@pytest.mark.parametrize("cores", [1, 8])
def test_if_frames_before_what_cannot_be_read_are_refused_the_cpu_decodes_them(
    nvdec: Nvdec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(pyav_video, "usable_cores", lambda: cores)  # each thread of a decoder holds frames back
    original = NvdecDecoder.decode

    def decode(decoder: NvdecDecoder, packet: Any) -> list[Any]:
        if packet is None:
            raise InputError("is refused", subject="the end")
        return original(decoder, packet)

    monkeypatch.setattr(NvdecDecoder, "decode", decode)
    clip = Clip(size=SIZE, gop=300, times_ms=tuple(range(0, 16000, 40)), options={"bf": "0", "crf": "1"})
    path = write_clip(tmp_path / "a.mkv", clip)
    told: list[str] = []
    with ExitStack() as stack:
        file = stack.enter_context(Broken(path))
        video = NvdecVideo(nvdec, file, path, "cpu", told.append)
        stack.callback(video.close)
        file.ends = 2 * path.stat().st_size // 3
        times = []
        for decoded in video.frames(lambda _: True):
            times.append(decoded.pts)
            image: Any = decoded.image
            if hasattr(image, "close"):
                image.close()
    assert len(told) == 1
    assert "decoded by the CPU from frame " in told[0]
    assert times[:-1] == list(range(0, 40 * (len(times) - 1), 40))
    assert "cannot be read any further" in str(decoded.error)
    gc.collect()


def test_damage_inside_a_frame_is_not_noticed_and_changes_nothing_before_it(
    nvdec: Nvdec, nvdec_stand_in: StandInAv | None, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE, options={"bf": "0"}))
    sound, _ = read(lambda stack: PyavVideo.of_path(path, stack))
    data = bytearray(path.read_bytes())
    at, size = packets_of(path)[5]
    for byte in range(at + size - 24, at + size - 4):
        data[byte] ^= 0x55
    path.write_bytes(data)
    judged, _ = read(lambda stack: PyavVideo.of_path(path, stack))
    assert [error is not None for _, _, error in judged][:6] == [False] * 5 + [True]
    told: list[str] = []
    found, on_device = read(lambda stack: NvdecVideos(nvdec).open(path, stack, told.append))
    assert [pts for _, pts, _ in found] == [pts for _, pts, _ in sound]
    for (pixels, _, error), (expected, _, _) in zip(found[:5], sound[:5], strict=True):
        assert error is None
        np.testing.assert_array_equal(pixels, expected)
    if told:  # FFmpeg did notice something, and then the CPU judges all the rest
        assert [error for *_, error in found] == [error for *_, error in judged]
    else:
        assert on_device == [True] * 12
        assert [error for *_, error in found] == [None] * 12
    assert nvdec_stand_in is None or not told
    gc.collect()


def test_a_video_that_is_cut_short_stays_on_the_gpu_and_ends_with_the_error(nvdec: Nvdec, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE, container_options={"movflags": "+faststart"}))
    at, size = packets_of(path)[8]
    path.write_bytes(path.read_bytes()[: at + size // 2])
    on_device, told = compare(nvdec, path)
    assert (on_device, told) == ([True] * 8, [])


def test_what_is_no_video_is_refused_as_by_the_cpu(nvdec: Nvdec, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video at all" * 100)
    with ExitStack() as stack, pytest.raises(YoloshipError) as found:
        NvdecVideos(nvdec).open(path, stack, print)
    with ExitStack() as stack, pytest.raises(YoloshipError) as expected:
        PyavVideo.of_path(path, stack)
    assert str(found.value) == str(expected.value)


def test_a_frame_beyond_the_limits_is_refused_as_by_the_cpu(nvdec: Nvdec, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    assert compare(nvdec, path, limits=ImageLimits(max_side_px=180)) == ([], [])


def planted(nvdec: Nvdec, nvdec_stand_in: StandInAv | None, path: Path) -> tuple[list[bool], list[str]]:
    if nvdec_stand_in is None:
        pytest.skip("a real decoder does not fail when told to")
    return compare(nvdec, path)


def test_without_a_session_the_cpu_decodes(nvdec: Nvdec, nvdec_stand_in: StandInAv | None, tmp_path: Path) -> None:
    if nvdec_stand_in is not None:
        nvdec_stand_in.sessions = 0
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    on_device, told = planted(nvdec, nvdec_stand_in, path)
    assert on_device == [False] * 12
    reason = "NVDEC does not take it (h264, yuv420p, 192×160), or has no session left"
    assert told == [f"{path}: decoded by the CPU: {reason}"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (0, "decoded by the CPU: the GPU's decoder failed (Generic error in an external library)"),
        (7, "decoded by the CPU from frame 7: frame is damaged (Generic error in an external library)"),
    ],
)
def test_a_decoder_that_fails_is_replaced_by_the_cpu(
    nvdec: Nvdec, nvdec_stand_in: StandInAv | None, tmp_path: Path, given: int, reason: str
) -> None:
    import av

    def fail(number: int, _frame: StandInFrame) -> None:
        if number == given:
            raise av.error.ExternalError(-542398533, "Generic error in an external library")

    if nvdec_stand_in is not None:
        nvdec_stand_in.spoil = fail
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    on_device, told = planted(nvdec, nvdec_stand_in, path)
    assert on_device == [True] * given + [False] * (12 - given)
    assert told == [f"{path}: {reason}"]


@pytest.mark.parametrize("changed", ["width", "colorspace", "rotation"])
def test_a_video_that_changes_goes_on_on_the_cpu(
    nvdec: Nvdec, nvdec_stand_in: StandInAv | None, tmp_path: Path, changed: str
) -> None:
    def change(number: int, frame: StandInFrame) -> None:
        if number == 3:
            setattr(frame, changed, 90)

    if nvdec_stand_in is not None:
        nvdec_stand_in.spoil = change
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    on_device, told = planted(nvdec, nvdec_stand_in, path)
    assert on_device == [True] * 3 + [False] * 9
    assert told[0].startswith(f"{path}: decoded by the CPU from frame 3: ")


def test_a_codec_that_ffmpeg_gives_to_nobody_else_is_decoded_by_the_cpu_and_said(
    nvdec: Nvdec, nvdec_stand_in: StandInAv | None, tmp_path: Path
) -> None:
    import av

    def refuse(_number: int, _frame: StandInFrame) -> None:
        raise av.error.NotImplementedError(38, "Function not implemented", "avcodec_send_packet()")

    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE, codec="libsvtav1", options={"preset": "12"}))
    if nvdec_stand_in is not None:
        nvdec_stand_in.spoil = refuse
        on_device, told = compare(nvdec, path)
        assert (on_device, told) == ([False] * 12, [f"{path}: decoded by the CPU: av1: NVDEC does not take it"])
        return
    on_device, told = compare(nvdec, path)
    assert len(on_device) == 12
    assert all(on_device) or told == [f"{path}: decoded by the CPU: av1: NVDEC does not take it"]


def test_several_files_are_decoded_side_by_side(nvdec: Nvdec, nvdec_stand_in: StandInAv | None, tmp_path: Path) -> None:
    paths = [write_clip(tmp_path / f"{number}.mp4", Clip(size=SIZE, rotation=90 * number)) for number in range(4)]

    def pixels(frame: Frame) -> Any:
        assert frame.error is None
        image: Any = frame.image
        return image.host() if hasattr(image, "host") else image

    with VideoFiles.open(list(map(str, paths))) as source:
        expected = {frame.name: (frame.time_s, pixels(frame)) for frame in source}
        source.decode_with(NvdecVideos(nvdec))
        mixed = source.side_by_side()
        assert mixed is not None
        found = {}
        for frame in mixed:
            assert not isinstance(frame.image, np.ndarray)
            found[frame.name] = (frame.time_s, pixels(frame))
        del frame
    assert sorted(found) == sorted(expected)
    for name, (time_s, image) in found.items():
        assert time_s == expected[name][0]
        np.testing.assert_array_equal(image, expected[name][1])
    if nvdec_stand_in is not None:
        nvdec_stand_in.wait_until_closed()
        assert nvdec_stand_in.opened == 4


def test_one_who_stops_early_leaves_no_session(nvdec: Nvdec, nvdec_stand_in: StandInAv | None, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    for _ in range(5):
        with VideoFiles.open([str(path)]) as source:
            source.decode_with(NvdecVideos(nvdec))
            frames = iter(source)
            image: Any = next(frames).image
            assert image.host().shape == (160, 192, 3)
            frames.close()  # type: ignore[attr-defined]  # it is a generator
            image.close()
    del image, frames
    if nvdec_stand_in is not None:
        nvdec_stand_in.wait_until_closed()
        assert (nvdec_stand_in.opened, nvdec_stand_in.frames) == (5, 0)


def test_it_says_where_a_video_lies(nvdec: Nvdec, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE, audio="aac"))
    with ExitStack() as stack:
        stream = NvdecVideos(nvdec).open(path, stack, print).stream
        assert (stream.name, stream.path, stream.has_audio) == (str(path), Path(path), True)
