"""Images that a decoder has put into device memory: to the host, and through a detector."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.canned_device import CannedSession
from helpers.cuda_steps import bgr_of_planes
from helpers.device_detectors import fed, some_heads
from helpers.device_images import device_image
from helpers.models import image_session, info
from yoloship.cuda.device_image import HostReader
from yoloship.detect.detector import Detector
from yoloship.detect.gpu.pipeline import CudaPipeline
from yoloship.detect.gpu.transfer import CudaTuning
from yoloship.detect.pipeline import ModelInput
from yoloship.errors import CudaError, InputError
from yoloship.images.reading import _upright
from yoloship.letterbox import Letterbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream

HW = (64, 96)


@pytest.fixture
def reader(device: Device, kernels: KernelSet) -> Iterator[HostReader]:
    before = device.usage()
    with HostReader(device, kernels) as opened:
        yield opened
    gc.collect()
    assert device.usage() == before


@pytest.fixture
def detector(reader: HostReader, device: Device, kernels: KernelSet) -> Iterator[Detector]:
    record = info(batch=None)
    session: Any = CannedSession(device, record, some_heads)
    model = ModelInput.checked(record, None, "square", "model")
    pipeline = CudaPipeline(session, dict(kernels), model, tuning=CudaTuning(max_batch=8))
    with Detector.over(pipeline) as opened:
        yield opened


def on_cpu() -> Detector:
    return Detector(image_session(info(batch=1), lambda _: [level[None] for level in some_heads(HW)]))


def stored_images() -> list[tuple[npt.NDArray[Any], dict[str, Any], npt.NDArray[np.uint8]]]:
    """What a decoder may have written, how it states it, and the upright BGR image that it is."""
    rng = np.random.default_rng()
    made: list[tuple[npt.NDArray[Any], dict[str, Any], npt.NDArray[np.uint8]]] = []
    for orientation in range(1, 9):
        hw = (50 + orientation, 120)
        image = rng.integers(0, 256, (*hw, 3), dtype=np.uint8)
        made.append((image, {"orientation": orientation}, _upright(image, orientation)))
        rgb: dict[str, Any] = {"pixel_format": "rgb", "orientation": orientation, "padding": 5}
        made.append((image, rgb, _upright(np.ascontiguousarray(image[..., ::-1]), orientation)))
        planes = rng.integers(0, 65536, (3 * hw[0] // 2 // 3 * 3, hw[1]), dtype=np.uint16)
        height = len(planes) * 2 // 3
        for name, samples in (("nv12", planes.astype(np.uint8)), ("p010", planes)):
            bgr = bgr_of_planes(samples, (height, hw[1]), "bt709", True)
            stated = {"pixel_format": name, "orientation": orientation, "padding": 6, "matrix": "bt709"}
            made.append((samples, {**stated, "full_range": True}, _upright(bgr, orientation)))
    return made


def test_the_host_gets_the_upright_pixels_of_every_format_once(reader: HostReader, stream: Stream) -> None:
    released: list[str] = []
    for stored, stated, expected in stored_images():
        released.clear()
        with device_image(reader, stream, stored, on_release=lambda: released.append("it"), **stated) as image:
            found = image.host()
            np.testing.assert_array_equal(found, expected, err_msg=str(stated))
            assert not found.flags.writeable
            assert image.host() is found
            assert released == []
        assert released == ["it"]
        assert image.host() is found
        image.close()
        assert released == ["it"]


def test_an_image_that_was_closed_cannot_be_downloaded(reader: HostReader, stream: Stream) -> None:
    image = device_image(reader, stream, np.zeros((4, 4, 3), np.uint8))
    assert image.nbytes == 48
    image.close()
    assert image.is_closed
    with pytest.raises(InputError, match="image on the GPU: was closed before it was downloaded"):
        image.host()


def test_an_image_that_nobody_holds_is_given_back(reader: HostReader, stream: Stream) -> None:
    released: list[str] = []
    device_image(reader, stream, np.zeros((4, 4, 3), np.uint8), on_release=lambda: released.append("it"))
    gc.collect()
    assert released == ["it"]


def test_a_reader_that_was_closed_says_so(device: Device, kernels: KernelSet, stream: Stream) -> None:
    reader = HostReader(device, kernels)
    with device_image(reader, stream, np.zeros((4, 4, 3), np.uint8), "rgb") as image:
        reader.close()
        reader.close()
        with pytest.raises(CudaError, match="is closed"):
            image.host()


def test_a_detector_takes_it_as_the_upright_image_and_leaves_it_open(
    reader: HostReader, stream: Stream, detector: Detector
) -> None:
    made, cpu = stored_images(), on_cpu()
    images: list[Any] = [device_image(reader, stream, stored, **stated) for stored, stated, _ in made]
    for image, (_, stated, upright) in zip(images, made, strict=True):
        found = detector(image)
        box = Letterbox.fixed(upright.shape[:2], HW)
        np.testing.assert_array_equal(fed(detector)[0], box.apply(upright), err_msg=str(stated))
        assert found.image_hw == upright.shape[:2]
        expected = cpu(upright)
        np.testing.assert_array_equal(found.class_ids, expected.class_ids)
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, rtol=1e-5, atol=2e-3)
    mixed = [images[1], made[2][2], images[30], images[2]]
    assert [len(found) for found in detector.detect_batch(mixed)] == [len(cpu(made[at][2])) for at in (1, 2, 30, 2)]
    chosen = [made[at][2] for at in (1, 2, 30, 2)]
    canvases = [Letterbox.fixed(image.shape[:2], HW).apply(image) for image in chosen]
    np.testing.assert_array_equal(fed(detector), np.stack(canvases))
    assert not any(image.is_closed for image in images)
    for image in images:
        image.close()


def test_what_is_submitted_or_streamed_is_closed_when_its_result_is_there(
    reader: HostReader, stream: Stream, detector: Detector
) -> None:
    made, cpu = stored_images(), on_cpu()
    sent: list[Any] = [device_image(reader, stream, stored, **stated) for stored, stated, _ in made]
    futures = [detector.submit(image) for image in sent[:16]]
    for future, (_, _, upright) in zip(futures, made, strict=False):
        assert len(future.result()) == len(cpu(upright))
    for outcome, (_, _, upright) in zip(detector.stream(sent[16:]), made[16:], strict=True):
        assert len(outcome.unwrap()) == len(cpu(upright))
    detector.close()
    assert all(image.is_closed for image in sent)
