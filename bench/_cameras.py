"""Cameras for `gpu_media.py`: 1080p at 30 frames a second over RTSP on loopback, and how many a detector carries.

Each camera notes when it sends a frame, just before the call that sends it. FFmpeg's parser gives a frame of H.264 over
RTSP when the next one begins, 33 ms later, whoever decodes it. So there are two latencies: from the moment in which a
frame is sent, and from the one in which it is complete for whoever receives it, which is when the next one is sent.
"""

from __future__ import annotations

import multiprocessing
import queue
import socket
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.detect.detector import Detector

RATE, GROUP, RING = 30, 30, 1 << 14
MOST_P99_MS = 50.0
_PROCESSES = 8
_START_S = 25.0
_SETTLE_S = 1.0
"""From the first frame of the last camera until counting begins. While its decoder opens, its packets wait, and what
has waited is late or left out: of a start, not of a load."""


@dataclass(frozen=True)
class Load:
    """What was seen with so many cameras.

    Attributes:
        cameras: How many there were.
        frames_per_s: Results a second, of all together.
        sent_ms: p50, p90, p99 and the most, from sending a frame until its result is there.
        complete_ms: The same from the moment in which the frame is complete for the receiver.
        lost: Frames between the first and the last result of a camera that have no result.
        dropped: What the sources say that they have left out.
        errors: Results that are errors.
        on_device: Frames that the GPU decoded.
        ready_s: From opening until all cameras have given a frame.
        said: Messages of the sources, with how often they came.
    """

    cameras: int
    frames_per_s: float
    sent_ms: tuple[float, ...]
    complete_ms: tuple[float, ...]
    lost: int
    dropped: int
    errors: int
    on_device: int
    ready_s: float
    said: tuple[str, ...] = ()

    def is_carried(self, *, complete: bool) -> bool:
        """Whether none was lost, all frames came, and 99 of 100 were soon enough."""
        late = (self.complete_ms if complete else self.sent_ms)[2] > MOST_P99_MS
        return not (late or self.lost or self.errors) and self.frames_per_s >= 0.97 * self.cameras * RATE

    @property
    def is_near(self) -> bool:
        """Whether it may have been a bad moment of the machine: few are lost, and few are late. It is tried again."""
        few_lost = self.lost <= 0.02 * self.frames_per_s and self.complete_ms[2] <= 2 * MOST_P99_MS
        return few_lost and not self.errors and self.frames_per_s >= 0.97 * self.cameras * RATE

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def encoded_group(photo: Path, hw: tuple[int, int]) -> list[list[bytes]]:
    """The RTP packets of each frame of one second: a scene that moves, 4 megabits a second."""
    import av

    image = cv2.imread(str(photo), cv2.IMREAD_COLOR)
    assert image is not None
    high, wide = hw
    image = cv2.resize(image, (wide + 2 * GROUP, high + GROUP))
    written: list[bytes] = []

    class Writer:
        def write(self, data: bytes) -> int:
            written.append(bytes(data))
            return len(data)

    frames = []
    with av.open(Writer(), "w", format="rtp", container_options={"packetsize": "1400"}) as container:
        settings = f"keyint={GROUP}:min-keyint={GROUP}:scenecut=0:repeat-headers=1"
        settings += ":bitrate=4000:vbv-maxrate=4000:vbv-bufsize=1000"
        options = {"preset": "superfast", "tune": "zerolatency", "x264-params": settings}
        video: Any = container.add_stream("libx264", rate=RATE, options=options)
        video.height, video.width, video.pix_fmt = high, wide, "yuv420p"
        for index in range(GROUP):
            view = np.ascontiguousarray(image[index : index + high, 2 * index : 2 * index + wide])
            frame = av.VideoFrame.from_ndarray(view, format="bgr24")
            frame.pts = index
            container.mux(video.encode(frame))
            frames.append([packet for packet in written if not 200 <= packet[1] <= 204])  # not the reports
            written.clear()
    return frames


def serve(
    ports: Any, numbers: list[int], group: list[list[bytes]], sent_path: str, cameras: int, stop: Any
) -> None:  # fmt: skip
    """Some of the cameras, in a process of its own. Each has its own phase of the 33 ms, as real ones do."""
    sent = np.memmap(sent_path, np.float64, "r+", shape=(cameras, RING))
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=16) for _ in numbers]
    ports.put([(number, one.getsockname()[1]) for number, one in zip(numbers, listeners, strict=True)])

    def one(number: int, listener: socket.socket) -> None:
        with suppress(OSError), listener, listener.accept()[0] as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not _begin(connection):
                return
            start, sequence, index = time.monotonic() + number / cameras / RATE, 0, 0
            while not stop.is_set():
                time.sleep(max(0.0, start + index / RATE - time.monotonic()))
                data, sequence = _interleaved(group[index % GROUP], sequence, index)
                sent[number, index % RING] = time.monotonic()
                connection.sendall(data)
                index += 1

    for pair in zip(numbers, listeners, strict=True):
        threading.Thread(target=one, args=pair, daemon=True).start()
    stop.wait()


def _interleaved(packets: list[bytes], sequence: int, index: int) -> tuple[bytes, int]:
    data = bytearray()
    moment = (index * 90_000 // RATE) % 2**32
    for packet in packets:
        numbered = packet[:2] + sequence.to_bytes(2, "big") + moment.to_bytes(4, "big") + packet[8:]
        data += b"$\0" + len(numbered).to_bytes(2, "big") + numbered
        sequence = (sequence + 1) % 2**16
    return bytes(data), sequence


def _begin(connection: socket.socket) -> bool:
    """Answer until PLAY; False if the other side went away."""
    sdp = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
        "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n"
    )
    answers = {
        "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n",
        "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n",
        "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
        "PLAY": "Session: 1\r\n",
    }
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            part = connection.recv(4096)
            if not part:
                return False
            data += part
        asked, _, data = data.partition(b"\r\n\r\n")
        lines = asked.decode().splitlines()
        method = lines[0].split(" ", 1)[0]
        number = next(line.split(":")[1].strip() for line in lines if line.lower().startswith("cseq"))
        body = sdp if method == "DESCRIBE" else ""
        connection.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{answers.get(method, '')}\r\n{body}".encode())
        if method == "PLAY":
            return True


def measure(detector: Detector, cameras: int, group: list[list[bytes]], seconds: float) -> Load:
    """Run so many cameras for so long, once all of them give frames. If they do not within 25 s, `said` says so."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "sent")
        sent = np.memmap(path, np.float64, "w+", shape=(cameras, RING))
        stop, ports = context.Event(), context.Queue()
        processes = min(_PROCESSES, cameras)
        workers = [
            context.Process(
                target=serve,
                args=(ports, list(range(first, cameras, processes)), group, path, cameras, stop),
                daemon=True,
            )
            for first in range(processes)
        ]
        for worker in workers:
            worker.start()
        try:
            numbers = {
                f"rtsp://127.0.0.1:{port}/live": number for _ in workers for number, port in ports.get(timeout=30)
            }
            return _measured(detector, numbers, sent, seconds)
        except (RuntimeError, queue.Empty) as error:
            nothing = (0.0,) * 4
            return Load(cameras, 0.0, nothing, nothing, 0, 0, 0, 0, 0.0, (str(error) or "no camera listens",))
        finally:
            stop.set()
            for worker in workers:
                worker.join(5)
                if worker.is_alive():
                    worker.terminate()


def _measured(detector: Detector, numbers: dict[str, int], sent: Any, seconds: float) -> Load:
    from yoloship.sources import SourceOptions, open_source

    events: list[str] = []
    rows: list[tuple[int, int, float, float, float]] = []
    seen: set[int] = set()
    on_device = errors = 0
    began = time.monotonic()
    ready: float | None = None
    started: float | None = None
    with open_source(list(numbers), SourceOptions(on_event=events.append)) as source:
        feeds = getattr(source, "_feeds", ())
        before = dropped = 0
        for outcome in detector.stream(source):
            now, frame = time.monotonic(), outcome.frame
            assert frame is not None
            assert frame.stream is not None
            number, place = numbers[frame.stream.name], frame.index
            seen.add(number)
            if started is None:
                if ready is None and len(seen) == len(numbers):
                    ready = now
                elif ready is not None and now >= ready + _SETTLE_S:
                    started, before = now, sum(feed.counts.dropped for feed in feeds)
                elif now - began > _START_S:
                    raise RuntimeError(f"{len(seen)} of {len(numbers)} cameras gave frames within {_START_S:.0f} s")
                continue
            errors += outcome.error is not None
            on_device += hasattr(frame.image, "host")
            rows.append((number, place, now, sent[number, place % RING], sent[number, (place + 1) % RING]))
            if now > started + seconds:
                dropped = sum(feed.counts.dropped for feed in feeds) - before  # to stop takes a while
                break
    if started is None or ready is None:
        raise RuntimeError(f"the cameras ended early: {Counter(events).most_common(3)}")
    table = np.array(rows)
    notable = ("CPU", "again", "no frame")
    said = Counter(text.split(": ", 1)[-1] for text in events if any(word in text for word in notable))
    return Load(
        cameras=len(numbers),
        frames_per_s=round(len(rows) / float(table[-1, 2] - started), 1),
        sent_ms=_percentiles(table[:, 2] - table[:, 3]),
        complete_ms=_percentiles(table[:, 2] - table[:, 4]),
        lost=_lost(table, len(numbers)),
        dropped=dropped,
        errors=errors,
        on_device=on_device,
        ready_s=round(ready - began, 2),
        said=tuple(f"{times}× {text}" for text, times in said.most_common(4)),
    )


def _percentiles(seconds: Any) -> tuple[float, ...]:
    return tuple(round(1e3 * float(value), 1) for value in np.percentile(seconds, (50, 90, 99, 100)))


def _lost(table: Any, cameras: int) -> int:
    """A camera without one result counts as one second of frames."""
    lost = 0
    for number in range(cameras):
        places = table[table[:, 0] == number, 1]
        lost += int(places.max() - places.min() + 1 - places.size) if places.size else RATE
    return lost


def search(
    probe: Callable[[int], Load | None], is_good: Callable[[Load], bool], first: int, most: int
) -> tuple[int, bool]:
    """The largest number of cameras that is good, to one eighth, and whether the search came to its end.

    Args:
        probe: Measures so many cameras, or remembers it; None if there is no time left.
        is_good: Whether that is carried.
        first: How many to begin with.
        most: The most that are tried.
    """
    low, high, count = 0, most + 1, first
    while high - low > max(1, low // 8):
        load = probe(count)
        if load is None:
            return low, False
        if is_good(load):
            low = count
        else:
            high = count
        count = min(2 * low, most) if high > most else (low + high) // 2
    return low, True
