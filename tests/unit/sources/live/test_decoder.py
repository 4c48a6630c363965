"""The decoder's own functions, in this process; as a process of its own it is tested with the feeds."""

from __future__ import annotations

import os
import socket
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from helpers.cameras import HW, BytesServer, Camera, MjpegCamera, RtspCamera, picture, read_head, video_bytes
from yoloship.sources.live.decoder import (
    Delivery,
    Order,
    Slots,
    camera_problem,
    read,
    read_capture,
    why_lost,
)
from yoloship.sources.live.messages import Alive, Arrived, Damaged, Message, Opened, Stopped, Waiting
from yoloship.sources.live.ring import Ring, make_memory
from yoloship.sources.live.target import target_of

if TYPE_CHECKING:
    from yoloship.sources.settings import LivePolicy

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="live sources are not for Windows yet"),
]
SLOTS = 4


class Parent:
    """Takes what a decoder sends, as the other process does.

    Args:
        gives_back: Whether slots are given back at once.
        most: The decoder is left after this many frames.
    """

    def __init__(
        self, policy: LivePolicy = "every", *, gives_back: bool = True, most: int = 1000, step: int = 1
    ) -> None:
        number = make_memory(SLOTS)
        self.ring, self.slots = Ring(number, SLOTS), Slots(SLOTS)
        os.close(number)
        self.policy, self.step, self.gives_back, self.most = policy, step, gives_back, most
        self.messages: list[Message] = []
        self.images: list[np.ndarray] = []

    def order(self, address: str, timeout_s: float = 30.0) -> Order:
        target = target_of(address)
        options = {} if target.camera is not None else dict(target.options(timeout_s))
        return Order(target.camera, target.address, options, self.policy, self.step, timeout_s, SLOTS, 0)

    def send(self, message: Message) -> None:
        self.messages.append(message)
        if isinstance(message, Arrived):
            self.images.append(self.ring.image(message.slot, (message.height, message.width)).copy())
            if self.gives_back:
                self.slots.give_back(message.slot)
            if len(self.images) >= self.most:
                raise KeyboardInterrupt

    def delivery(self, address: str = "0") -> Delivery:
        return Delivery(self.order(address), self.slots, self.ring, self.send)

    def read(self, address: str, timeout_s: float = 30.0) -> Stopped | None:
        """Read until the decoder stops; None if this side has left it."""
        try:
            return read(self.order(address, timeout_s), Delivery(self.order(address), self.slots, self.ring, self.send))
        except KeyboardInterrupt:
            return None

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]


def is_picture(image: np.ndarray, index: int, image_hw: tuple[int, int] = HW) -> bool:
    return bool(np.abs(image.astype(int) - picture(index, image_hw)).mean() < 4)


def test_a_file_that_is_served_comes_whole_and_ends() -> None:
    parent = Parent()
    with BytesServer(video_bytes(12)) as server:
        stopped = parent.read(server.address)
    assert stopped == Stopped("ended", "has reached its end")
    (opened,) = parent.of(Opened)
    assert (Fraction(opened.rate), Fraction(opened.time_base)) == (Fraction(25), Fraction(1, 12_800))
    assert [message.index for message in parent.of(Arrived)] == list(range(12))
    assert [message.pts for message in parent.of(Arrived)] == [index * 512 for index in range(12)]
    assert all(is_picture(image, index) for index, image in enumerate(parent.images))


def test_a_file_that_breaks_off_is_told_from_one_that_ends() -> None:
    data = video_bytes(100)
    parent = Parent()
    with BytesServer(data[: len(data) * 6 // 10]) as server:
        stopped = parent.read(server.address)
    assert stopped is not None
    assert stopped.loss == "cut"
    assert "of 4.0 s" in stopped.problem
    assert 30 < len(parent.images) < 80


def test_a_stream_without_a_declared_length_is_lost_when_it_closes() -> None:
    parent = Parent()
    with BytesServer(video_bytes(25, "mpegts")) as server:
        stopped = parent.read(server.address)
    assert stopped == Stopped("lost", "closed the connection")
    assert len(parent.images) >= 20


@pytest.mark.parametrize("kind", [MjpegCamera, RtspCamera])
def test_a_camera_gives_its_pictures(kind: type[Camera]) -> None:
    parent = Parent(most=5)
    with kind(rate=200) as camera:
        assert parent.read(camera.address) is None
    assert len(parent.images) == 5
    assert all(is_picture(image, index) for index, image in enumerate(parent.images))
    has_clock = parent.of(Opened)[0].time_base is not None
    assert has_clock == (kind is RtspCamera), "MJPEG has no times: those that FFmpeg makes up are not passed on"


def test_pictures_may_change_their_size() -> None:
    parent, large = Parent(), (96, 160)
    with MjpegCamera(rate=200) as camera:
        send = parent.send

        def enlarge(message: Message) -> None:
            if isinstance(message, Arrived):
                camera.image_hw = large
                parent.most = 1000 if message.height == HW[0] else 0
            send(message)

        parent.send = enlarge  # type: ignore[method-assign]
        assert parent.read(camera.address) is None
    assert parent.images[0].shape[:2] == HW
    assert is_picture(parent.images[-1], int(parent.images[-1][-1, -1, 0] - 30) // 20, large)


def test_newest_drops_what_finds_no_slot_and_says_how_many() -> None:
    parent = Parent("newest", gives_back=False)
    with BytesServer(video_bytes(12)) as server:
        assert parent.read(server.address) is not None
    assert len(parent.images) == SLOTS
    assert [message.index for message in parent.of(Arrived)] == list(range(SLOTS))


def test_every_waits_for_a_slot_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.sources.live.decoder._WAIT_SAID_S", 0.01)
    parent = Parent(gives_back=False)
    send = parent.send

    def free_all_after_the_wait(message: Message) -> None:
        send(message)
        if isinstance(message, Waiting):
            parent.gives_back = True
            for slot in range(SLOTS):
                parent.slots.give_back(slot)

    parent.send = free_all_after_the_wait  # type: ignore[method-assign]
    with BytesServer(video_bytes(12)) as server:
        assert parent.read(server.address) == Stopped("ended", "has reached its end")
    assert len(parent.images) == 12
    assert len(parent.of(Waiting)) == 1


def test_a_step_gives_every_third_frame_with_its_own_place() -> None:
    parent = Parent(step=3)
    with BytesServer(video_bytes(10)) as server:
        parent.read(server.address)
    assert [message.index for message in parent.of(Arrived)] == [0, 3, 6, 9]
    assert all(message.dropped == 0 for message in parent.of(Arrived))


def test_damaged_pictures_are_counted_and_left_out() -> None:
    parent = Parent(most=30)
    with MjpegCamera(rate=300) as camera:
        send = parent.send

        def damage(message: Message) -> None:
            camera.damage = 2 < len(parent.images) < 10 and not parent.of(Damaged)
            send(message)
            if parent.of(Damaged) and len(parent.images) > 12:
                raise KeyboardInterrupt

        parent.send = damage  # type: ignore[method-assign]
        parent.read(camera.address)
    assert parent.of(Damaged)
    assert all(image.min() >= 15 for image in parent.images), "no black or grey frames are made up"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"this is not video " * 500, "does not send video in a known format"),
        (bytes(20_000), "does not send video in a known format"),
        (b"", "does not send video in a known format"),
    ],
)
def test_what_is_not_video_is_named(data: bytes, words: str) -> None:
    with BytesServer(data) as server:
        stopped = Parent().read(server.address)
    assert stopped is not None
    assert (stopped.loss, stopped.problem) == ("wrong", words)
    assert stopped.hint


def test_a_playlist_cannot_send_the_decoder_to_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(video_bytes(25, "mpegts"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{secret.as_uri()}\n#EXT-X-ENDLIST\n"
    head = f"HTTP/1.0 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\nContent-Length: {len(playlist)}\r\n\r\n"
    parent = Parent()
    with BytesServer((head + playlist).encode()) as server:
        stopped = parent.read(server.address.replace("tcp:", "http:") + "/x.m3u8")
    assert stopped is not None
    assert stopped.loss in {"wrong", "lost"}
    assert not parent.images


class Files(Camera):
    """Serves files over HTTP."""

    scheme = "http"

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files
        super().__init__()

    def serve(self, connection: socket.socket, stop: threading.Event) -> None:
        data = self._files.get(read_head(connection).split(" ")[1])
        head = "404 None" if data is None else f"200 OK\r\nContent-Length: {len(data)}"
        connection.sendall(f"HTTP/1.0 {head}\r\n\r\n".encode() + (data or b""))


def test_a_playlist_is_read_to_its_end() -> None:
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\na.ts\n#EXT-X-ENDLIST\n"
    parent = Parent()
    with Files({"/x.m3u8": playlist.encode(), "/a.ts": video_bytes(25, "mpegts")}) as server:
        stopped = parent.read(f"{server.address}/x.m3u8")
    assert stopped == Stopped("ended", "has reached its end")
    assert len(parent.images) == 25


def test_what_is_not_there_is_named() -> None:
    with Files({}) as server:
        stopped = Parent().read(f"{server.address}/x.mp4")
    assert stopped == Stopped("wrong", "has no stream at this path", "check the path of the address")


def test_datagrams_are_read_as_they_come() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        port = sender.getsockname()[1] ^ 1
        stop = threading.Event()
        data = video_bytes(50, "mpegts")

        def send() -> None:
            while not stop.is_set():
                for at in range(0, len(data), 1316):
                    sender.sendto(data[at : at + 1316], ("127.0.0.1", port))
                    stop.wait(0.002)

        thread = threading.Thread(target=send)
        thread.start()
        parent = Parent("newest", most=5)
        assert parent.read(f"udp://127.0.0.1:{port}") is None
        stop.set()
        thread.join()
    assert len(parent.images) == 5


def test_nobody_there_and_a_refused_password_are_told_apart() -> None:
    with MjpegCamera() as camera:
        camera.authorization = "Basic bWU6aXQ="  # me:it
        refused = Parent().read(camera.address)
        let_in = Parent(most=1)
        assert let_in.read(camera.address.replace("://", "://me:it@")) is None
        assert len(let_in.images) == 1
    assert refused is not None
    assert (refused.loss, refused.problem) == ("wrong", "does not accept the user name or the password")
    gone = Parent().read(camera.address)
    assert gone is not None
    assert (gone.loss, gone.problem) == ("lost", "connection refused")


def test_rtsp_with_a_password() -> None:
    with RtspCamera(rate=200) as camera:
        camera.password = "x"
        refused = Parent().read(camera.address)
        let_in = Parent(most=1)
        assert let_in.read(camera.address.replace("://", "://me:it@")) is None
    assert refused is not None
    assert refused.loss == "wrong"
    assert let_in.images


def test_silence_ends_a_connection() -> None:
    with MjpegCamera() as camera:
        camera.stalled.set()
        stopped = Parent().read(camera.address, timeout_s=0.3)
    assert stopped is not None
    assert stopped.loss == "lost"


def test_a_camera_that_does_not_exist_is_named_with_a_way_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    missing = camera_problem(7, str(tmp_path))
    assert missing is not None
    assert (missing.loss, missing.problem) == ("wrong", f"{tmp_path}/video7 does not exist")
    assert "there is no camera" in missing.hint
    (tmp_path / "video2").touch()
    missing = camera_problem(7, str(tmp_path))
    assert missing is not None
    assert "there is video2" in missing.hint
    assert camera_problem(2, str(tmp_path)) is None


def test_a_camera_that_is_busy_or_not_permitted_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(error: OSError) -> Any:
        def opened(*_: object) -> int:
            raise error

        return opened

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "open", refuse(OSError(16, "Device or resource busy")))
    busy = camera_problem(0)
    monkeypatch.setattr(os, "open", refuse(PermissionError(13, "Permission denied")))
    closed = camera_problem(0)
    assert busy is not None
    assert busy.problem == "/dev/video0 cannot be opened: device or resource busy"
    assert "fuser" in busy.hint
    assert closed is not None
    assert "group 'video'" in closed.hint


def test_a_capture_of_opencv_is_read_until_it_ends(tmp_path: Path) -> None:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(index))
    parent = Parent()
    capture = cv2.VideoCapture(str(tmp_path / "%d.png"), cv2.CAP_IMAGES)
    stopped = read_capture(capture, parent.delivery())
    capture.release()
    assert stopped == Stopped("lost", "gives no more frames")
    assert all(np.array_equal(image, picture(index)) for index, image in enumerate(parent.images))
    assert len(parent.images) == 3
    assert parent.of(Arrived)[0].pts is None


def test_a_capture_without_frames_is_not_tried_again() -> None:
    stopped = read_capture(cv2.VideoCapture(), Parent().delivery())
    assert (stopped.loss, stopped.problem) == ("wrong", "gives no frames")


def test_a_failure_that_nobody_thought_of_has_a_reason_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("yoloship.sources.live.decoder.read_address", fail)
    stopped = Parent().read("tcp://127.0.0.1:1")
    assert stopped == Stopped("lost", "its decoder failed: ZeroDivisionError: oh")


def test_every_error_of_ffmpeg_means_something() -> None:
    from av import error as errors

    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FFmpegError)]
    assert len(found) > 20
    for kind in found:
        stopped = why_lost(kind(1, "Some Problem", "name"))
        assert stopped.problem[:1].islower()


def test_a_slot_that_is_free_again_wakes_the_one_who_waits() -> None:
    slots = Slots(1)
    assert slots.take(0) == 0
    assert slots.take(0) is None
    threading.Timer(0.01, slots.give_back, (0,)).start()
    assert slots.take(60) == 0


def test_a_decoder_says_that_it_lives_and_what_it_dropped() -> None:
    parent = Parent("newest", gives_back=False)
    delivery = parent.delivery()
    for _ in range(SLOTS + 3):
        delivery.deliver(HW, None, lambda slot: None)
    delivery.say_alive()
    assert parent.of(Alive)[-1] == Alive(3)
