from __future__ import annotations

import json
import socket
import threading
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from yoloship.errors import OutputError
from yoloship.results.detections import Detections
from yoloship.sinks import DrawStyle, Entry
from yoloship.sinks.show import ShowPage
from yoloship.sinks.show import page as module
from yoloship.sources import Frame, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPResponse

pytestmark = pytest.mark.timeout(60)
HW = (240, 320)
LOUD = tuple[dict[str, Any], bytes]


def found(hw: tuple[int, int] = HW) -> Detections:
    return Detections(
        np.array([[100, 100, 200, 200]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32), ("cat",), hw
    )


def entry(index: int, name: str | None = "cam", level: int = 90, hw: tuple[int, int] = HW) -> Entry:
    stream = None if name is None else Stream(name, is_live=True, status=lambda: "running")
    frame = Frame(index, f"{name}#{index}", None, index / 25, stream)
    return Entry(frame.name, found(hw), index=index, image=np.full((*hw, 3), level, np.uint8), frame=frame)


def parts(response: HTTPResponse) -> Iterator[LOUD]:
    """The parts of the stream of everything, until it ends."""
    while length := response.read(4):
        head = json.loads(response.read(int.from_bytes(length, "big")))
        yield head, response.read(head.get("bytes", 0))


def look(page: ShowPage, what: str = "everything") -> HTTPResponse:
    response: HTTPResponse = urllib.request.urlopen(page.address + what)
    return response


@pytest.fixture
def page() -> Iterator[ShowPage]:
    with ShowPage() as made:
        yield made


def test_a_viewer_sees_the_newest_picture_of_each_stream_with_what_was_found(page: ShowPage) -> None:
    page.write(entry(0, "a", 50))
    page.write(entry(1, "a", 90))
    page.write(entry(0, "b", 130))
    with closing(look(page)) as response:
        pictures: dict[int, np.ndarray] = {}
        states: list[dict[str, Any]] = []
        for head, data in parts(response):
            if "place" in head:
                image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                assert image is not None
                pictures[head["place"]] = image
            else:
                states.append(head)
            if len(pictures) == 2 and states:
                break
    assert [stream["name"] for stream in states[0]["streams"]] == ["a", "b"]
    assert states[0]["streams"][0]["frames"] == 2
    assert states[0]["streams"][0]["counts"] == [["cat", 1]]
    for place, level in ((0, 90), (1, 130)):
        image = pictures[place]
        assert image.shape == (*HW, 3)
        assert abs(int(image[20, 20, 0]) - level) <= 3
        assert np.abs(image[100].astype(int) - level).max() > 50, "the box is drawn"


def test_the_style_is_that_of_annotated_images() -> None:
    with ShowPage(style=DrawStyle(hide_labels=True, line_width_px=9)) as thick, ShowPage() as usual:
        for page in (thick, usual):
            page.write(entry(0))
        pictures = []
        for page in (thick, usual):
            with closing(look(page)) as response:
                pictures.append(next(data for head, data in parts(response) if "place" in head))
    assert pictures[0] != pictures[1]


def test_large_pictures_are_made_smaller(page: ShowPage) -> None:
    page.write(entry(0, hw=(2000, 4000)))
    with closing(look(page)) as response:
        data = next(data for head, data in parts(response) if "place" in head)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (640, 1280, 3)


def test_nothing_is_drawn_while_nobody_looks(page: ShowPage, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = threading.Event()
    make = page._picture

    def draw(one: Entry) -> bytes | None:
        drawn.set()
        return make(one)

    monkeypatch.setattr(page, "_picture", draw)
    for index in range(100):
        page.write(entry(index))
    assert not drawn.wait(0.05)
    with closing(look(page)) as response:
        assert next(data for head, data in parts(response) if "place" in head)
    assert drawn.is_set()


def test_a_viewer_that_takes_nothing_does_not_hold_up_the_run_and_gets_the_newest_when_it_wakes(page: ShowPage) -> None:
    host = page.address.split("/")[2]
    noise = np.random.default_rng(1).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    with socket.create_connection(host.split(":")) as sleeper:  # type: ignore[arg-type]
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleeper.sendall(f"GET /{page.address.split('/')[3]}/everything HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        assert sleeper.recv(100)
        with closing(look(page)) as awake:
            stream = parts(awake)
            for index in range(60):
                result = found((480, 640))
                page.write(Entry(f"cam#{index}", result, index=index, image=noise))
                while "place" not in next(stream)[0]:
                    pass


def test_the_page_is_told_of_the_end_and_has_the_last_picture() -> None:
    page = ShowPage()
    with closing(look(page)) as response:
        assert next(parts(response))[0] == {"streams": [], "ended": False}
        page.write(entry(7, level=200))
        closer = threading.Thread(target=page.close)
        closer.start()
        told = list(parts(response))
        closer.join()
    assert told[-1][0]["ended"]
    assert told[-1][0]["streams"][0]["frames"] == 1
    assert any("place" in head for head, _ in told)
    page.close()
    with pytest.raises(OSError, match="refused"):
        look(page)


def test_closing_leaves_no_thread() -> None:
    page = ShowPage()
    page.write(entry(0))
    with closing(look(page)) as response:
        next(parts(response))
        page.close()
    for thread in threading.enumerate():
        if "yoloship-show" in thread.name or "process_request" in thread.name:
            thread.join()
            assert not thread.is_alive()


def test_images_that_are_not_of_a_stream_share_a_place_and_failed_ones_are_counted(page: ShowPage) -> None:
    page.write(entry(0, None))
    page.write(entry(1, None))
    page.write(Entry("x.png", None, OutputError("no", subject="x.png")))
    assert page.names() == ["images"]
    with closing(look(page)) as response:
        state = next(head for head, _ in parts(response) if "streams" in head)
    (shown,) = state["streams"]
    assert (shown["frames"], shown["errors"], shown["error"]) == (2, 1, "x.png: no")


def test_a_picture_that_cannot_be_drawn_does_not_end_anything(page: ShowPage) -> None:
    page.write(Entry("cam#0", found(), image=np.zeros((5, 5, 3), np.uint8)))
    page.write(entry(1, "other"))
    with closing(look(page)) as response:
        assert next(head["place"] for head, _ in parts(response) if "place" in head) == 1


def test_there_are_not_more_streams_than_a_page_can_show(page: ShowPage) -> None:
    for index in range(module.MAX_STREAMS + 5):
        page.write(entry(0, f"cam-{index}", hw=(8, 8)))
    assert len(page.names()) == module.MAX_STREAMS


def test_another_player_gets_the_pictures_of_one_stream(page: ShowPage) -> None:
    page.write(entry(0, "a"))
    page.write(entry(0, "b", 130))
    with closing(look(page, "1.mjpg")) as response:
        assert response.headers["Content-Type"].startswith("multipart/x-mixed-replace")
        assert response.readline().startswith(b"--")
        head = [response.readline() for _ in range(3)]
        data = response.read(int(head[1].split(b":")[1]))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert abs(int(image[20, 20, 0]) - 130) <= 3
