"""Models are loaded in the background, and again when their file is replaced."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import onnx
import pytest

from helpers.models import finds_a_cat
from helpers.serving import HW, JPEG, PHOTO, PREDICT, InProcess, cat_model, served, settings_of
from yoloship.serve.metrics import Metrics
from yoloship.serve.reloading import ModelTable

if TYPE_CHECKING:
    from pathlib import Path


def replace(path: Path, data: bytes) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(data)
    beside.replace(path)


def test_a_replaced_file_answers_after_a_while_and_until_then_the_old_one_does(tmp_path: Path) -> None:
    path = cat_model(tmp_path)
    with served(settings_of(path)) as server:
        replace(path, finds_a_cat(HW, "{0: 'lynx', 1: 'dog'}").SerializeToString())

        def name() -> str:
            answer = server.ask("POST", PREDICT, content=PHOTO, headers=JPEG)
            assert answer.status_code == 200
            return str(answer.json()["detections"][0]["class_name"])

        seen = {name()}

        def has_come() -> bool:
            seen.add(name())
            return "lynx" in seen

        server.wait_until(has_come)
        assert seen <= {"cat", "lynx"}
        assert server.ask("GET", "/v1/models/cat").json()["class_names"] == ["lynx", "dog"]


def test_garbage_in_place_of_the_file_leaves_the_old_model_and_is_said(tmp_path: Path) -> None:
    path = cat_model(tmp_path)
    with served(settings_of(path)) as server:
        replace(path, b"this is garbage")
        server.wait_until(lambda: server.ask("GET", "/v1/models/cat").json()["problem"])
        answer = server.ask("POST", PREDICT, content=PHOTO, headers=JPEG)
        assert answer.json()["detections"][0]["class_name"] == "cat"
        assert server.ask("GET", "/readyz").status_code == 200
        assert 'yoloship_loads_total{model="cat",outcome="failed"} 1.0' in server.ask("GET", "/metrics").text


def test_a_file_that_is_gone_leaves_the_old_model(tmp_path: Path) -> None:
    path = cat_model(tmp_path)
    with served(settings_of(path)) as server:
        path.unlink()
        assert server.ask("POST", PREDICT, content=PHOTO, headers=JPEG).status_code == 200
        onnx.save(finds_a_cat(HW, "{0: 'back', 1: 'dog'}"), str(path))
        server.wait_until(lambda: server.ask("GET", "/v1/models/cat").json()["class_names"][0] == "back")


def test_a_model_that_cannot_be_loaded_at_the_start_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "cat.onnx"
    path.write_bytes(b"garbage")
    server = InProcess(settings_of(path))
    try:
        server.wait_until(lambda: server.failures)
        assert server.ask("GET", "/readyz").status_code == 503
        assert server.ask("GET", "/healthz").status_code == 200
        answer = server.ask("POST", PREDICT, content=PHOTO, headers=JPEG)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    finally:
        server.close()


def test_nobody_waits_for_ever_if_it_is_not_the_model_that_fails(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.reloads.labels = None  # type: ignore[method-assign, assignment]  # as if the folder of metrics were gone

    async def wait() -> None:
        table = ModelTable(settings_of(cat_model(tmp_path)), metrics, lambda _: None)
        table.start()
        await asyncio.wait_for(table.are_loaded(), 30)
        with pytest.raises(TypeError):
            await table.stop()

    asyncio.run(wait())
