"""Decoders of the GPU: on a real one, and with a stand-in for PyAV whose frames go to whatever device there is."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.cuda_steps import bgr_of_planes
from helpers.nvdec_stand_in import SIZE, StandInAv, device_rows
from helpers.videos import Clip, read_back, write_clip
from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer, download, upload
from yoloship.cuda.nvdec import FrameForm, Nvdec, NvdecDecoder, is_on_device
from yoloship.cuda.stream import Fence, Stream
from yoloship.errors import CudaError, DependencyError, ImageError, InputError
from yoloship.images import ImageLimits

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device


def decoded(nvdec: Nvdec, path: Path) -> list[tuple[Any, FrameForm]]:
    """The frames of a video, with their form."""
    import av

    with av.open(str(path)) as container:
        video = container.streams.video[0]
        context = video.codec_context
        with nvdec.decoder(context.codec.canonical_name, context.extradata) as decoder:
            frames = [frame for packet in container.demux(video) if packet.size for frame in decoder.decode(packet)]
            frames += decoder.decode(None)
    return [(frame, FrameForm.of(frame)) for frame in frames]


@pytest.mark.parametrize(
    "clip",
    [
        Clip(size=SIZE),
        Clip(size=(194, 162), colour=(1, 2)),
        Clip(size=SIZE, codec="libx265", options={"x265-params": "log-level=none"}),
        Clip(size=SIZE, codec="libx265", pixel_format="yuv420p10le", options={"x265-params": "log-level=none"}),
        Clip(size=SIZE, codec="libsvtav1", options={"preset": "12"}),
    ],
    ids=["h264", "h264 bt709 full", "hevc", "hevc 10 bits", "av1"],
)
def test_frames_on_the_device_are_those_of_the_cpu(
    nvdec: Nvdec, nvdec_stand_in: StandInAv | None, tmp_path: Path, clip: Clip
) -> None:
    path = write_clip(tmp_path / "a.mp4", clip)
    expected = read_back(path)
    try:
        frames = decoded(nvdec, path)
    except InputError as error:
        if clip.codec == "libsvtav1" and nvdec_stand_in is None:
            pytest.skip(str(error))
        raise
    assert len(frames) == len(expected.images) == 12
    for (frame, form), wanted, on_cpu in zip(frames, expected.images, software_frames(path), strict=True):
        assert is_on_device(frame)
        rows = device_rows(on_cpu, str(frame.sw_format.name))[:, : clip.size[0]]
        with nvdec.image(frame, form) as image:
            assert image.nbytes >= wanted.size // 2
            np.testing.assert_array_equal(image.host(), bgr_of_planes(rows, form.hw, form.matrix, form.full_range))
            if form.pixel_format == "nv12":  # of more bits, libswscale interpolates the chroma
                np.testing.assert_array_equal(image.host(), wanted)
    times = [frame.pts * frame_base(path) for frame, _ in frames]
    assert tuple(times) == expected.times


def test_h264_is_decoded_ahead_unless_frames_must_not_be_late(nvdec: Nvdec, tmp_path: Path) -> None:
    import av

    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE, options={"bf": "0"}))
    given = {}
    for delay in ("any", "least"):
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            with nvdec.decoder("h264", video.codec_context.extradata, reorder_depth=0, delay=delay) as decoder:
                packets = [packet for packet in container.demux(video) if packet.size]
                given[delay] = [len(decoder.decode(packet)) for packet in [*packets, None]]
    assert given == {"any": [0, 0, *[1] * 10, 2], "least": [*[1] * 12, 0]}


def software_frames(path: Path) -> list[Any]:
    import av

    with av.open(str(path)) as container:
        return list(container.decode(container.streams.video[0]))


def frame_base(path: Path) -> Any:
    import av

    with av.open(str(path)) as container:
        return container.streams.video[0].time_base


def test_images_outlive_their_decoder_and_give_their_memory_back(
    nvdec: Nvdec, nvdec_stand_in: StandInAv | None, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    images = [nvdec.image(frame, form) for frame, form in decoded(nvdec, path)]
    if nvdec_stand_in is not None:
        gc.collect()
        assert (nvdec_stand_in.open, nvdec_stand_in.frames) == (0, 12)
    wanted = read_back(path).images
    for image, expected in zip(images, wanted, strict=True):
        np.testing.assert_array_equal(image.host(), expected)
    for image in images:
        image.close()
    if nvdec_stand_in is not None:
        assert nvdec_stand_in.frames == 0


def test_many_decoders_open_and_close_without_a_trace(nvdec: Nvdec, tmp_path: Path, device: Device) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(times_ms=(0, 40), size=SIZE))
    for _ in range(2):
        decoded(nvdec, path)
    free = device.memory()[0]
    for _ in range(10):
        for frame, form in decoded(nvdec, path):
            nvdec.image(frame, form).close()
        del frame
    assert device.memory()[0] > free - (16 << 20)


def test_decoders_that_are_closed_later_are_closed_at_once_with_all_others_or_if_there_are_many(
    device: Device, kernels: KernelSet, nvdec_stand_in: StandInAv | None
) -> None:
    before = device.usage()
    with Nvdec(device, kernels) as other:
        decoders = [other.decoder("h264", None) for _ in range(12)]
        for decoder in decoders:
            decoder.close_later()
        with pytest.raises(InputError, match="decoder on the GPU: is closed"):
            decoders[0].decode(None)
    for decoder in decoders:
        with pytest.raises(InputError, match="decoder on the GPU: is closed"):
            decoder.decode(None)
    assert device.usage() == before
    assert nvdec_stand_in is None or nvdec_stand_in.open == 0


def test_a_codec_that_nvdec_does_not_have_is_named(nvdec: Nvdec) -> None:
    with pytest.raises(InputError, match="prores: is a codec that NVDEC does not have"):
        nvdec.decoder("prores", None)


def test_a_closed_decoder_decodes_nothing(nvdec: Nvdec) -> None:
    decoder = nvdec.decoder("h264", None)
    decoder.close()
    decoder.close()
    with pytest.raises(InputError, match="decoder on the GPU: is closed"):
        decoder.decode(None)


def test_an_image_of_a_closed_device_leaves_nothing_open(
    device: Device, kernels: KernelSet, nvdec: Nvdec, tmp_path: Path
) -> None:
    (frame, form), *_ = decoded(nvdec, write_clip(tmp_path / "a.mp4", Clip(size=SIZE)))
    other = Nvdec(device, kernels)
    other.close()
    before = device.usage()
    with pytest.raises(CudaError, match="is closed"):
        other.image(frame, form)
    assert device.usage() == before


def test_the_last_image_of_closed_decoders_closes_what_it_needs(
    device: Device, kernels: KernelSet, nvdec: Nvdec, tmp_path: Path
) -> None:
    found = decoded(nvdec, write_clip(tmp_path / "a.mp4", Clip(size=SIZE)))[:2]
    before = device.usage()
    other = Nvdec(device, kernels)
    images = [other.image(frame, form) for frame, form in found]
    other.close()
    other.close()
    images[0].close()
    assert device.usage().counts["event"] == before.counts.get("event", 0) + 1  # which keeps the context for FFmpeg
    images[1].close()
    assert device.usage() == before


def test_a_fence_holds_a_stream_back_until_the_other_is_done(device: Device) -> None:
    with Stream(device) as worker, Stream(device) as other, PinnedBuffer(device, 1 << 24) as source:
        with DeviceBuffer(device, 1 << 24) as middle, PinnedBuffer(device, 1 << 24) as target, Fence(worker) as fence:
            sent, got = source.array(np.uint8, (1 << 24,)), target.array(np.uint8, (1 << 24,))
            for value in range(1, 9):
                sent[:] = value
                upload(worker, middle.pointer, sent)
                fence.hold(other)
                download(other, got, middle.pointer)
                other.sync()
                assert got[-1] == got[0] == value
        with pytest.raises(CudaError, match="is closed"):
            fence.hold(other)


def test_a_frame_beyond_the_limits_is_refused(nvdec: Nvdec, tmp_path: Path) -> None:
    import av

    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        extradata = video.codec_context.extradata
        with (
            nvdec.decoder("h264", extradata, limits=ImageLimits(max_side_px=180)) as decoder,
            pytest.raises(ImageError, match="frame is too large"),
        ):
            for packet in container.demux(video):
                decoder.decode(packet if packet.size else None)


def test_without_a_session_the_frames_are_in_the_hosts_memory(
    nvdec: Nvdec, nvdec_stand_in: StandInAv | None, tmp_path: Path
) -> None:
    if nvdec_stand_in is None:
        pytest.skip("a GPU has as many sessions as its memory holds")
    nvdec_stand_in.sessions = 0
    frames = decoded(nvdec, write_clip(tmp_path / "a.mp4", Clip(size=SIZE)))
    assert [is_on_device(frame) for frame, _ in frames] == [False] * 12
    with pytest.raises(InputError, match="frame: is not in device memory as expected"):
        nvdec.image(*frames[0])


def test_a_pyav_without_nvdec_says_so(
    nvdec: Nvdec, nvdec_stand_in: StandInAv | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if nvdec_stand_in is None:
        pytest.skip("this PyAV has it")
    nvdec_stand_in.codec.hwaccel.hwdevices_available = lambda: ["drm"]
    with pytest.raises(DependencyError, match="has an FFmpeg without CUDA"):
        NvdecDecoder(nvdec, "h264", None)


def test_forms_that_the_letterbox_does_not_know_are_refused(nvdec: Nvdec) -> None:
    import av

    frame = av.VideoFrame(16, 16, "yuv422p")
    with pytest.raises(InputError, match=r"has pixels that the GPU's letterbox does not take.*yuv422p"):
        FrameForm.of(frame)
    frame = av.VideoFrame(16, 16, "yuv420p")
    assert FrameForm.of(frame, 6) == FrameForm((16, 16), "nv12", "bt601", False, 6)
    frame.colorspace = 8
    with pytest.raises(InputError, match=r"states a colour matrix that the GPU's letterbox does not have.*number 8"):
        FrameForm.of(frame)
