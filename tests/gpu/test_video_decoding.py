"""Videos through a detector whose GPU decodes them: the same answers, times and order as with the CPU's decoder."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.cameras import RtspCamera
from helpers.canned_device import CannedSession
from helpers.device_detectors import closed_without_a_trace, some_heads
from helpers.models import info
from helpers.nvdec_stand_in import SIZE, StandInAv
from helpers.videos import Clip, packets_of, write_clip
from yoloship.cuda.device_image import DeviceImage
from yoloship.detect.detector import Detector
from yoloship.detect.gpu.pipeline import CudaPipeline
from yoloship.detect.gpu.transfer import CudaTuning
from yoloship.detect.gpu.video_decoding import VideoDecoding
from yoloship.detect.pipeline import ModelInput
from yoloship.detect.preprocess import as_image
from yoloship.errors import CudaError, DependencyError, SessionError
from yoloship.sources import SourceOptions, open_source
from yoloship.tracking.following import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device
    from yoloship.images import DecodeChoice

    Make = Callable[..., Detector]


@pytest.fixture
def make(nvdec_stand_in: StandInAv | None, device: Device, kernels: KernelSet) -> Iterator[Make]:
    with closed_without_a_trace(device) as opened:

        def made(decode: DecodeChoice = "gpu") -> Detector:
            record = info(batch=None)
            session: Any = CannedSession(device, record, some_heads)
            model = ModelInput.checked(record, None, "square", "model")
            pipeline = CudaPipeline(session, dict(kernels), model, tuning=CudaTuning(max_batch=8), decode="cpu")
            pipeline._videos = VideoDecoding(device, kernels, decode, "model")
            opened.append(Detector.over(pipeline))
            return opened[-1]

        yield made
    if nvdec_stand_in is not None:
        assert (nvdec_stand_in.open, nvdec_stand_in.frames) == (0, 0)


def found(outcomes: Iterator[Any]) -> list[Any]:
    """What is said of each frame, without the objects that hold it."""
    said = []
    for outcome in outcomes:
        frame = outcome.frame
        boxes = None if outcome.result is None else outcome.result.boxes_xyxy.tolist()
        error = None if outcome.error is None else str(outcome.error)
        said.append((outcome.index, frame.name, frame.index, frame.time_s, frame.pts, boxes, error))
    return said


def on_device(detector: Detector, path: Path) -> list[bool]:
    """Which frames of a video lie on the device when they come to the detector."""
    with open_source([str(path)]) as source:
        detector.lend_decoder(source)
        return [isinstance(frame.image, DeviceImage) for frame in source]


def test_a_video_gives_what_the_cpus_decoder_gives(make: Make, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE, rotation=90, colour=(1, 1)))
    by_gpu, by_cpu = make(), make("cpu")
    assert on_device(by_gpu, path) == [True] * 12
    assert on_device(by_cpu, path) == [False] * 12
    expected = found(by_cpu.stream(str(path)))
    assert len(expected) == 12
    assert expected[0][5]
    assert found(by_gpu.stream(str(path))) == expected
    assert found(by_gpu.stream(path)) == expected


def test_files_are_left_to_the_cpu_unless_the_gpu_is_chosen(
    make: Make, nvdec_stand_in: StandInAv | None, tmp_path: Path
) -> None:
    paths = [str(write_clip(tmp_path / f"{number}.mp4", Clip(size=SIZE))) for number in range(2)]
    detector = make("auto")
    assert on_device(detector, tmp_path / "0.mp4") == [False] * 12
    with open_source(paths) as source:
        detector.lend_decoder(source)
        assert source.side_by_side() is None
        said = found(detector.stream(source))
    with open_source(paths) as source:
        assert said == found(make("cpu").stream(source))
    assert nvdec_stand_in is None or nvdec_stand_in.opened == 0


def test_several_videos_come_in_the_order_of_one_after_the_other(make: Make, tmp_path: Path) -> None:
    damaged = write_clip(tmp_path / "1.mp4", Clip(size=SIZE))
    data = bytearray(damaged.read_bytes())
    at, size = packets_of(damaged)[5]
    data[at : at + size] = bytes(size)
    damaged.write_bytes(data)
    for number, count in ((0, 30), (2, 5), (3, 1), (4, 40)):
        clip = Clip(times_ms=tuple(range(0, 40 * count, 40)), size=(190 + 2 * number, 160))
        write_clip(tmp_path / f"{number}.mp4", clip)
    (tmp_path / "5.mp4").write_bytes(b"no video")
    pattern = str(tmp_path / "*.mp4")
    told: list[str] = []
    expected = found(make("cpu").stream(pattern))
    detector = make()
    with open_source([pattern], SourceOptions(on_event=told.append)) as source:
        given = found(detector.stream(source))
    assert [(*one[:5], one[6]) for one in given] == [(*one[:5], one[6]) for one in expected]
    for one, other in zip(given, expected, strict=True):
        if "1.mp4#" not in one[1] or one[2] < 5:  # behind the damage, pictures are those of the decoder
            assert one == other
    assert any("/1.mp4#" in name and error for _, name, *_, error in given)
    assert [name.rpartition("/")[2] for _, name, *_ in expected[:30]] == [f"0.mp4#{index}" for index in range(30)]
    assert [index for index, *_ in expected] == list(range(len(expected)))
    assert told == []


def test_kept_images_are_on_the_host_and_those_of_the_cpu(make: Make, tmp_path: Path) -> None:
    paths = [str(write_clip(tmp_path / f"{number}.mp4", Clip(size=SIZE, rotation=180 * number))) for number in (0, 1)]

    def images(detector: Detector) -> list[Any]:
        with open_source(paths) as source:
            return [(one.index, one.image) for one in detector.stream(source, keep_images=True)]

    by_gpu, by_cpu = images(make()), images(make("cpu"))
    assert [index for index, _ in by_gpu] == [index for index, _ in by_cpu] == list(range(24))
    for (_, image), (_, expected) in zip(by_gpu, by_cpu, strict=True):
        assert isinstance(image, np.ndarray)
        np.testing.assert_array_equal(image, expected)


def test_frames_are_closed_when_their_results_are_there(make: Make, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    frames = []
    for outcome in make().stream(str(path)):
        assert outcome.frame is not None
        frames.append(outcome.frame)
    assert len(frames) == 12
    for frame in frames:
        assert isinstance(frame.image, DeviceImage)
        assert frame.image.is_closed


def test_one_who_stops_early_leaves_nothing_behind(
    make: Make, nvdec_stand_in: StandInAv | None, tmp_path: Path
) -> None:
    paths = [str(write_clip(tmp_path / f"{number}.mp4", Clip(size=SIZE))) for number in range(3)]
    detector = make()
    for _ in range(3):
        with open_source(paths) as source:
            outcomes: Any = detector.stream(source)
            assert next(outcomes).index == 0
            outcomes.close()
            del outcomes
    detector.close()  # waits for the threads that give frames back
    if nvdec_stand_in is not None:
        assert nvdec_stand_in.open == nvdec_stand_in.frames == 0


def test_a_detector_may_be_closed_while_its_videos_are_read(make: Make, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE, times_ms=tuple(range(0, 8000, 40))))
    detector = make()
    outcomes = detector.stream(str(path))
    assert next(outcomes).error is None
    detector.close()
    errors = [one.error for one in outcomes]
    assert isinstance(errors[-1], SessionError | CudaError)


def test_a_tracked_video_is_decoded_on_the_gpu_too(
    make: Make, nvdec_stand_in: StandInAv | None, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))

    def tracked(detector: Detector) -> list[Any]:
        return [
            (np.asarray(one.unwrap().track_ids).tolist(), one.unwrap().boxes_xyxy.tolist())
            for one in track(detector, path)
        ]

    expected = tracked(make("cpu"))
    assert nvdec_stand_in is None or nvdec_stand_in.opened == 0
    assert tracked(make()) == expected
    assert nvdec_stand_in is None or nvdec_stand_in.opened == 1


def test_an_image_on_the_device_is_an_image_for_whatever_works_on_the_host(make: Make, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(times_ms=(0,), size=SIZE))
    detector = make()
    with open_source([str(path)]) as source:
        detector.lend_decoder(source)
        (frame,) = source
        (expected,) = open_source([str(path)])
        with detector:
            np.testing.assert_array_equal(as_image(frame), expected.image)
            np.testing.assert_array_equal(as_image(frame.image, channels="rgb"), expected.image)


def test_without_pyav_nothing_is_lent_and_who_insists_is_told(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("yoloship.detect.gpu.video_decoding.has_pyav", lambda: False)
    monkeypatch.setattr("yoloship.sources.video.has_pyav", lambda: False)
    assert on_device(make("auto"), path) == [False] * 12
    with pytest.raises(DependencyError, match="decoding videos on the GPU: needs PyAV"):
        on_device(make("gpu"), path)


def test_a_detector_says_who_decodes_videos(
    make: Make, nvdec_stand_in: StandInAv | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    import av

    assert make("cpu").video_decoding == "cpu (chosen)"
    if nvdec_stand_in is not None:  # a PyAV on a machine without a GPU may lack NVDEC
        monkeypatch.setattr("yoloship.detect.gpu.video_decoding.load_av", lambda _name: nvdec_stand_in)
    on_device = f"NVDEC on cuda:0 (PyAV {av.__version__}; damage inside a frame is not noticed)"
    assert make().video_decoding == on_device
    assert make("auto").video_decoding == f"cpu, which tells damaged frames; live streams: {on_device}"
    if nvdec_stand_in is not None:
        nvdec_stand_in.codec.hwaccel.hwdevices_available = list
        assert make().video_decoding == f"cpu (PyAV {av.__version__}: has an FFmpeg without CUDA)"
        monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "av", None)
    assert make().video_decoding == "cpu (PyAV: is not installed)"


def test_a_device_that_fails_is_the_error_of_its_video(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CudaError("out of memory", code=2, name="CUDA_ERROR_OUT_OF_MEMORY", subject="stream")

    path = write_clip(tmp_path / "a.mp4", Clip(size=SIZE))
    monkeypatch.setattr("yoloship.detect.gpu.video_decoding.Nvdec", fail)
    with open_source([str(path)]) as source:
        assert [one.error for one in make("auto").stream(source)] == [None] * 12
    with open_source([str(path)]) as source:
        (outcome,) = make().stream(source)
    assert isinstance(outcome.error, CudaError)


@pytest.mark.skipif(sys.platform == "win32", reason="live sources are not for Windows yet")
def test_cameras_are_decoded_on_the_device_and_answered_like_their_pixels(make: Make) -> None:
    by_gpu, by_cpu = make("auto"), make("cpu")
    counts: dict[str, int] = {}
    images: list[Any] = []
    with (
        RtspCamera(rate=50, image_hw=(SIZE[1], SIZE[0])) as one,
        RtspCamera(rate=50, image_hw=(SIZE[1] + 32, SIZE[0])) as two,
        open_source([one.address, two.address]) as source,
    ):
        for outcome in by_gpu.stream(source):
            assert outcome.frame is not None
            assert outcome.frame.stream is not None
            assert isinstance(outcome.frame.image, DeviceImage)
            assert outcome.frame.image.is_closed
            assert outcome.unwrap().image_hw[1] == SIZE[0]
            counts[outcome.frame.stream.name] = counts.get(outcome.frame.stream.name, 0) + 1
            if len(counts) == 2 and min(counts.values()) >= 6:
                break
    with (
        RtspCamera(rate=50, image_hw=(SIZE[1], SIZE[0])) as camera,
        open_source([camera.address], SourceOptions(live="every")) as source,
    ):
        for outcome in by_gpu.stream(source, keep_images=True):
            assert isinstance(outcome.image, np.ndarray)
            expected = by_cpu(outcome.image)
            np.testing.assert_array_equal(outcome.unwrap().boxes_xyxy, expected.boxes_xyxy)
            images.append(outcome.image)
            if len(images) == 5:
                break
    assert [image.shape for image in images] == [(SIZE[1], SIZE[0], 3)] * 5
