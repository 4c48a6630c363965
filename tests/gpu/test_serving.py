"""The HTTP server over a detector on a device: real batches, and a device that is lost."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.canned_device import CannedSession
from helpers.images import saved
from helpers.models import empty_rows, info
from helpers.serving import InProcess, settings_of
from yoloship.detect.detector import Detector
from yoloship.detect.gpu.pipeline import CudaPipeline
from yoloship.detect.gpu.transfer import CudaTuning
from yoloship.detect.pipeline import ModelInput
from yoloship.errors import CudaError
from yoloship.kserve import InferRequest, Tensor, decode_answer, encode_request
from yoloship.sinks.records import json_record
from yoloship.sinks.sink import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device

HW = (64, 96)
SIZES = ((48, 64), (64, 48), (30, 90), (200, 130))
PHOTOS = [saved(np.zeros((*size, 3), np.uint8), "PNG") for size in SIZES]
"""All alike but for their size, which moves the boxes."""


class Network:
    """What the device does at each run."""

    def __init__(self) -> None:
        self.is_lost = False
        self.open = threading.Event()
        self.open.set()

    def enqueue(self) -> None:
        self.open.wait()
        if self.is_lost:
            raise CudaError("the device is lost", code=46, name="CUDA_ERROR_DEVICE_UNAVAILABLE")


@pytest.fixture
def network() -> Network:
    return Network()


def one_object(canvas_hw: tuple[int, int]) -> list[npt.NDArray[np.float32]]:
    rows = empty_rows(canvas_hw)
    rows[0, 27, :6] = (40, 30, 20, 10, 0.9, 1)
    return [rows[0]]


@pytest.fixture
def server(
    device: Device, kernels: KernelSet, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InProcess]:
    record = info("raw", batch=None)
    session: Any = CannedSession(device, record, one_object, capturable=False, fails=network.enqueue)
    model = ModelInput.checked(record, None, "square", "m")
    pipeline = CudaPipeline(session, dict(kernels), model, tuning=CudaTuning(max_batch=8))
    detector = Detector.over(pipeline)
    monkeypatch.setattr("yoloship.models.loading.load", lambda *_, **__: detector)
    # A canned network costs nothing, so what is measured is noise, by which batches may not pay.
    monkeypatch.setattr("yoloship.serve.cost.RunCost.best_batch", lambda _, sizes, __: sizes[-1])
    path = tmp_path / "m.onnx"
    path.touch()
    started = InProcess(settings_of(path, watch_s=0.0))
    try:
        started.wait_ready()
        yield started
    finally:
        network.open.set()
        started.close()
        detector.close()


def predict(server: InProcess, photo: bytes = PHOTOS[0]) -> Any:
    return server.ask("POST", "/v1/models/m/predict", content=photo)


def images_alone(server: InProcess) -> float:
    text = server.ask("GET", "/metrics").text
    return float(text.split('yoloship_batch_images_bucket{le="1.0",model="m"} ')[1].split()[0])


def test_images_that_wait_run_as_batches_and_get_their_own_answers(server: InProcess, network: Network) -> None:
    host = server.app.state.server.models.host("m")
    detector = host.loaded.detector
    assert detector.device.startswith("cuda")
    expected = [json.loads(json_record(Entry("image", detector(photo), index=0))) for photo in PHOTOS]
    network.open.clear()
    with ThreadPoolExecutor(40) as clients:
        asked = [clients.submit(predict, server, photo) for photo in PHOTOS * 10]
        server.wait_until(lambda: host.admission.held >= 30 and len(detector._batches()._waiting) >= 8)
        network.open.set()
        answers = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} <= {200, 429}
    right = [answer.json() == expected[n % 4] for n, answer in enumerate(answers) if answer.status_code == 200]
    assert len(right) >= 30
    assert all(right)
    assert images_alone(server) < len(right)


def test_a_lost_device_is_said_without_a_traceback_until_a_run_succeeds(
    server: InProcess, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    assert predict(server).status_code == 200
    network.is_lost = True
    for _ in range(3):
        answer = predict(server)
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "CudaError"
        assert "the device is lost" in answer.text
        assert "Traceback" not in answer.text
    assert server.ask("GET", "/readyz").status_code == 503
    assert not server.ask("GET", "/v1/models/m").json()["ready"]
    assert not any(record.exc_info for record in caplog.records)
    network.is_lost = False
    assert predict(server).status_code == 200
    assert server.ask("GET", "/readyz").status_code == 200


def ask_for_tensors(server: InProcess, count: int) -> Any:
    images = Tensor.of("images", np.zeros((count, *HW, 3), np.uint8))
    encoded = encode_request(InferRequest((images,), parameters={"binary_data_output": True}))
    return server.ask("POST", "/v2/models/m/infer", content=encoded.body, headers=encoded.headers)


def test_tensors_that_wait_run_as_batches_on_the_device(server: InProcess, network: Network) -> None:
    host = server.app.state.server.models.host("m")
    counts = [1, 2, 3, 1, 2, 8]
    network.open.clear()
    with ThreadPoolExecutor(len(counts)) as clients:
        asked = [clients.submit(ask_for_tensors, server, count) for count in counts]
        server.wait_until(lambda: host.admission.held == sum(counts))
        network.open.set()
        answers = [one.result() for one in asked]
    for count, answer in zip(counts, answers, strict=True):
        (found,) = decode_answer(answer.content, int(answer.headers["inference-header-content-length"])).outputs
        np.testing.assert_array_equal(found.array, np.stack(one_object(HW) * count))
    (stats,) = server.ask("GET", "/v2/models/m/stats").json()["model_stats"]
    assert stats["inference_count"] == sum(counts)
    assert sum(one["batch_size"] * one["compute_infer"]["count"] for one in stats["batch_stats"]) == sum(counts)
    assert max(one["batch_size"] for one in stats["batch_stats"]) <= 8
    assert server.ask("GET", "/v2/models/m/config").json()["max_batch_size"] == 8
    assert ask_for_tensors(server, 9).status_code == 400


def test_a_device_that_is_lost_to_tensors_makes_the_model_not_ready(server: InProcess, network: Network) -> None:
    assert ask_for_tensors(server, 1).status_code == 200
    network.is_lost = True
    for _ in range(3):
        answer = ask_for_tensors(server, 1)
        assert answer.status_code == 500
        assert "the device is lost" in answer.json()["error"]
    assert server.ask("GET", "/v2/health/ready").status_code == 503
    network.is_lost = False
    assert ask_for_tensors(server, 1).status_code == 200
    assert server.ask("GET", "/v2/models/m/ready").status_code == 200
