"""The page in a real browser: what it shows is what the server says, and every control does what it names."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from helpers.browsing import FAILED_LOAD, browsing, finder, named, opened, pixel, rows, settings_for, tab
from helpers.images import saved, smooth
from helpers.samples import sample
from helpers.serving import listening
from yoloship.graph.build import build_graph
from yoloship.graph.config import GraphConfig
from yoloship.graph.onnx_file import graph_bytes
from yoloship.model import NmsConfig
from yoloship.results.drawing import class_color, text_color
from yoloship.results.skeleton import COCO_LIMBS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

HOSTILE = "<img src=x onerror=alert(1)>"
FIRST = (
    (12, 12, 10, 10, 0.9, 0), (40, 12, 12, 8, 0.6, 1), (40, 40, 20, 20, 0.3, 0), (12, 44, 6, 6, 0.2, 1),
    (54, 54, 6, 6, 0.08, 0),
)  # fmt: skip
SECOND = ((12, 12, 10, 10, 0.8, 0), (54, 30, 8, 8, 0.7, 1))
PIXELS = saved(smooth(64, 64), "PNG")


PHOTO = named("photo.png", PIXELS)
OTHER = named("<b>other</b>.png", saved(smooth(64, 64)[::-1], "PNG"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as one:
        yield one


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    with listening(
        settings_for(
            finder(folder / "first.onnx", ("cat", "dog"), FIRST),
            finder(folder / "second.onnx", ("cat", "dog"), SECOND),
            finder(folder / "hostile.onnx", (HOSTILE, "a\u202eb"), FIRST),
        )
    ) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def context(browser: Browser) -> BrowserContext:
    return browser.new_context(permissions=["clipboard-read", "clipboard-write"])


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    with tab(context, address) as one:
        one.locator("#choose:enabled").wait_for()
        yield one


def record_of(address: str, model: str, conf: float) -> dict[str, Any]:
    """What the server says of the photo."""
    request = urllib.request.Request(
        f"{address}v1/models/{model}/predict?conf={conf}",
        PHOTO["buffer"],
        {"Content-Type": "image/png"},
    )
    with urllib.request.urlopen(request) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def show(page: Page, *pictures: Any) -> None:
    """Choose pictures, and wait for the answer to the first of them."""
    page.set_input_files("#files", list(pictures) or [PHOTO])
    page.locator("#status", has_text="object").wait_for()


def expected(record: dict[str, Any], above: float) -> list[list[str]]:
    return [
        [str(place), one["class_name"], f"{one['score']:.3f}", *(f"{side:.1f}" for side in one["box_xyxy"])]
        for place, one in enumerate(record["detections"], 1)
        if one["score"] > above
    ]


def asked(page: Page) -> list[str]:
    """A list that grows with each image that the page sends."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url) if "/predict" in request.url else None)
    return found


def test_the_table_and_the_picture_show_the_servers_record(page: Page, address: str) -> None:
    show(page)
    record = record_of(address, "first", 0.05)
    assert len(record["detections"]) == 5
    assert rows(page) == expected(record, 0.25)
    assert len(rows(page)) == 3
    assert page.inner_text("#status") == "photo.png: 3 objects: 2 cat, 1 dog."
    assert page.get_attribute(".overlay", "aria-label") == "photo.png: 3 objects: 2 cat, 1 dog"
    assert re.fullmatch(r"photo.png · 64 × 64 · [\d.]+ (bytes|kB), sent as it is", page.inner_text("#sent"))
    assert page.inner_text("#asked") == "Requested from the server: scores above 0.05, at most 300 objects."
    times = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))
    assert list(times) == ["decoding", "waiting", "model", "transfer and JSON", "answer after"]
    milliseconds = [float(text.removesuffix(" ms").replace(",", "")) for text in times.values()]
    assert sum(milliseconds[:-1]) == pytest.approx(milliseconds[-1], abs=1.1)


def test_filters_act_at_once_and_ask_nothing(page: Page, address: str) -> None:
    show(page)
    requests = asked(page)
    for threshold in ("0.05", "0.3", "0.5", "0.6", "0.95"):
        page.fill("#threshold-number", threshold)
        assert rows(page) == expected(record_of(address, "first", float(threshold)), float(threshold))
    page.fill("#threshold-number", "0.05")
    page.get_by_role("checkbox", name="dog").uncheck()
    assert {row[1] for row in rows(page)} == {"cat"}
    page.click("#no-classes")
    assert rows(page) == []
    page.click("#all-classes")
    assert len(rows(page)) == 5
    page.focus("#threshold")
    page.keyboard.press("End")
    assert rows(page) == []
    assert page.input_value("#threshold-number") == "1"
    assert requests == []
    page.fill("#lowest", "0.5")
    page.keyboard.press("Enter")
    page.locator("#asked", has_text="0.5").wait_for()
    page.locator(".all", has_text="of 2").wait_for()
    assert ["conf=0.5" in url for url in requests] == [True]


def test_another_overlap_is_asked_for_where_the_model_has_no_fixed_one(browser: Browser, tmp_path: Path) -> None:
    near = finder(tmp_path / "near.onnx", ("cat", "dog"), ((22, 20, 10, 10, 0.9, 0), (25, 20, 10, 10, 0.8, 0)))
    fixed = tmp_path / "suppressed.onnx"
    graph = GraphConfig((64, 64), output_form="nms", nms=NmsConfig(0.001))
    fixed.write_bytes(graph_bytes(build_graph(sample("yolov5", "detect"), graph)))
    with listening(settings_for(near, fixed)) as port, opened(browser, f"http://127.0.0.1:{port}/") as page:
        page.locator("#choose:enabled").wait_for()
        show(page)
        requests = asked(page)
        assert page.get_attribute("#iou", "placeholder") == "0.45"
        for text, kept, count in (("0.6", "0.6", "2 objects"), ("0.2", "0.2", "1 object"), ("7", "1", "2 objects")):
            page.fill("#iou", text)
            page.keyboard.press("Enter")
            page.locator("#asked", has_text=f"scores above 0.05, an IoU up to {kept}, at most 300 objects").wait_for()
            page.locator("#status", has_text=f"photo.png: {count}").wait_for()
            assert page.input_value("#iou") == kept
        page.fill("#iou", "")
        page.keyboard.press("Enter")
        page.locator("#status", has_text="photo.png: 1 object").wait_for()
        assert [url.partition("iou=")[2] for url in requests] == ["0.6", "0.2", "1"], "the model's own was there"
        page.fill("#iou", "0.6")
        page.select_option("#model", "suppressed")
        page.locator("#status", has_text="photo.png").wait_for()
        page.locator("#iou").wait_for(state="hidden")
        assert "iou" not in requests[-1]


@pytest.mark.parametrize("scale", [1, 2])
def test_the_drawing_is_sharp_and_has_our_colours(browser: Browser, address: str, scale: int) -> None:
    with opened(browser, address, device_scale_factor=scale, viewport={"width": 1100, "height": 800}) as page:
        page.locator("#choose:enabled").wait_for()
        show(page)
        sizes = page.evaluate(
            """[...document.querySelectorAll(".frame canvas")].map(one => [one.width, one.clientWidth])"""
        )
        assert [width / shown for width, shown in sizes] == [scale, scale]
        blue, green, red = class_color(0)
        assert pixel(page, 7, 12) == [red, green, blue, 255]  # the left edge of the first box
        assert pixel(page, 60, 60) == [0, 0, 0, 0]
        page.uncheck("#draw-boxes")
        assert pixel(page, 7, 12) == [0, 0, 0, 0]
        colors = page.evaluate(
            """import("./page/drawing.js").then(({ classColor, inkOn }) =>
            [...Array(200).keys()].map(id => [classColor(id), inkOn(classColor(id))]))"""
        )
        for class_id, ((red, green, blue), ink) in enumerate(colors):
            assert np.abs(np.subtract((blue, green, red), class_color(class_id))).max() <= 1
            assert ink == ("#000" if text_color(class_color(class_id)) == (0, 0, 0) else "#fff")


def test_the_table_sorts_and_is_linked_with_the_picture(page: Page) -> None:
    show(page)
    page.fill("#threshold-number", "0.05")
    for column, place, is_down in (("Score", 2, True), ("Score", 2, False), ("Left", 3, False), ("Class", 1, False)):
        page.get_by_role("columnheader", name=column).get_by_role("button").click()
        values: list[Any] = [row[place] if place == 1 else float(row[place]) for row in rows(page)]
        assert values == sorted(values, reverse=is_down)
    header = page.locator("th[aria-sort]")
    assert (header.inner_text(), header.get_attribute("aria-sort")) == ("Class", "ascending")
    page.get_by_role("columnheader", name="#").get_by_role("button").click()
    assert pixel(page, 12, 15)[3] == 0
    page.hover(".found tbody tr:nth-child(1)")
    assert pixel(page, 12, 15)[3] == 64  # the box of the row is filled
    page.mouse.move(0, 0)
    assert pixel(page, 12, 15)[3] == 0
    box = page.locator(".overlay").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 40 / 64, box["y"] + box["height"] * 40 / 64)
    assert page.inner_text(".found tr.active").split("\t")[0].strip() == "3"
    page.mouse.down()
    page.mouse.up()
    page.mouse.move(0, 0)
    assert page.locator(".pick[aria-pressed=true]").inner_text() == "3"


def test_a_picture_can_be_larger_than_the_window(page: Page) -> None:
    page.set_input_files("#files", [named("large.png", saved(smooth(2048, 2048), "PNG"))])
    page.locator("#status", has_text="large.png: 3 objects").wait_for()
    stage = page.locator(".stage")
    assert stage.evaluate("one => [one.scrollWidth > one.clientWidth, one.tabIndex]") == [False, -1]
    page.select_option("#zoom", "2")
    assert stage.evaluate("one => [one.scrollWidth, one.scrollHeight, one.tabIndex]") == [4096, 4096, 0]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator(".pick").nth(2).click()
    x, y = stage.evaluate("one => [one.scrollLeft + one.clientWidth / 2, one.scrollTop + one.clientHeight / 2]")
    assert (x, y) == (pytest.approx(40 / 64 * 4096, abs=2), pytest.approx(40 / 64 * 4096, abs=2))


def test_what_is_saved_is_the_record_as_shown(page: Page, address: str) -> None:
    show(page)
    page.fill("#threshold-number", "0.5")
    page.get_by_role("button", name="Copy JSON").click()
    page.locator("#status", has_text="Copied").wait_for()
    wanted = {**record_of(address, "first", 0.5), "input": "photo.png"}
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == wanted
    with page.expect_download() as json_file:
        page.get_by_role("button", name="Save JSON").click()
    assert json_file.value.suggested_filename == "photo.first.json"
    assert json.loads(Path(json_file.value.path()).read_bytes()) == wanted
    with page.expect_download() as picture:
        page.get_by_role("button", name="Save picture").click()
    import cv2

    drawn = cv2.imread(str(picture.value.path()))
    assert drawn is not None
    assert drawn.shape == (64, 64, 3)
    assert (drawn != smooth(64, 64)).any()
    assert np.abs(drawn[56:, :8].astype(int) - smooth(64, 64)[56:, :8]).max() <= 1


def test_several_pictures_are_answered_and_walked_with_the_arrow_keys(page: Page) -> None:
    show(page, PHOTO, OTHER)
    page.locator(".note", has_text="5").nth(1).wait_for()
    assert page.locator("#strip legend").inner_text() == "2 pictures"
    page.get_by_role("radio", name="photo.png").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#status", has_text="<b>other</b>.png: 3 objects").wait_for()
    assert page.locator("#work b").count() == 0


def test_two_models_stand_side_by_side_with_their_differences(page: Page, address: str) -> None:
    page.select_option("#other", "second")
    events: list[str] = []

    def heard(event: str, url: str) -> None:
        *_, model, verb = url.partition("?")[0].split("/")
        if verb == "predict":  # the browser may tell of the page's own files as late as now
            events.append(f"{event} {model}")

    page.on("request", lambda request: heard("ask", request.url))
    page.on("requestfinished", lambda request: heard("answer", request.url))
    show(page)
    page.locator("#comparison table").wait_for()
    while len(events) < 4:  # the browser tells of an answer a moment after the page has it
        page.wait_for_timeout(10)
    assert events == ["ask first", "answer first", "ask second", "answer second"]  # else their times say little
    first, second = rows(page, 0), rows(page, 1)
    assert [row[3] for row in first] == ["both", "only this", "only this"]
    assert [row[3] for row in second] == ["both", "only this"]
    without = [[*row[:3], *row[4:]] for row in second]
    assert without == expected(record_of(address, "second", 0.05), 0.25)
    table = {row.split("\t")[0]: row.split("\t")[1:] for row in page.locator("#comparison tbody tr").all_inner_texts()}
    assert (table["cat"], table["dog"]) == (["2", "1", "−1"], ["1", "1", "0"])
    assert (table["all"], table["only this model"][:2]) == (["3", "2", "−1"], ["2", "1"])
    assert table["answer after"][0].endswith(" ms")
    page.select_option("#other", "")
    page.locator("#comparison").wait_for(state="hidden")
    assert page.locator(".pane:visible").count() == 1


def test_hostile_names_stay_text(page: Page) -> None:
    page.select_option("#model", "hostile")
    page.set_input_files("#files", [named(f"{HOSTILE}.png", PIXELS)])
    page.locator("#status", has_text="object").wait_for()
    assert [row[1] for row in rows(page)] == [HOSTILE, "a\\u202eb", HOSTILE]
    assert page.locator("#work img:visible, #side img").count() == 0
    assert page.inner_text("#sent").startswith(f"{HOSTILE}.png")
    page.get_by_role("button", name="Copy JSON").click()
    page.locator("#status", has_text="Copied").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    assert "\u202e" not in text
    assert json.loads(text)["detections"][1]["class_name"] == "a\u202eb"


CANNED: dict[str, dict[str, Any]] = {
    "segment": {"polygons": [[8.0, 8.0, 56.0, 8.0, 56.0, 56.0, 8.0, 56.0]]},
    "pose": {"keypoints": [[20.0 + 2 * index, 40.0, 0.9] for index in range(17)]},
    "obb": {
        "box_xywhr": [32.0, 32.0, 40.0, 20.0, 0.5],
        "corners_xy": [[32.0, 8.0], [56.0, 32.0], [32.0, 56.0], [8.0, 32.0]],
    },
}


@pytest.mark.parametrize("task", [*CANNED, "classify"])
def test_each_task_is_drawn(page: Page, address: str, task: str) -> None:
    one = {"class_id": 1, "class_name": "dog", "score": 0.75}
    found = (
        {"classes": [one]}
        if task == "classify"
        else {"detections": [{**one, "box_xyxy": [8, 8, 56, 56], **CANNED[task]}]}
    )
    record = {"input": "image", "index": 0, "width": 64, "height": 64, **found}
    with urllib.request.urlopen(f"{address}v1/models") as answer:
        told = json.load(answer)
    told["models"] = [{**told["models"][0], "task": task}]
    page.route("**/v1/models", lambda route: route.fulfill(json=told))
    page.route("**/predict**", lambda route: route.fulfill(json={"results": [record]}))
    page.reload()
    page.locator("#choose:enabled").wait_for()
    page.set_input_files("#files", [PHOTO])
    page.locator(".found tbody tr:visible").wait_for()
    blue, green, red = class_color(1)
    if task == "classify":
        page.locator("#status", has_text="photo.png: dog 0.75.").wait_for()
        assert pixel(page, 0.3, 0.3) == [red, green, blue, 255]
        assert not page.locator("#lowest").is_visible()
        assert not page.locator("#iou").is_visible()
        return
    if task == "segment":
        assert pixel(page, 32, 32) == pytest.approx([red, green, blue, 0.45 * 255], abs=3)
        page.uncheck("#draw-masks")
        assert pixel(page, 32, 32)[3] == 0
    elif task == "pose":
        blue, green, red = COCO_LIMBS[0][2]
        assert pixel(page, 20 + 2 * 15, 40) == [red, green, blue, 255]
        page.uncheck("#draw-keypoints")
        assert pixel(page, 20 + 2 * 15, 40)[3] == 0
    else:
        assert pixel(page, 44, 20) == [red, green, blue, 255]  # in the middle of a side that is not upright
        assert pixel(page, 8, 12)[3] == 0
        assert rows(page)[0][-1] == "28.6°"


def test_a_keyboard_reaches_everything_and_is_never_caught(page: Page) -> None:
    with page.expect_file_chooser() as chooser:
        page.focus("#choose")
        page.keyboard.press("Enter")
    chooser.value.set_files([PHOTO, OTHER])
    page.locator("#status", has_text="object").wait_for()
    page.focus(".skip")
    reached = ["skip"]
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate(
            """(one => one === document.body ? "" : one.id || one.className || one.textContent || one.tagName)
            (document.activeElement)"""
        )
        if name in {"", "skip"}:
            break
        reached.append(name)
    else:
        pytest.fail(f"the focus never leaves the page: {reached}")
    order = [
        "skip", "HTTP interface", "choose", "camera", "model", "other", "threshold-number", "threshold", "all-classes",
        "draw-boxes", "draw-labels", "lowest", "iou", "unseen", "#", "Score", "pick", "Copy JSON", "Save picture",
    ]  # fmt: skip
    assert [name for name in reached if name in order] == order
    page.locator(".pick").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator(".pick[aria-pressed=true]").inner_text() == "2"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == "3"


def test_a_file_that_is_not_an_image_is_said_in_one_line(browser: Browser, address: str) -> None:
    with opened(browser, address, allowed=FAILED_LOAD) as page:
        page.locator("#choose:enabled").wait_for()
        page.set_input_files("#files", [named("notes.txt", b"nothing")])
        page.get_by_role("alert").wait_for()
        assert page.inner_text("#problem").startswith("notes.txt: image bytes: is not an image")
        assert page.locator(".found:visible").count() == 0


def test_files_are_dropped_and_pasted(page: Page) -> None:
    for event, holder in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.evaluate(
            """([event, holder, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], `${event}.png`, { type: "image/png" }));
            const Kind = event === "drop" ? DragEvent : ClipboardEvent;
            document.body.dispatchEvent(new Kind(event, { [holder]: data, bubbles: true, cancelable: true }));
            }""",
            [event, holder, list(PIXELS)],
        )
        page.locator("#status", has_text=f"{event}.png: 3 objects").wait_for()


def test_turned_pictures_and_those_that_only_the_server_can_read(page: Page) -> None:
    turned = Image.Exif()
    turned[274] = 6  # Exif: turn it by 90°
    page.set_input_files("#files", [named("turned.jpg", saved(smooth(48, 64), "JPEG", exif=turned))])
    page.locator("#status", has_text="turned.jpg: 3 objects").wait_for()
    assert re.fullmatch(r"turned.jpg · 48 × 64 · [\d.]+ (bytes|kB), sent as it is", page.inner_text("#sent"))
    page.set_input_files("#files", [named("scan.tif", saved(smooth(48, 64), "TIFF"))])
    page.locator("#status", has_text="scan.tif: 3 objects").wait_for()
    assert page.inner_text("#sent").endswith("this browser cannot show the file, but the server has read it")
    assert len(rows(page)) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(browser: Browser, address: str, scheme: Any) -> None:
    pairs = (
        ("ink", "paper"), ("ink", "card"), ("soft", "paper"), ("soft", "card"), ("soft", "chip"), ("ink", "chip"),
        ("ink", "mark"), ("bad", "bad-back"), ("warn-ink", "warn"), ("accent", "card"), ("on-accent", "accent"),
    )  # fmt: skip
    with opened(browser, address, color_scheme=scheme) as page:
        names = {name for pair in pairs for name in pair}
        colors = page.evaluate(
            """names => Object.fromEntries(names.map(name => {
            const one = document.body.appendChild(document.createElement("i"));
            one.style.color = `var(--${name})`;
            return [name, getComputedStyle(one).color.match(/[0-9]+/g).map(Number)]; }))""",
            sorted(names),
        )
    light = {name: _luminance(color) for name, color in colors.items()}
    assert (light["paper"] > light["ink"]) == (scheme == "light")
    for text, back in pairs:
        low, high = sorted((light[text], light[back]))
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{text} on {back}"


def _luminance(color: list[int]) -> float:
    """Relative luminance (WCAG 2.2)."""
    red, green, blue = ((one / 255 / 12.92 if one <= 10 else ((one / 255 + 0.055) / 1.055) ** 2.4) for one in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_narrow_screen_and_large_letters_push_nothing_out(browser: Browser, address: str) -> None:
    with opened(browser, address, viewport={"width": 320, "height": 600}) as page:
        page.locator("#choose:enabled").wait_for()
        show(page)
        for letters in ("100%", "200%"):
            page.evaluate("letters => { document.documentElement.style.fontSize = letters; }", letters)
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
