"""Live streams that the GPU decodes: on a real one, and with a stand-in for PyAV's NVDEC."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.cameras import BytesServer, MjpegCamera, RtspCamera, picture, video_bytes
from helpers.nvdec_stand_in import SIZE, StandInAv
from yoloship.cuda.device_image import DeviceImage
from yoloship.cuda.nvdec_packets import NvdecPackets
from yoloship.cuda.nvdec_video import NvdecVideos
from yoloship.errors import InputError
from yoloship.sources.live.messages import Coded
from yoloship.sources.live.streams import LiveStreams
from yoloship.sources.settings import SourceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.cuda.nvdec import Nvdec
    from yoloship.sources.source import Frame

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="live sources are not for Windows yet"),
]
HW = (SIZE[1], SIZE[0])


def watched(nvdec: Nvdec, addresses: list[str], events: list[str], fallback: Any = "cpu", **how: Any) -> LiveStreams:
    source = LiveStreams.open(addresses, SourceOptions(on_event=events.append, **how))
    source.decode_with(NvdecVideos(nvdec, fallback))
    return source


def pixels(frame: Frame) -> Any:
    """The pixels of a frame, whose memory is given back."""
    image: Any = frame.image
    if not isinstance(image, DeviceImage):
        return image
    with image:
        return image.host()


def is_picture(image: Any) -> bool:
    return bool(min(np.abs(image.astype(int) - picture(index, image.shape[:2])).mean() for index in range(10)) < 4)


def test_the_frames_of_a_stream_are_on_the_device_and_equal_those_of_the_cpu(
    nvdec: Nvdec, nvdec_stand_in: StandInAv | None
) -> None:
    events: list[str] = []
    data = video_bytes(30, image_hw=HW)
    with BytesServer(data) as server:
        with LiveStreams.open([server.address], SourceOptions(live="every")) as by_cpu:
            expected = list(by_cpu)
        with watched(nvdec, [server.address], events, live="every") as source:
            count = 0
            for frame, wanted in zip(source, expected, strict=True):
                assert isinstance(frame.image, DeviceImage)
                np.testing.assert_array_equal(pixels(frame), wanted.image)
                assert (frame.index, frame.time_s, frame.pts) == (wanted.index, wanted.time_s, wanted.pts)
                count += 1
    assert count == 30
    del frame
    gc.collect()
    if nvdec_stand_in is not None:
        assert (nvdec_stand_in.open, nvdec_stand_in.frames) == (0, 0)


def test_streams_that_the_gpu_decodes_and_those_of_the_cpu_come_together(nvdec: Nvdec) -> None:
    events: list[str] = []
    with (
        RtspCamera(rate=50, image_hw=HW) as one,
        RtspCamera(rate=50, image_hw=HW) as two,
        MjpegCamera(rate=50) as other,
        watched(nvdec, [one.address, two.address, other.address], events) as source,
    ):
        kinds: dict[str, set[type]] = {}
        counts = dict.fromkeys((one.address, two.address, other.address), 0)
        for frame in source:
            assert frame.stream is not None
            kinds.setdefault(frame.stream.name, set()).add(type(frame.image))
            assert is_picture(pixels(frame))
            counts[frame.stream.name] += 1
            if min(counts.values()) >= 5:
                break
    assert kinds == {one.address: {DeviceImage}, two.address: {DeviceImage}, other.address: {np.ndarray}}
    assert sum("decoded by the CPU: mjpeg: is a codec that NVDEC does not have" in line for line in events) == 1


def test_a_camera_that_comes_back_with_another_size_is_decoded_on(nvdec: Nvdec) -> None:
    events: list[str] = []
    with RtspCamera(rate=50, image_hw=HW) as camera, watched(nvdec, [camera.address], events) as source:
        frames: Iterator[Frame] = iter(source)
        assert pixels(next(frames)).shape[:2] == HW
        camera.die()
        camera.image_hw = (HW[0] + 32, HW[1] + 64)
        camera.appear()
        while (image := pixels(next(frames))).shape[:2] == HW:
            pass
        assert image.shape[:2] == camera.image_hw
        assert is_picture(image)


def test_without_a_session_the_cpu_goes_on(nvdec: Nvdec, nvdec_stand_in: StandInAv | None) -> None:
    if nvdec_stand_in is None:
        pytest.skip("a GPU has as many sessions as its memory holds")
    nvdec_stand_in.sessions = 0
    events: list[str] = []
    with RtspCamera(rate=50, image_hw=HW) as camera:
        with watched(nvdec, [camera.address], events) as source:
            for frame in source:
                assert isinstance(frame.image, np.ndarray)
                assert is_picture(frame.image)
                if frame.index >= 3:
                    break
        assert any(
            "decoded by the CPU from now on: NVDEC does not take it, or has no session left" in e for e in events
        )
        with watched(nvdec, [camera.address], events, "none", live_retries=0) as source:
            (frame,) = source
    assert "cannot be decoded by the GPU: NVDEC does not take it" in str(frame.error)


def test_pixels_that_the_gpu_does_not_decode_are_refused_before_a_decoder_is_opened(nvdec: Nvdec) -> None:
    with pytest.raises(InputError, match="yuv444p: is not a form of pixels that the GPU decodes"):
        NvdecPackets(nvdec).open(Coded("h264", "yuv444p", 1, True, 0))


def test_frames_stay_in_the_decoder_no_longer_than_they_must(nvdec: Nvdec) -> None:
    with NvdecPackets(nvdec).open(Coded("h264", None, 1, True, 0)) as opened:
        context: Any = opened._decoder._context
        assert getattr(context, "_inner", context).options["flags"] == "+low_delay"
