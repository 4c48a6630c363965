"""The command line, a validation and the server on two GPUs: the same answers as on one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.canned_device import CannedContext, CannedSession, slow
from helpers.cli import run
from helpers.datasets import write_image, write_yolo
from helpers.images import saved
from helpers.models import empty_rows, info
from helpers.serving import InProcess
from helpers.shared import TRAINED, require
from yoloship.cuda.device import find_gpus
from yoloship.models import gpu_loading
from yoloship.models.loading import load
from yoloship.serve.settings import RequestLimits, ServedModel, ServeSettings
from yoloship.validate.validation import val

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream

BOTH = "cuda:0,cuda:1"
RECORD = info("raw", batch=None)


class AnyBatch(CannedSession):
    """Takes batches of any size, as the detectors of `load` make them."""

    def context(self, input_shapes: Mapping[str, tuple[int, ...]], stream: Stream) -> CannedContext:
        made = CannedContext(self, input_shapes["images"], stream)
        self.contexts.append(made)
        return made


def one_object(canvas_hw: tuple[int, int]) -> list[npt.NDArray[np.float32]]:
    rows = empty_rows(canvas_hw)
    rows[0, 27, :6] = (40, 30, 20, 10, 0.9, 1)
    return [rows[0]]


@pytest.fixture(autouse=True)
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[CannedSession]:
    """What was opened, in place of a runtime."""
    if len(find_gpus()) < 2:
        pytest.skip(f"needs two GPUs, and there is {len(find_gpus())}")
    made: list[CannedSession] = []

    def canned(_: object, device: Device, *__: object) -> CannedSession:
        made.append(AnyBatch(device, RECORD, one_object, capturable=False, fails=slow))
        return made[-1]

    monkeypatch.setattr(gpu_loading, "_open", canned)
    return made


@pytest.fixture
def model() -> Path:
    return require(TRAINED / "coco-yolov5n.pt")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """They differ in their size, which moves the boxes."""
    names = [tmp_path / f"{number:02}.png" for number in range(24)]
    for number, name in enumerate(names):
        name.write_bytes(saved(np.zeros((40 + number, 90, 3), np.uint8), "PNG"))
    return names


def test_predict_writes_what_it_writes_with_one(
    model: Path, photos: list[Path], tmp_path: Path, sessions: list[CannedSession]
) -> None:
    written = []
    for number, device in enumerate(("cuda:0", "cuda:all", BOTH)):
        target = tmp_path / f"{number}.jsonl"
        done = run("predict", model, *photos, "--device", device, "--no-draw", "--jsonl", target)
        assert done.code == 0, done.err
        written.append(target.read_text())
    assert written[0].count("\n") == len(photos)
    assert written == written[:1] * 3
    assert [str(session.device) for session in sessions[:3]] == ["cuda:0", "cuda:0", "cuda:1"]
    assert all(session.contexts and session.closed for session in sessions)


def test_bench_measures_both_together(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sessions: list[CannedSession]
) -> None:
    monkeypatch.setattr("yoloship.evaluate.bench_cases._check_provider", lambda: None)
    written = tmp_path / "bench.json"
    quick = ("--rounds", "1", "--runs", "1", "--seconds", "0.1", "--streams", "2", "--batch", "4")
    done = run("bench", model, "--device", "cuda:0,cuda:all", *quick, "--json", written)
    assert done.code == 0, done.err
    assert [case["device"] for case in json.loads(written.read_text())["results"]] == ["cuda:0", BOTH]
    assert all(session.contexts for session in sessions)


def test_bench_measures_images_that_lie_on_one_gpu(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sessions: list[CannedSession]
) -> None:
    monkeypatch.setattr("yoloship.evaluate.bench_cases._check_provider", lambda: None)
    written = tmp_path / "bench.json"
    quick = ("--rounds", "1", "--runs", "1", "--seconds", "0.1", "--batch", "2", "--from", "device")
    done = run("bench", model, "--device", "cuda:1", *quick, "--json", written)
    assert done.code == 0, done.err
    report = json.loads(written.read_text())
    assert (report["from"], report["results"][0]["decoded_by"]) == ("device", None)
    assert report["results"][0]["array_ms"]["runs"] == 1
    assert all(session.contexts and session.closed for session in sessions)
    both = run("bench", model, "--device", "cuda:all", *quick)
    assert (both.code, "--from device: needs models on one GPU" in both.error) == (1, True)


def test_a_validation_gives_the_numbers_of_one(model: Path, tmp_path: Path, sessions: list[CannedSession]) -> None:
    with load(model, device="cuda:0") as detector:
        found = detector(write_image(tmp_path / "any.png", (40, 80)))
    (left, top, right, bottom), (class_id,) = found.boxes_xyxy[0] / (80, 40, 80, 40), found.class_ids
    line = f"{class_id} {(left + right) / 2} {(top + bottom) / 2} {right - left} {bottom - top}\n"
    labels = {f"{number}.png": line for number in range(12)}
    data = write_yolo(tmp_path, labels, f"val: images/val\nnames: [{', '.join(RECORD.class_names)}]\n")
    one, both = (val(model, data, device=device) for device in ("cuda:0", BOTH))
    assert one.map50 is not None
    assert one.map50 > 0.99
    assert (one.settings["device"], both.settings["device"]) == ("cuda:0", BOTH)
    differs = ("speed_ms", "settings", "versions")
    kept = [{name: value for name, value in each.to_dict().items() if name not in differs} for each in (one, both)]
    assert kept[0] == kept[1]
    assert all(session.contexts for session in sessions)


def test_the_server_answers_from_both(model: Path, photos: list[Path], sessions: list[CannedSession]) -> None:
    server = InProcess(ServeSettings((ServedModel("m", str(model), {"device": BOTH}),), RequestLimits(), watch_s=0.0))
    try:
        server.wait_ready()

        def ask(photo: Path) -> Any:
            return server.ask("POST", "/v1/models/m/predict", content=photo.read_bytes())

        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(ask, photos))
        assert server.ask("GET", "/v1/models/m").json()["device"] == BOTH
    finally:
        server.close()
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert sum(answer.status_code == 200 for answer in answers) > 1
    assert all(session.contexts for session in sessions)
