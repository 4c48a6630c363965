"""Deadlines and room of requests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from helpers.serving import JPEG, PHOTO, PREDICT, cat_model, served, settings_of
from helpers.web_server import WebServer
from helpers.web_server import answer as web_answer
from yoloship._util.addresses import AddressRules
from yoloship.serve.metrics import Metrics
from yoloship.serve.routes import ENDPOINTS
from yoloship.serve.settings import RequestLimits

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_no_two_addresses_are_the_same() -> None:
    assert len({(one.method, one.path) for one in ENDPOINTS}) == len(ENDPOINTS)


def test_a_full_queue_is_refused_at_once_and_counted(tmp_path: Path) -> None:
    with served(settings_of(cat_model(tmp_path), RequestLimits(queue=1))) as server:
        with server.image_waiting("cat"):
            answer = server.ask("POST", PREDICT, content=PHOTO, headers=JPEG)
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["type"] == "BusyError"
        assert server.ask("POST", PREDICT, content=PHOTO, headers=JPEG).status_code == 200
        assert 'yoloship_rejected_total{model="cat",reason="BusyError"} 1.0' in server.ask("GET", "/metrics").text


def test_others_are_answered_while_metrics_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()

    def text(_: Metrics) -> bytes:
        begun.set()
        go.wait()
        return b"a 1"

    monkeypatch.setattr(Metrics, "text", text)
    with served(settings_of(cat_model(tmp_path))) as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask, "GET", "/metrics")
        begun.wait()
        assert server.ask("GET", "/healthz").status_code == 200
        assert not asked.done()
        go.set()
        assert asked.result().text == "a 1"


def test_a_deadline_that_nothing_can_meet_is_a_504(tmp_path: Path) -> None:
    with served(settings_of(cat_model(tmp_path))) as server:
        answer = server.ask("POST", PREDICT, content=PHOTO, headers={**JPEG, "X-Deadline-Ms": "0.001"})
        assert answer.status_code == 504
        assert answer.json()["error"]["type"] == "LateError"


def test_a_request_cannot_have_more_images_than_allowed(tmp_path: Path) -> None:
    with served(settings_of(cat_model(tmp_path), RequestLimits(max_images=2))) as server:
        files = [("a", ("a.jpg", PHOTO))] * 3
        assert server.ask("POST", PREDICT, files=files).status_code == 413
        assert server.ask("POST", PREDICT, files=files[:2]).status_code == 200


def test_all_bodies_are_given_back(tmp_path: Path) -> None:
    with served(settings_of(cat_model(tmp_path))) as server:
        for content in (PHOTO, b"garbage"):
            server.ask("POST", PREDICT, content=content, headers=JPEG)
        server.ask("POST", PREDICT, json={"image": 5})
        assert server.app.state.server.bodies.held_bytes == 0


def test_an_image_at_an_address_is_fetched_by_the_rules_if_that_is_allowed(tmp_path: Path) -> None:
    with WebServer(lambda _: web_answer(PHOTO, kind="image/jpeg")) as photos:
        rules = AddressRules(allow_http=True, allow_private=True)
        with served(settings_of(cat_model(tmp_path), addresses=rules)) as server:
            answer = server.ask("POST", PREDICT, json={"image": {"url": f"{photos.url}/a.jpg"}})
            assert [one["class_name"] for one in answer.json()["detections"]] == ["cat"]
        with served(settings_of(cat_model(tmp_path), addresses=AddressRules(allow_http=True))) as server:
            answer = server.ask("POST", PREDICT, json={"image": {"url": f"{photos.url}/a.jpg"}})
            assert answer.status_code == 400
            assert "127.0.0.1" in answer.json()["error"]["message"]
