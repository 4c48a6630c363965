"""What every request goes through: ids, hosts, keys, and faults without a traceback."""

from __future__ import annotations

import gc
import logging
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

from helpers.serving import JPEG, PHOTO, PREDICT, cat_model, served, settings_of
from yoloship.serve.keys import ApiKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers.serving import InProcess

KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    path = cat_model(tmp_path_factory.mktemp("models"))
    with served(settings_of(path, keys=ApiKeys((KEY, "f" * 16)), hosts=frozenset({"localhost"}))) as running:
        yield running


@pytest.mark.parametrize("headers", [{"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}, {"X-API-Key": "f" * 16}])
def test_a_request_with_a_key_is_answered(server: InProcess, headers: dict[str, str]) -> None:
    assert server.ask("POST", PREDICT, content=PHOTO, headers={**JPEG, **headers}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "the API key is missing"),
        ({"Authorization": f"Basic {KEY}"}, "the API key is missing"),
        ({"Authorization": f"Bearer {KEY}x"}, "the API key is wrong"),
        ({"X-API-Key": KEY[:-1]}, "the API key is wrong"),
    ],
)
@pytest.mark.parametrize("path", [PREDICT, "/v1/models", "/metrics", "/nothing"])
def test_without_a_right_key_nothing_is_told(server: InProcess, path: str, headers: dict[str, str], words: str) -> None:
    answer = server.ask("GET", path, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_key(server: InProcess, path: str) -> None:
    assert server.ask("GET", path).status_code == 200


def test_another_host_name_is_refused(server: InProcess) -> None:
    answer = server.ask("GET", "/healthz", headers={"Host": "attacker.example"})
    assert answer.status_code == 400
    assert "this server does not answer requests for this host name" in answer.json()["error"]["message"]


def test_other_web_sites_cannot_send_images(server: InProcess) -> None:
    headers = {"X-API-Key": KEY, "Sec-Fetch-Site": "cross-site"}
    assert server.ask("POST", PREDICT, content=PHOTO, headers=headers).status_code == 400


@pytest.mark.parametrize(
    ("given", "is_kept"), [("job-17/a", True), ("a b", False), ("x" * 200, False), ("\x1b", False)]
)
def test_the_id_of_a_client_is_kept_if_it_is_harmless(server: InProcess, given: str, is_kept: bool) -> None:
    answer = server.ask("GET", "/healthz", headers={"X-Request-Id": given})
    assert (answer.headers["x-request-id"] == given) is is_kept


def test_a_fault_of_ours_gives_an_id_and_no_traceback(
    server: InProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("yoloship.serve.routes.wanted_form", fail)
    with caplog.at_level(logging.ERROR, "yoloship.serve"):
        answer = server.ask("POST", PREDICT, content=PHOTO, headers={**JPEG, "X-API-Key": KEY})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    assert "secret" in caplog.text


def test_a_request_has_a_line_in_the_log(server: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "yoloship.serve"):
        server.ask("GET", "/healthz", headers={"X-Request-Id": "line-1"})
    facts = next(record.facts for record in caplog.records if record.__dict__.get("facts", {}).get("id") == "line-1")  # type: ignore[attr-defined]  # ours
    assert (facts["method"], facts["path"], facts["status"]) == ("GET", "/healthz", 200)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_names_that_clients_make_up_do_not_become_metrics(server: InProcess, method: str) -> None:
    key = {"X-API-Key": KEY}
    for path in ("/v1/models/made-up", "/v1/models/made-up/predict"):
        assert server.ask(method, path, headers=key).status_code in {404, 405}
    assert "made-up" not in server.ask("GET", "/metrics", headers=key).text


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (200, {"content": PHOTO}),
        (422, {"content": PHOTO[:100]}),
        (200, {"files": [("a", ("a", PHOTO)), ("b", ("b", PHOTO[:100]))]}),
        (400, {"content": b"{" * 999, "headers": {"Content-Type": "application/json"}}),
        (504, {"content": PHOTO, "headers": {"X-Deadline-Ms": "0.001"}}),
        (400, {"content": PHOTO, "headers": {"Host": "attacker.example"}}),
    ],
    ids=["fine", "damaged", "one of two", "not JSON", "late", "host"],
)
def test_no_request_leaves_its_calls_and_their_bodies_to_the_garbage_collector(
    server: InProcess, status: int, how: dict[str, Any]
) -> None:
    given = {**how, "headers": {"X-API-Key": KEY, **how.get("headers", {})}}
    assert server.ask("POST", PREDICT, **given).status_code == status
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        server.ask("POST", PREDICT, **given)
        gc.collect()
        frames = [one.f_code for one in gc.garbage if isinstance(one, FrameType)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert [one.co_name for one in frames if "yoloship" in one.co_filename and "tests" not in one.co_filename] == []
