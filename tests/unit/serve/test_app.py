"""The application as a whole: what is found in images, errors in one form, and addresses that do not exist."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from helpers.serving import JPEG, PHOTO, PREDICT, cat_model, served, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from helpers.serving import InProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with served(settings_of(cat_model(tmp_path_factory.mktemp("models")))) as running:
        yield running


def is_cat(record: dict[str, object]) -> bool:
    detections = record["detections"]
    assert isinstance(detections, list)
    return [one["class_name"] for one in detections] == ["cat"]


def test_an_image_as_body_gives_the_record_of_the_sinks(server: InProcess) -> None:
    answer = server.ask("POST", PREDICT, content=PHOTO, headers=JPEG)
    assert answer.status_code == 200
    record = answer.json()
    assert is_cat(record)
    assert (record["input"], record["width"], record["height"]) == ("image", 64, 48)
    stages = [part.split(";")[0] for part in answer.headers["server-timing"].split(", ")]
    assert stages == ["decode", "queue", "network", "total"]


def test_several_files_of_a_form_give_a_record_each_and_a_broken_one_its_error(server: InProcess) -> None:
    files = [("a", ("a.jpg", PHOTO)), ("b", ("../../b.jpg", PHOTO)), ("c", ("c.jpg", b"not an image"))]
    first, second, third = server.ask("POST", PREDICT, files=files).json()["results"]
    assert is_cat(first)
    assert (first["input"], second["input"], third["input"]) == ("a.jpg", "b.jpg", "c.jpg")
    assert second["index"] == 1
    assert "is not an image" in third["error"]


def test_json_has_one_image_or_a_list(server: InProcess) -> None:
    text = base64.b64encode(PHOTO).decode()
    assert is_cat(server.ask("POST", PREDICT, json={"image": text}).json())
    listed = server.ask("POST", PREDICT, json={"images": [{"data": text, "name": "x.jpg"}, text]}).json()["results"]
    assert [record["input"] for record in listed] == ["x.jpg", "image 1"]


def test_a_threshold_in_the_query_is_used(server: InProcess) -> None:
    record = server.ask("POST", f"{PREDICT}?conf=0.99", content=PHOTO, headers=JPEG).json()
    assert record["detections"] == []


@pytest.mark.parametrize(("kind", "start"), [("image/jpeg", b"\xff\xd8"), ("image/png", b"\x89PNG")])
def test_a_client_that_accepts_images_gets_an_annotated_one(server: InProcess, kind: str, start: bytes) -> None:
    answer = server.ask("POST", PREDICT, content=PHOTO, headers={**JPEG, "Accept": kind})
    assert answer.headers["content-type"] == kind
    assert answer.content.startswith(start)
    drawn = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    assert drawn.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("method", "path", "how", "status", "words"),
    [
        ("POST", PREDICT, {"content": b""}, 400, "body: is empty"),
        ("POST", PREDICT, {"content": b"x", "headers": {"Content-Type": "text/html"}}, 415, "type that is not known"),
        ("POST", PREDICT, {"content": b"hello", "headers": JPEG}, 422, "is not an image"),
        ("POST", f"{PREDICT}?conf=nan", {"content": PHOTO}, 400, "a number from 0 to 1, got 'nan'"),
        ("POST", f"{PREDICT}?conf=0.1&conf=0.2", {"content": PHOTO}, 400, "conf: is given twice"),
        ("POST", f"{PREDICT}?speed=9", {"content": PHOTO}, 400, "speed: there is no such parameter"),
        ("POST", f"{PREDICT}?classes=dragon", {"content": PHOTO}, 400, "dragon"),
        ("POST", PREDICT, {"content": PHOTO, "headers": {"Accept": "text/html"}}, 406, "image/jpeg or image/png"),
        ("POST", PREDICT, {"json": {"image": "%%%"}}, 400, "not valid base64"),
        ("POST", PREDICT, {"json": {"image": {"url": "https://example.com/a.jpg"}}}, 400, "does not fetch images"),
        ("POST", PREDICT, {"content": PHOTO, "headers": {"X-Deadline-Ms": "nan"}}, 400, "milliseconds above 0"),
        ("POST", "/v1/models/dog/predict", {"content": PHOTO}, 404, "dog: there is no such model: expected cat"),
        ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", {}, 404, "there is no such endpoint"),
        ("GET", "/nothing", {}, 404, "there is no such endpoint"),
        ("PUT", "/healthz", {}, 405, "PUT: is not allowed here: expected GET, HEAD"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_form(
    server: InProcess, method: str, path: str, how: dict[str, object], status: int, words: str
) -> None:
    answer = server.ask(method, path, **how)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert words in error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert set(error) == {"type", "message", "request_id"}


def test_models_are_described(server: InProcess) -> None:
    (model,) = server.ask("GET", "/v1/models").json()["models"]
    assert model == server.ask("GET", "/v1/models/cat").json()
    load, cost = model["under_load"], model["run_ms"]
    seconds = (cost["per_image"] * load["batch"] + cost["per_run"]) / 1e3
    assert load["images_per_second"] == pytest.approx(load["batch"] * load["runs_at_once"] / seconds, rel=0.02, abs=0.1)
    assert load["batch"] in model["batches"]
    assert load["room"] >= 32
    assert (model["name"], model["task"], model["input_hw"]) == ("cat", "detect", [64, 64])
    assert model["class_names"] == ["cat", "dog"]
    assert (model["lowest_conf"], model["iou_is_fixed"]) == (0, False)
    assert model["ready"] is True
    assert json.dumps(model)


def test_health_is_known_at_once(server: InProcess) -> None:
    assert server.ask("GET", "/healthz").json() == {"status": "alive"}


def test_several_images_are_not_answered_with_a_picture(server: InProcess) -> None:
    files = [("a", ("a.jpg", PHOTO)), ("b", ("b.jpg", PHOTO))]
    answer = server.ask("POST", PREDICT, files=files, headers={"Accept": "image/png"})
    assert answer.status_code == 406


def test_a_clock_that_jumps_changes_no_deadline_and_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.cycle((0.0, 4e9, -1e9))
    path = cat_model(tmp_path)
    with served(settings_of(path)) as server:
        monkeypatch.setattr("time.time", lambda: 1.7e9 + next(jumps))
        headers = {**JPEG, "X-Deadline-Ms": "9000"}
        answers = [server.ask("POST", PREDICT, content=PHOTO, headers=headers) for _ in range(9)]
        assert [answer.status_code for answer in answers] == [200] * 9
        assert all(0 <= float(part) < 9000 for answer in answers for part in times_of(answer))
        host = server.app.state.server.models.host("cat")
        first = host.loaded
        replaced = cat_model(tmp_path, "new.onnx")
        os.utime(replaced, (5e9, 1e9))
        replaced.replace(path)
        server.wait_until(lambda: host.loaded is not first)
        assert server.ask("POST", PREDICT, content=PHOTO, headers=JPEG).status_code == 200


def times_of(answer: httpx.Response) -> list[str]:
    return re.findall(r"dur=([-0-9.]+)", answer.headers["server-timing"])
