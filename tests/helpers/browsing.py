"""The server's page in a headless Chromium, for tests: a skip without the browser, which fails in CI."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import onnx
import pytest

from helpers.models import constant_raw, empty_rows
from helpers.shared import IN_CI
from yoloship.serve.settings import ServedModel, ServeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, FilePayload, Page

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)  # fmt: skip
FAILED_LOAD = "Failed to load resource"
"""Chromium's own line for an answer with a status of 400 or more; the page cannot avoid it."""
HW = (64, 64)


def chromium() -> str:
    """Where the browser is. Without one, skip the test, or fail it in CI."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if IN_CI:
            pytest.fail("no browser: CI must have chromium")
        pytest.skip("no browser (chromium) on this machine")
    return found


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser with a camera that shows a test picture."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, address: str, *, allowed: str | None = None, **context: Any) -> Iterator[Page]:
    """The page in a context of its own, with the arguments of `Browser.new_context`; see `tab`."""
    shown = browser.new_context(**context)
    try:
        with tab(shown, address, allowed=allowed) as page:
            yield page
    finally:
        shown.close()


@contextmanager
def tab(context: BrowserContext, address: str, *, allowed: str | None = None) -> Iterator[Page]:
    """The page in a tab of its own. At its end nothing may stand on the console, and no script may have failed.

    Args:
        context: Of the browser.
        address: Of the page.
        allowed: The beginning of lines on the console that the test provokes.
    """
    page = context.new_page()
    page.set_default_timeout(60_000)
    lines: list[str] = []
    page.on("console", lambda message: lines.append(message.text))
    page.on("pageerror", lambda error: lines.append(f"script failed: {error}"))
    try:
        page.goto(address)
        yield page
    finally:
        page.close()
    assert [line for line in lines if allowed is None or not line.startswith(allowed)] == []


def named(name: str, data: bytes, kind: str = "image/png") -> FilePayload:
    """A file for the page, and the type that the browser believes it has."""
    return {"name": name, "mimeType": kind, "buffer": data}


def rows(page: Page, pane: int = 0) -> list[list[str]]:
    """The cells of a table of what was found."""
    table = page.locator(".pane").nth(pane).locator(".found tbody tr:visible")
    return [[cell.strip() for cell in row.split("\t")] for row in table.all_inner_texts()]


def pixel(page: Page, x: float, y: float) -> list[int]:
    """Red, green, blue and alpha of what is drawn at a place of a picture that is 64 pixels wide."""
    found: list[int] = page.evaluate(
        """([x, y]) => { const canvas = document.querySelector(".overlay"), scale = canvas.width / 64;
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        return [...copy.getImageData(Math.round(x * scale), Math.round(y * scale), 1, 1).data]; }""",
        [x, y],
    )
    return found


def finder(path: Path, names: Sequence[str], rows: Sequence[Sequence[float]]) -> Path:
    """A detector that finds the same in every picture.

    Args:
        path: Its file.
        names: Its two classes.
        rows: Centre x and y, width and height in pixels of 64 × 64, score, and class id of each object.
    """
    raw = empty_rows(HW, 5 + len(names))
    for x, y, width, height, score, class_id in rows:
        chances = [float(index == class_id) for index in range(len(names))]
        cell = int(y // 8) * (HW[1] // 8) + int(x // 8)  # a box stands around the cell that finds it
        raw[0, cell] = (x, y, width, height, score, *chances)
    onnx.save(constant_raw(raw, HW, {"names": str(dict(enumerate(names))), "stride": "32"}), str(path))
    return path


def settings_for(*paths: Path, **others: Any) -> ServeSettings:
    """Settings that serve these files under their names, and never look at them again."""
    models = tuple(ServedModel(path.stem, str(path), {"tuned_for": "throughput"}) for path in paths)
    return ServeSettings(models, **{"watch_s": 0, **others})
