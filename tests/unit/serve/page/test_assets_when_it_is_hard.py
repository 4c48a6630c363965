"""The page with a video and a camera, with keys, and with a server that is busy, slow, loading or gone."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.browsing import FAILED_LOAD, browsing, finder, named, opened, settings_for, tab
from helpers.images import saved, smooth
from helpers.serving import listening_app
from helpers.videos import Clip, write_clip
from yoloship.serve.keys import ApiKeys
from yoloship.serve.settings import RequestLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Page, Route
    from starlette.applications import Starlette

KEY = "key-" + "k" * 20
PHOTO = named("photo.png", saved(smooth(64, 64), "PNG"))
NOISE = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
LARGE = named("large.png", saved(NOISE, "PNG"))
"""More than fits into the buffers of a connection, so that the server answers before it has read it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as one:
        yield one


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finder(tmp_path_factory.mktemp("models") / "cats.onnx", ("cat", "dog"), [(20, 20, 10, 10, 0.9, 0)])


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[tuple[str, Starlette]]:
    with running(model, limits=RequestLimits(queue=1, max_body_bytes=8_000_000)) as one:
        yield one


@contextmanager
def running(model: Path, **others: Any) -> Iterator[tuple[str, Starlette]]:
    """The address of a server, and its application."""
    with listening_app(settings_for(model, **others)) as (port, app):
        yield f"http://127.0.0.1:{port}/", app


@pytest.fixture(scope="module")
def context(browser: Browser) -> BrowserContext:
    return browser.new_context()


@pytest.fixture
def page(context: BrowserContext, server: tuple[str, Starlette]) -> Iterator[Page]:
    with tab(context, server[0], allowed=FAILED_LOAD) as one:
        one.locator("#choose:enabled").wait_for()
        yield one


def test_the_frames_of_a_video_are_sent_one_at_a_time(page: Page, tmp_path: Path) -> None:
    clip = write_clip(
        tmp_path / "clip.webm", Clip(times_ms=range(0, 1000, 40), codec="libvpx", options={"cpu-used": "8"})
    )
    under_way, most = [0], [0]

    def begin(request: Any) -> None:
        if "/predict" in request.url:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])

    def end(request: Any) -> None:
        under_way[0] -= "/predict" in request.url

    page.on("request", begin)
    page.on("requestfinished", end)
    page.set_input_files("#files", clip)
    page.locator("#sent", has_text="frames a second").wait_for()
    assert page.evaluate("document.getElementById('video').controls")
    page.evaluate(
        """new Promise(done => {
        const one = document.getElementById("video");
        if (one.ended) done(); else one.onended = done; })"""
    )
    page.locator("#sent", has_text=re.compile(r"at 0\.9\d s|at 1\.\d+ s")).wait_for()  # the last frame is answered too
    assert page.inner_text("#sent").startswith("clip.webm · at ")
    assert "96 × 64" in page.inner_text("#sent")
    assert "sent as JPEG of quality 92 in full size" in page.inner_text("#sent")
    assert page.inner_text(".all") == "1 object"
    assert most == [1]
    page.evaluate("document.getElementById('video').currentTime = 0.2")
    page.locator("#sent", has_text="at 0.20 s").wait_for()
    page.set_input_files("#files", [PHOTO])
    page.locator("#status", has_text="photo.png: 1 object").wait_for()
    assert not page.locator("#player").is_visible()


def test_a_video_that_the_browser_cannot_play_is_said(page: Page) -> None:
    page.set_input_files("#files", [named("bad.mp4", b"not a video", "video/mp4")])
    page.locator("#problem", has_text="This browser cannot play bad.mp4. Convert it").wait_for()
    assert page.locator("#drop").is_visible()


def test_the_camera_is_shown_and_its_last_frame_stays(page: Page) -> None:
    page.click("#camera")
    page.locator("#sent", has_text="frames a second").wait_for()
    assert page.inner_text("#status") == "The camera is on."
    assert page.inner_text("#sent").startswith("camera · 1280 × 720 · ")
    page.fill("#threshold-number", "0.95")
    page.locator(".all", has_text="0 objects of 1").wait_for()
    page.click("#stop")
    page.locator("#status", has_text="camera.jpg: 0 objects.").wait_for()
    assert page.evaluate("document.getElementById('video').srcObject") is None
    assert not page.locator("#player").is_visible()


def test_a_page_without_https_says_why_there_is_no_camera(browser: Browser, server: tuple[str, Starlette]) -> None:
    with opened(browser, server[0]) as page:
        page.locator("#choose:enabled").wait_for()
        page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
        page.click("#camera")
        page.locator("#problem", has_text="to https and to localhost only. Open this page there.").wait_for()


def test_a_server_with_keys_asks_for_one_and_the_tab_keeps_it(browser: Browser, model: Path) -> None:
    with (
        running(model, keys=ApiKeys((KEY,))) as (address, _),
        opened(browser, address, allowed=FAILED_LOAD) as page,
    ):
        page.locator("#problem", has_text="This server needs an API key.").wait_for()
        assert page.evaluate("document.activeElement.id") == "key"
        assert page.locator("#choose").is_disabled()
        page.keyboard.type("wrong-key-wrong-key")
        page.keyboard.press("Enter")
        page.locator("#problem", has_text="The API key is wrong.").wait_for()
        page.keyboard.type(KEY)
        page.keyboard.press("Enter")
        page.locator("#choose:enabled").wait_for()
        assert not page.locator("#key-form").is_visible()
        page.set_input_files("#files", [PHOTO])
        page.locator("#status", has_text="1 object").wait_for()
        page.reload()
        page.locator("#choose:enabled").wait_for()
        assert KEY not in page.url
        assert page.evaluate("[Object.values(sessionStorage), localStorage.length, document.cookie]") == [[KEY], 0, ""]
        page.click("#forget")
        assert page.evaluate("sessionStorage.length") == 0
        page.set_input_files("#files", [LARGE])  # the refusal comes before its body is read
        page.locator("#problem", has_text="This server needs an API key.").wait_for()
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.locator("#status", has_text="large.png: 1 object").wait_for()


def test_a_busy_server_is_asked_again(page: Page, server: tuple[str, Starlette]) -> None:
    (host,) = server[1].state.server.models
    with host.admission.permit():
        page.set_input_files("#files", [LARGE])
        page.locator("#status", has_text="The server is busy. Asking again in 1 s.").wait_for()
    page.locator("#status", has_text="large.png: 1 object").wait_for()
    assert not page.locator("#trouble").is_visible()


def test_a_camera_goes_on_when_the_server_has_room_again(page: Page, server: tuple[str, Starlette]) -> None:
    (host,) = server[1].state.server.models
    with host.admission.permit():
        page.click("#camera")
        page.locator("#problem", has_text="The server is busy. Trying again in 1 s.").wait_for()
    page.locator("#sent", has_text="frames a second").wait_for()
    assert not page.locator("#trouble").is_visible()


def test_a_file_that_is_too_large_is_not_sent(browser: Browser, model: Path) -> None:
    with (
        running(model, limits=RequestLimits(max_body_bytes=100)) as (address, _),
        opened(browser, address) as page,
    ):
        page.locator("#choose:enabled").wait_for()
        page.set_input_files("#files", [PHOTO])
        page.locator("#problem", has_text="and the server takes 100 bytes. Choose a smaller one.").wait_for()


FAILURES: tuple[tuple[dict[str, Any] | None, str], ...] = (
    ({"status": 504, "json": {"error": {"message": "late"}}}, "The answer took longer than the server allows."),
    ({"status": 500, "json": {"error": {"message": "<b>lost"}}}, "The server refused this (500): <b>lost"),
    ({"status": 502, "body": "<html>"}, "The server refused this (502): Bad Gateway"),
    ({"status": 200, "body": "<html>"}, "The answer is not JSON: does a proxy answer instead of the server?"),
    (None, "The server cannot be reached. Is it still running?"),
)


def refusing(answer: dict[str, Any] | None) -> Callable[[Route], None]:
    """Gives this answer instead of the server; None closes the connection."""
    return lambda route: route.abort() if answer is None else route.fulfill(**answer)


def test_what_fails_is_said_in_a_line_and_can_be_tried_again(page: Page) -> None:
    for answer, words in FAILURES:
        page.route("**/predict**", refusing(answer))
        page.set_input_files("#files", [PHOTO])
        page.get_by_role("alert").filter(has_text=f"photo.png: {words}").wait_for()
        assert page.locator("#problem b").count() == 0
        page.unroute("**/predict**")
        page.click("#retry")
        page.locator("#status", has_text="photo.png: 1 object").wait_for()
        assert not page.locator("#trouble").is_visible()


def test_models_that_are_still_loaded_are_waited_for(browser: Browser, server: tuple[str, Starlette]) -> None:
    asked = []

    def loading(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(json={"models": [{"name": "cats", "ready": False}]})
        else:
            route.continue_()

    context = browser.new_context()
    page = context.new_page()
    page.route("**/v1/models", loading)
    page.goto(server[0])
    page.locator("#status", has_text="Loading cats…").wait_for()
    page.locator("#status", has_text="The model is ready.").wait_for()
    context.close()
