"""Repositories of ours on a real Triton server, with its Python backend."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers import shared, tritonserver
from helpers.cli import run
from helpers.images import saved, smooth
from helpers.samples import sample
from helpers.serving import cat_model
from yoloship import load
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.images import read_image
from yoloship.model import FASTEST
from yoloship.triton.answers import from_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from helpers.tritonserver import Server

PHOTO = saved(smooth(48, 64), "JPEG")
SMALL = saved(smooth(20, 30), "PNG")
TASKS = ("segment", "pose", "obb", "classify")
IMGSZ = 320


def as_input(*files: bytes) -> dict[str, npt.NDArray[np.uint8]]:
    length = max(map(len, files))
    rows = b"".join(one.ljust(length, b"\0") for one in files)
    return {"image": np.frombuffer(rows, np.uint8).reshape(len(files), length)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of all models."""
    folder = tmp_path_factory.mktemp("models")
    cat_model(folder)
    for task in TASKS:
        config = GraphConfig((64, 64), None, input_form="image", output_form=FASTEST)
        (folder / f"{task}.onnx").write_bytes(graph_bytes(build_graph(sample("ultralytics", task), config)))
    return folder


@pytest.fixture(scope="module")
def repository(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "repository"
    checkpoint = shared.require(shared.TRAINED / "coco-yolov5n.pt")
    others = [f"{task}={models / f'{task}.onnx'}" for task in TASKS]
    for arguments in (
        [f"coco={checkpoint}", "--imgsz", str(IMGSZ)],
        [f"cat={models / 'cat.onnx'}", *others, "--queue-delay-ms", "100", "--config", "two:max-batch=2"],
        [f"pixels={models / 'cat.onnx'}", "--input", "pixels", "--conf", "0.95", "--max-det", "7"],
    ):
        ran = run("triton", *arguments, "-o", folder)
        assert ran.code == 0, ran
    return folder


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with tritonserver.serving(repository, tmp_path_factory.mktemp("log") / "log.txt") as server:
        yield server


def test_every_model_was_warmed_up_with_one_image_and_the_largest_batch(server: Server) -> None:
    sizes = {entry["batch_size"] for entry in server.statistics("pixels")["batch_stats"]}
    assert sizes == {1, 8}


def test_answers_are_those_of_the_checkpoint_on_this_machine(server: Server, photos: Path) -> None:
    with load(shared.TRAINED / "coco-yolov5n.pt", imgsz=IMGSZ) as detector:
        for name in ("bus.jpg", "street.jpg", "zidane.jpg"):
            data = (photos / name).read_bytes()
            expected = detector(data)
            wanted = ("count", "scores", "boxes_xyxy", "class_ids", "image_hw", "result")
            found = server.infer("coco", as_input(data), wanted)
            result: Any = from_tensors(found, detector.info, expected.image_hw, "triton")
            assert len(expected) > 1
            assert result.class_ids.tolist() == expected.class_ids.tolist()
            assert np.allclose(result.scores, expected.scores, atol=1e-5)
            assert np.allclose(result.boxes_xyxy, expected.boxes_xyxy, atol=0.01)
            record = json.loads(found["result"].tobytes())
            assert [one["class_name"] for one in record["detections"]] == [one.class_name for one in expected]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_gives_the_same_as_on_this_machine(server: Server, models: Path, task: str) -> None:
    photo = saved(smooth(50, 70), "PNG")
    with load(models / f"{task}.onnx") as detector:
        expected = detector(photo)
        outputs = [one["name"] for one in server.ask(f"/v2/models/{task}")["outputs"]]
        found = server.infer(task, as_input(photo), outputs)
        result: Any = from_tensors(found, detector.info, expected.image_hw, "triton")
    assert len(expected)
    if task == "segment":
        assert np.array_equal(result.masks.array, expected.masks.array)
        assert np.allclose(result.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)
    elif task == "classify":
        assert np.allclose(result.probabilities, expected.probabilities, atol=1e-6)
    else:
        name = "keypoints" if task == "pose" else "boxes_xywhr"
        assert np.allclose(getattr(result, name), getattr(expected, name), atol=1e-3)


def test_requests_at_the_same_time_become_batches(server: Server) -> None:
    before = server.statistics("cat")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: server.infer("cat", as_input(PHOTO), ("count",)), range(32)))
    after = server.statistics("cat")
    assert [answer["count"].tolist() for answer in answers] == [[[1]]] * 32
    images = after["inference_count"] - before["inference_count"]
    runs = after["execution_count"] - before["execution_count"]
    assert images == 32
    assert runs < images


def test_a_bad_picture_fails_its_own_request_among_others_of_its_batch(server: Server) -> None:
    def ask(data: bytes) -> str:
        try:
            return str(server.infer("cat", as_input(data), ("image_hw",))["image_hw"].tolist())
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read().decode()}"

    files = [PHOTO, b"no picture", SMALL, b"", PHOTO[:300], PHOTO]
    with ThreadPoolExecutor(len(files)) as pool:
        good, bad, small, empty, short, also_good = pool.map(ask, files)
    assert good == also_good == "[[48, 64]]"
    assert small == "[[20, 30]]"
    assert bad.startswith('400 {"error":"image bytes: is not an image')
    assert empty.startswith('400 {"error":"image: is empty')
    assert short.startswith("400 ")


def test_a_request_can_have_several_images_and_its_own_threshold(server: Server) -> None:
    found = server.infer("cat", as_input(PHOTO, SMALL), ("count", "image_hw"), score_threshold=0.95)
    assert found["image_hw"].tolist() == [[48, 64], [20, 30]]
    assert found["count"].tolist() == [[0], [0]]


def test_the_body_of_a_request_can_be_the_image_file_alone(server: Server) -> None:
    request = urllib.request.Request(
        f"http://{server.address}/v2/models/cat/infer", PHOTO, {"Inference-Header-Content-Length": "0"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        data = answer.read()[int(answer.headers["Inference-Header-Content-Length"]) :]
    record, _ = json.JSONDecoder().raw_decode(data.decode("latin-1"))
    assert [one["class_name"] for one in record["detections"]] == ["cat"]


def test_decoded_pixels_are_taken_and_options_were_written_down(server: Server) -> None:
    pixels = read_image(PHOTO)[None]
    found = server.infer("pixels", {"pixels": pixels}, ("count", "scores", "image_hw"))
    assert found["image_hw"].tolist() == [[48, 64]]
    assert found["scores"].shape == (1, 7)
    assert found["count"].tolist() == [[0]]
    found = server.infer("pixels", {"pixels": pixels}, ("count",), score_threshold=0.5)
    assert found["count"].tolist() == [[1]]


def test_a_server_takes_the_configuration_that_its_option_names(repository: Path, tmp_path: Path) -> None:
    only = tmp_path / "repository"
    only.mkdir()
    (only / "cat").symlink_to(repository / "cat")
    with tritonserver.serving(only, tmp_path / "log.txt", "--model-config-name=two") as server:
        assert server.ask("/v2/models/cat/config")["max_batch_size"] == 2
        assert {one["batch_size"] for one in server.statistics("cat")["batch_stats"]} == {1, 2}


def test_a_model_that_cannot_be_loaded_is_refused_with_our_line(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "cat", tmp_path / "repository/cat")
    (tmp_path / "repository/cat/1/model.onnx").write_bytes(b"not a model")
    process, _ = tritonserver.start(tmp_path / "repository", tmp_path / "log.txt")
    try:
        assert process.wait() != 0
    finally:
        tritonserver.end(process)
    log = (tmp_path / "log.txt").read_text()
    assert "1/model.onnx: is a text file, not a checkpoint, an ONNX model or a TensorRT engine" in log


def test_the_check_passes_with_the_model_that_is_served(server: Server, photos: Path) -> None:
    model = shared.TRAINED / "coco-yolov5n.pt"
    ran = run("triton", "check", server.address, "--model", model, "--name", "coco", photos, "--json", "-")
    assert ran.code == 0, ran
    report = json.loads(ran.out)
    assert report["passed"] is True
    assert report["agreement"]["share"] == 1.0
    assert report["agreement"]["first_count"] > 5
    assert {one["agreement"] for one in report["pictures"]} == {1.0}


@pytest.mark.parametrize("task", TASKS)
def test_the_check_passes_for_every_task(server: Server, models: Path, tmp_path: Path, task: str) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(saved(smooth(50, 70), "PNG"))
    ran = run("triton", "check", server.address, "--model", models / f"{task}.onnx", photo)
    assert ran.code == 0, ran


def test_the_check_takes_the_thresholds_and_the_input_of_the_served_model(
    server: Server, models: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PHOTO)
    ran = run("triton", "check", server.address, "--model", models / "cat.onnx", "--name", "pixels", photo)
    assert ran.code == 1
    assert "detects anything with a score above 0.95 (--conf), so nothing was compared" in ran.err
    arguments = ("--model", models / "cat.onnx", "--name", "pixels", photo, "--conf", "0.5")
    assert run("triton", "check", server.address, *arguments).code == 0


def test_the_check_fails_if_the_served_model_is_another(server: Server, models: Path, photos: Path) -> None:
    served = ("triton", "check", server.address, "--name", "coco", photos / "bus.jpg", "--model")
    ran = run(*served, shared.require(shared.TRAINED / "ppe-yolov5n.pt"))
    assert ran.error.startswith(f"http://{server.address} coco: has different classes: expected ")
    assert run(*served, models / "pose.onnx").error == (
        f"http://{server.address} coco: is a model of another task: expected a pose model, got a detection model"
    )


def test_the_check_fails_if_the_served_model_answers_otherwise(server: Server, models: Path, tmp_path: Path) -> None:
    import onnx

    from helpers.models import constant_raw, empty_rows

    raw = empty_rows((64, 64), 7)
    raw[0, 40] = (50, 50, 20, 10, 0.9, 1.0, 0.0)
    other = constant_raw(raw, (64, 64), {"names": "{0: 'cat', 1: 'dog'}", "stride": "32"})
    onnx.save(other, str(tmp_path / "cat.onnx"))
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PHOTO)
    ran = run("triton", "check", server.address, "--model", tmp_path / "cat.onnx", photo)
    assert ran.code == 1
    assert "FAIL" in ran.out
    assert f"{photo}: 1 detection here, 1 detection there, 0.00 in both" in " ".join(ran.out.split())
    assert "differs from" in ran.err.splitlines()[-1]


def test_the_check_says_that_there_is_no_such_model(server: Server, models: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PHOTO)
    ran = run("triton", "check", server.address, "--model", models / "cat.onnx", "--name", "none", photo)
    assert "none" in ran.error
