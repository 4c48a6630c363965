"""Simulated cameras on loopback: MJPEG over HTTP, H.264 over RTSP, and any bytes over TCP. They can die and stall."""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship._util.closing import Closing
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions
from yoloship.sources.source import Frame, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self

HW = (48, 64)
RATE = 25
GROUP = 10
"""Frames between two key frames."""
X264 = f"keyint={GROUP}:repeat-headers=1:threads=1"


def picture(index: int, image_hw: tuple[int, int] = HW) -> np.ndarray:
    """A grey picture, brighter with each index of a group, with a darker block that walks."""
    image = np.full((*image_hw, 3), 40 + 20 * (index % GROUP), np.uint8)
    left = 8 * (index % GROUP) % image_hw[1]
    image[: image_hw[0] // 2, left : left + 8] //= 2
    return image


class ScriptedCamera(Source):
    """A source without a camera: its frames are there when it is told so. It counts those that it had to wait for."""

    help = "A camera for tests."
    is_live = True
    count = 4

    def __init__(self, there: int) -> None:
        self.there, self.drawn, self.waited = there, 0, 0

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:
        return cls(int(texts[0]))

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            if not self.is_ready():
                self.waited += 1
                self.there += 1
            self.drawn += 1
            yield Frame(index, f"camera#{index}", picture(index))

    def is_ready(self) -> bool:
        return self.drawn < self.there


class Camera(Closing):
    """Serves a stream to everybody who connects.

    Attributes:
        port: Its port, which stays the same when it comes back.
        connections: How many connections there were.
    """

    scheme = "tcp"
    path = ""

    def __init__(self, *, rate: float = RATE, port: int = 0) -> None:
        self.period_s = 1 / rate
        self.port, self.connections = port, 0
        self.stalled = threading.Event()
        self._stop = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.appear()

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{self.path}"

    def appear(self) -> None:
        """Listen, on the same port as before."""
        self._stop = threading.Event()
        listener = socket.create_server(("127.0.0.1", self.port), backlog=16)
        listener.settimeout(0.05)
        self.port = listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._listen, args=(listener, self._stop), daemon=True)]
        self._threads[0].start()

    def die(self) -> None:
        """Close all connections and stop listening."""
        self._stop.set()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def close(self) -> None:
        self.stalled.clear()
        self.die()

    def serve(self, connection: socket.socket, stop: threading.Event) -> None:
        """Talk to one client until it leaves or `stop` is set."""
        raise NotImplementedError

    def pause(self, stop: threading.Event) -> None:
        """Wait for the time of the next frame, or while the camera is stalled."""
        stop.wait(self.period_s)
        while self.stalled.is_set() and not stop.wait(0.01):
            pass

    def _listen(self, listener: socket.socket, stop: threading.Event) -> None:
        with listener:
            while not stop.is_set():
                with suppress(TimeoutError):
                    connection = listener.accept()[0]
                    connection.settimeout(None)
                    self.connections += 1
                    self._open.add(connection)
                    self._threads = [one for one in self._threads if one.is_alive()]
                    self._threads.append(threading.Thread(target=self._one, args=(connection, stop), daemon=True))
                    self._threads[-1].start()

    def _one(self, connection: socket.socket, stop: threading.Event) -> None:
        with connection, suppress(OSError):
            self.serve(connection, stop)
        self._open.discard(connection)


class MjpegCamera(Camera):
    """MJPEG over HTTP, as cheap cameras send it.

    Attributes:
        image_hw: The size of the next pictures.
        damage: Whether the next pictures are cut in their middle.
        last: Stop cleanly after this many pictures; 0 never.
        authorization: The value of the header that a client must send; empty asks for none.
    """

    scheme = "http"
    path = "/video.mjpg"

    def __init__(self, *, rate: float = RATE, port: int = 0) -> None:
        self.image_hw, self.damage, self.last, self.authorization = HW, False, 0, ""
        super().__init__(rate=rate, port=port)

    def serve(self, connection: socket.socket, stop: threading.Event) -> None:
        asked = read_head(connection)
        if self.authorization and self.authorization not in asked:
            connection.sendall(b'HTTP/1.0 401 No\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n')
            return
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n")
        index = 0
        while not stop.is_set() and not (self.last and index >= self.last):
            data = jpeg(index, self.image_hw)
            if self.damage:
                data = data[:40]
            head = f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data + b"\r\n")
            index += 1
            self.pause(stop)


class RtspCamera(Camera):
    """H.264 over RTSP, interleaved in its TCP connection."""

    scheme = "rtsp"
    path = "/live"

    def __init__(self, *, rate: float = RATE, port: int = 0, image_hw: tuple[int, int] = HW) -> None:
        self.image_hw, self.password = image_hw, ""
        super().__init__(rate=rate, port=port)

    def serve(self, connection: socket.socket, stop: threading.Event) -> None:
        sdp = (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
            "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n"
        )
        answers = {
            "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n",
            "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n",
            "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
            "PLAY": "Session: 1\r\n",
        }
        while asked := read_head(connection):
            method = asked.split(" ", 1)[0]
            number = next(line.split(":")[1].strip() for line in asked.splitlines() if line.lower().startswith("cseq"))
            if self.password and method == "DESCRIBE" and "Authorization: Basic" not in asked:
                answer = f'RTSP/1.0 401 No\r\nCSeq: {number}\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n'
            else:
                answer = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{answers[method]}\r\n"
                answer += sdp if method == "DESCRIBE" else ""
            connection.sendall(answer.encode())
            if method == "PLAY":
                self._play(connection, stop)
                return

    def _play(self, connection: socket.socket, stop: threading.Event) -> None:
        group = rtp_group(self.image_hw)
        sequence, index = 0, 0
        while not stop.is_set():
            sent = bytearray()
            for packet in group[index % GROUP]:
                at = (index * 90_000 // RATE) % 2**32
                renumbered = packet[:2] + sequence.to_bytes(2, "big") + at.to_bytes(4, "big") + packet[8:]
                sent += b"$\0" + len(renumbered).to_bytes(2, "big") + renumbered
                sequence = (sequence + 1) % 2**16
            connection.sendall(sent)
            index += 1
            self.pause(stop)


class BytesServer(Camera):
    """Sends the same bytes to everybody who connects, and then closes the connection.

    Args:
        data: What it sends.
        chunk: Bytes that it sends at once, one chunk each frame's time; 0 sends all.
    """

    def __init__(self, data: bytes, *, chunk: int = 0, rate: float = RATE) -> None:
        self._data, self._chunk = data, chunk or max(len(data), 1)
        super().__init__(rate=rate)

    def serve(self, connection: socket.socket, stop: threading.Event) -> None:
        for at in range(0, len(self._data), self._chunk):
            if stop.is_set():
                return
            connection.sendall(self._data[at : at + self._chunk])
            if at + self._chunk < len(self._data):
                self.pause(stop)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # until the client has everything and leaves


def read_head(connection: socket.socket) -> str:
    """Read up to an empty line."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(4096)
        if not part:
            return ""
        data += part
    return data.decode()


@cache
def jpeg(index: int, image_hw: tuple[int, int] = HW) -> bytes:
    import cv2

    return cv2.imencode(".jpg", picture(index, image_hw))[1].tobytes()


@cache
def rtp_group(image_hw: tuple[int, int] = HW) -> Sequence[Sequence[bytes]]:
    """The RTP packets of each frame of a group, which begins with a key frame."""
    frames: list[list[bytes]] = []
    written: list[bytes] = []
    with _Encoder(written, "rtp", image_hw) as encoder:
        for index in range(GROUP):
            encoder.write(index)
            frames.append([packet for packet in written if not 200 <= packet[1] <= 204])  # those are RTCP
            written.clear()
    return frames


@cache
def video_bytes(count: int, kind: str = "mp4", image_hw: tuple[int, int] = HW) -> bytes:
    """A file of this many frames: ``mp4`` declares its length, ``mpegts`` does not."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip")
        options = {"movflags": "faststart"} if kind == "mp4" else {}
        with av.open(str(path), "w", format=kind, options=options) as container:
            stream = _stream(container, image_hw)
            for index in range(count):
                container.mux(stream.encode(_frame(index, image_hw)))
            container.mux(stream.encode(None))
        return path.read_bytes()


class _Encoder(Closing):
    """Writes pictures to a format that sends each packet as it comes."""

    def __init__(self, written: list[bytes], kind: str, image_hw: tuple[int, int]) -> None:
        import av

        class Writer:
            def write(self, data: bytes) -> int:
                written.append(bytes(data))
                return len(data)

        self._image_hw = image_hw
        self._container = av.open(Writer(), "w", format=kind, container_options={"packetsize": "1400"})
        self._stream = _stream(self._container, image_hw)

    def write(self, index: int) -> None:
        self._container.mux(self._stream.encode(_frame(index, self._image_hw)))

    def close(self) -> None:
        self._container.close()


def _stream(container: Any, image_hw: tuple[int, int]) -> Any:
    options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "x264-params": X264,
    }
    stream = container.add_stream("libx264", rate=RATE, options=options)
    stream.height, stream.width = image_hw
    stream.pix_fmt = "yuv420p"
    return stream


def _frame(index: int, image_hw: tuple[int, int]) -> Any:
    import av

    frame = av.VideoFrame.from_ndarray(picture(index, image_hw), format="bgr24")
    frame.pts = index
    return frame
