from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from helpers.cameras import HW, BytesServer, MjpegCamera, RtspCamera, picture, video_bytes
from helpers.packet_decoding import CpuPackets, Pretended
from yoloship._util.closing import Closing
from yoloship.errors import InputError
from yoloship.sources.live import connection, feed
from yoloship.sources.live.decoder import FRAMES, PACKETS
from yoloship.sources.live.feed import MAX_DELAY_S, Feed, delay_before
from yoloship.sources.live.messages import Packet, to_bytes
from yoloship.sources.live.states import State
from yoloship.sources.live.target import target_of
from yoloship.sources.settings import SourceOptions

if TYPE_CHECKING:
    from yoloship.sources.source import Frame

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="live sources are not for Windows yet"),
]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_FIRST_DELAY_S", 0.01)


class Watched(Closing):
    """A feed with what it gives and says; its watchdog is called by hand."""

    def __init__(self, address: str, decoding: CpuPackets | None = None, **options: Any) -> None:
        self.events: list[str] = []
        self.changed = threading.Condition()
        self.ready: deque[Feed] = deque()
        rules = SourceOptions(on_event=self._hear, **options)
        self.feed = Feed(target_of(address), rules, self.changed, self.ready.append)
        self.frames: list[Frame] = []
        self.feed.decoding = self.decoding = decoding
        self.feed.start()

    def _hear(self, line: str) -> None:
        with self.changed:
            self.events.append(line)
            self.changed.notify_all()

    def take(self, count: int) -> list[Frame]:
        """The next frames."""
        for _ in range(count):
            with self.changed:
                self.changed.wait_for(lambda: self.ready)
                held = self.ready.popleft().pop()
            frame: Any = held.take()
            if isinstance(frame.image, Pretended):  # as a detector does
                image = frame.image.host()
                frame.image.close()
                frame = replace(frame, image=image)
            self.frames.append(frame)
        return self.frames[-count:]

    def hears(self, words: str, *, check: bool = False) -> str:
        """Wait for an event; with `check`, as the watchdog does."""
        while True:
            with self.changed:
                if (line := next((line for line in self.events if words in line), None)) is not None:
                    return line
                self.changed.wait(0.05)
            if check:
                self.feed.check(float("inf"))

    def waits_for(self, state: State) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.feed.state is state)

    @property
    def decoder(self) -> int:
        with self.changed:
            assert self.feed._connection is not None
            return self.feed._connection._process.pid

    def close(self) -> None:
        self.feed.close()
        if self.decoding is not None:
            assert self.decoding.in_use == 0
            assert self.decoding.open_now == 0


def assert_goes_on(watched: Watched) -> None:
    """Places and times grow over all connections, and the names are unique."""
    frames = [frame for frame in watched.frames if frame.error is None]
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    times = [frame.time_s or 0.0 for frame in frames]
    assert times[0] >= 0.0
    assert times == sorted(set(times))
    assert len({frame.name for frame in frames}) == len(frames)
    assert all(frame.image is not None and frame.image.shape == (*HW, 3) for frame in frames)  # type: ignore[union-attr]


def test_the_pause_doubles_up_to_a_bound_and_differs() -> None:
    for failures in (1, 3, 5, 10, 10_000):
        delays = {delay_before(failures) for _ in range(50)}
        longest = min(MAX_DELAY_S, feed._FIRST_DELAY_S * 2 ** min(failures - 1, 16))
        assert len(delays) > 1
        assert all(longest / 2 <= delay <= longest for delay in delays)


def test_a_camera_that_dies_comes_back() -> None:
    with RtspCamera(rate=100) as camera, Watched(camera.address) as watched:
        first = watched.take(3)
        camera.die()
        watched.hears("connection refused; trying again")
        camera.appear()
        while watched.feed.counts.reconnects == 0:
            watched.take(1)
        watched.take(3)
        assert watched.feed.state is State.RUNNING
        assert_goes_on(watched)
    assert first[0].stream is not None
    assert first[0].stream.is_live
    assert first[0].stream.status is not None
    assert first[0].stream.status() == "ended"
    assert watched.feed.counts.frames == len(watched.frames)


def test_a_camera_that_stalls_is_connected_anew() -> None:
    with MjpegCamera(rate=100) as camera, Watched(camera.address, live_timeout_s=7) as watched:
        watched.take(3)
        camera.stalled.set()
        watched.hears("no frame for 7 s", check=True)
        camera.stalled.clear()
        while watched.feed.counts.reconnects == 0:
            watched.take(1)
        assert_goes_on(watched)
    assert camera.connections >= 2


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_decoder_that_dies_is_started_again(name: str) -> None:
    with MjpegCamera(rate=100) as camera, Watched(camera.address) as watched:
        watched.take(2)
        os.kill(watched.decoder, signal.Signals[name])
        watched.hears(f"its decoder died (signal {name})")
        while watched.feed.counts.reconnects == 0:
            watched.take(1)
        assert_goes_on(watched)


def test_a_decoder_that_hangs_is_killed_and_started_again() -> None:
    with MjpegCamera(rate=100) as camera, Watched(camera.address) as watched:
        watched.take(2)
        os.kill(watched.decoder, signal.SIGSTOP)
        watched.hears("no frame for", check=True)
        while watched.feed.counts.reconnects == 0:
            watched.take(1)
        assert_goes_on(watched)


def test_a_decoder_that_talks_nonsense_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_PROGRAM", "print('rubbish', flush=True)")
    with Watched("tcp://127.0.0.1:1") as watched:
        watched.hears("is not understood; trying again")


def test_what_cannot_work_is_given_up_at_once_with_a_way_forward() -> None:
    with BytesServer(b"no video" * 1000) as server, Watched(server.address) as watched:
        (frame,) = watched.take(1)
        watched.waits_for(State.FAILED)
    assert isinstance(frame.error, InputError)
    assert frame.image is None
    assert "does not send video in a known format; check the address" in str(frame.error)
    assert server.connections == 1
    assert watched.feed.counts.frames == 0


def test_what_once_worked_is_tried_again_whatever_happens() -> None:
    with MjpegCamera(rate=100) as camera, Watched(camera.address) as watched:
        watched.take(1)
        camera.authorization = "Basic x"
        camera.die()
        camera.appear()
        watched.hears("does not accept the user name or the password; trying again")
        camera.authorization = ""
        while watched.feed.counts.reconnects == 0:
            watched.take(1)


def test_nobody_there_is_given_up_after_the_allowed_attempts() -> None:
    with MjpegCamera() as camera:
        address = camera.address
    with Watched(address, live_retries=2) as watched:
        (frame,) = watched.take(1)
        watched.waits_for(State.FAILED)
    assert "connection refused" in str(frame.error)
    assert sum("trying again" in line for line in watched.events) == 2
    assert sum("given up" in line for line in watched.events) == 1


def test_a_file_ends_its_stream_and_every_frame_comes() -> None:
    with BytesServer(video_bytes(40)) as server, Watched(server.address, live="every") as watched:
        frames = watched.take(40)
        watched.waits_for(State.ENDED)
    assert [frame.index for frame in frames] == list(range(40))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(40)])
    assert watched.feed.counts.dropped == 0


def test_a_file_that_breaks_off_fails() -> None:
    data = video_bytes(100)
    with BytesServer(data[: len(data) // 2]) as server, Watched(server.address, live="every") as watched:
        while "broke off at" not in str(watched.take(1)[0].error):
            pass
        watched.waits_for(State.FAILED)


def test_newest_gives_the_last_frame_and_counts_the_others() -> None:
    with BytesServer(video_bytes(60), chunk=400, rate=200) as server, Watched(server.address) as watched:
        watched.waits_for(State.ENDED)
        assert len(watched.ready) == 1
        (frame,) = watched.take(1)
    counts = watched.feed.counts
    assert (counts.frames, counts.dropped) == (1, 59)
    assert frame.index > 40


def test_with_every_the_watchdog_does_not_blame_a_stream_that_has_to_wait() -> None:
    with BytesServer(video_bytes(60)) as server, Watched(server.address, live="every") as watched:
        with watched.changed:
            watched.changed.wait_for(lambda: len(watched.ready) == 8)
        watched.feed.check(float("inf"))
        assert watched.feed.state is State.RUNNING
        assert len(watched.take(60)) == 60


def test_damaged_frames_are_counted_named_and_with_every_given_as_errors() -> None:
    with MjpegCamera(rate=100) as camera, Watched(camera.address, live="every") as watched:
        watched.take(2)
        camera.damage = True
        while (frame := watched.take(1)[0]).error is None:
            pass
        assert "damaged frames left out" in watched.hears("damaged")
        assert watched.feed.counts.damaged > 0
    assert str(frame.error) == f"{frame.name}: is damaged, and left out"
    assert frame.image is None


def test_events_have_a_time_and_a_name_and_no_password() -> None:
    with RtspCamera(rate=100) as camera:
        address = camera.address.replace("://", "://admin:s3cret@")
        with Watched(address) as watched:
            camera.password = "s3cret"
            watched.take(2)
            camera.die()
            watched.hears("trying again")
    assert all(line[2] == line[5] == ":" and f" {camera.address}: " in line for line in watched.events)
    assert not any("s3cret" in line or "admin" in line for line in watched.events)
    assert all("s3cret" not in frame.name + str(frame.error) for frame in watched.frames)


def test_without_a_listener_events_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    one = Feed(target_of("0"), SourceOptions(), threading.Condition(), lambda _: None)
    with caplog.at_level("INFO", "yoloship"):
        one.tell("hello \x1b")
    assert caplog.records[0].name == "yoloship.sources"
    assert caplog.messages[0].endswith("camera 0: hello \\x1b")


@pytest.mark.parametrize("state", [State.NOT_STARTED, State.CONNECTING, State.RUNNING, State.RECONNECTING])
def test_closing_leaves_nothing_in_any_state(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    if state is State.RECONNECTING:
        monkeypatch.setattr(feed, "_FIRST_DELAY_S", 1000.0)
    with MjpegCamera() as camera:
        address = camera.address
        if state is State.RECONNECTING:
            camera.die()
        if state is State.NOT_STARTED:
            one = Feed(target_of(address), SourceOptions(), threading.Condition(), lambda _: None)
            one.close()
        else:
            watched = Watched(address)
            watched.waits_for(state)
            watched.close()
            watched.close()
            one = watched.feed
            assert not one._thread.is_alive()
    assert one.state is State.ENDED
    assert one._connection is None


def assert_pictures(frames: list[Frame]) -> None:
    for frame in frames:
        image: Any = frame.image
        assert min(abs(image.astype(int) - picture(index)).mean() for index in range(10)) < 4


def test_a_device_gets_the_packets_of_a_stream() -> None:
    decoding = CpuPackets()
    with BytesServer(video_bytes(40)) as server, Watched(server.address, decoding, live="every") as watched:
        frames = watched.take(40)
        watched.waits_for(State.ENDED)
    assert decoding.given == 40
    assert [frame.index for frame in frames] == list(range(40))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(40)])
    assert_pictures(frames)
    assert (watched.feed.counts.frames, watched.feed.counts.dropped) == (40, 0)


def test_with_newest_the_device_decodes_all_and_gives_the_last() -> None:
    decoding = CpuPackets()
    with BytesServer(video_bytes(60), chunk=400, rate=200) as server, Watched(server.address, decoding) as watched:
        watched.waits_for(State.ENDED)
        assert len(watched.ready) == 1
        assert decoding.in_use == 1
        (frame,) = watched.take(1)
    assert (watched.feed.counts.frames, watched.feed.counts.dropped) == (1, 59)
    assert frame.index == 59


def test_with_every_the_packets_of_a_device_wait_and_nobody_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_ROOM_S", 0.02)
    monkeypatch.setattr(feed, "_WAIT_SAID_S", 0.05)
    decoding = CpuPackets()
    with BytesServer(video_bytes(60)) as server, Watched(server.address, decoding, live="every") as watched:
        watched.hears("so it has to wait")
        watched.feed.check(float("inf"))
        assert decoding.in_use == 9
        frames = watched.take(60)
        watched.waits_for(State.ENDED)
    assert [frame.index for frame in frames] == list(range(60))
    assert not any("no frame for" in line for line in watched.events)


@pytest.mark.parametrize("way", ["camera dies", "process dies", "process hangs", "camera stalls"])
def test_a_stream_that_a_device_decodes_comes_back(way: str) -> None:
    decoding = CpuPackets()
    with RtspCamera(rate=100) as camera, Watched(camera.address, decoding) as watched:
        watched.take(3)
        if way == "camera dies":
            camera.die()
            watched.hears("trying again")
            camera.appear()
        elif way == "process dies":
            os.kill(watched.decoder, signal.SIGSEGV)
            watched.hears("its decoder died (signal SIGSEGV)")
        elif way == "process hangs":
            os.kill(watched.decoder, signal.SIGSTOP)
            watched.hears("no frame for", check=True)
        else:
            camera.stalled.set()
            watched.hears("no frame for", check=True)
            camera.stalled.clear()
        while watched.feed.counts.reconnects == 0:
            watched.take(1)
        watched.take(3)
        assert_goes_on(watched)
        assert watched.feed.decoding is decoding
    assert decoding.given >= len(watched.frames)
    assert watched.feed.counts.frames == len(watched.frames)


def test_what_a_device_refuses_is_decoded_as_without_it_in_the_same_connection() -> None:
    decoding = CpuPackets(refuses=("mjpeg",))
    with MjpegCamera(rate=100) as camera, Watched(camera.address, decoding) as watched:
        watched.take(5)
        assert_goes_on(watched)
        assert camera.connections == 1
        assert decoding.given == 0
    assert sum("decoded by the CPU: mjpeg: is a codec that NVDEC does not have" in line for line in watched.events) == 1
    assert watched.feed.counts.reconnects == 0


def test_what_a_device_refuses_is_an_error_if_the_cpu_must_not() -> None:
    decoding = CpuPackets(refuses=("mjpeg",), has_fallback=False)
    with MjpegCamera(rate=100) as camera, Watched(camera.address, decoding) as watched:
        (frame,) = watched.take(1)
        watched.waits_for(State.FAILED)
    assert (
        "cannot be decoded by the GPU: mjpeg: is a codec that NVDEC does not have; use decode='auto' (--decode auto)"
        in str(frame.error)
    )


def test_a_device_that_fails_later_leaves_the_stream_to_the_cpu() -> None:
    decoding = CpuPackets(fails_at=4)
    with RtspCamera(rate=100) as camera, Watched(camera.address, decoding) as watched:
        watched.hears("decoded by the CPU from now on: NVDEC does not take it, or has no session left")
        while watched.feed.counts.reconnects == 0:
            watched.take(1)
        watched.take(3)
        assert watched.feed.decoding is None
        assert_goes_on(watched)
    assert decoding.given == 4


def test_packets_that_nobody_asked_for_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = to_bytes(Packet(None, None, True, False, 1, b"x"))
    monkeypatch.setattr(connection, "_PROGRAM", f"import os, time; os.write(1, {sent!r}); time.sleep(60)")
    decoding = CpuPackets()
    with Watched("tcp://127.0.0.1:1", decoding) as watched:
        watched.hears("sent something that was not requested")
    with Watched("tcp://127.0.0.1:1") as watched:
        watched.hears("sent something that was not requested")
    assert decoding.opened == []


def test_a_packet_that_breaks_off_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    coded = (
        '{"kind": "Coded", "codec": "h264", "pixels": null, "orientation": 1, "is_lossless": true, "size": 60000}\\nx'
    )
    monkeypatch.setattr(connection, "_PROGRAM", f"print('{coded}', flush=True)")
    with Watched("tcp://127.0.0.1:1", CpuPackets()) as watched:
        watched.hears("its decoder died (exit code 0)")


def test_a_connection_that_loses_packets_is_left_to_the_cpu_which_tells_damaged_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coded = '{"kind": "Coded", "codec": "h264", "pixels": null, "orientation": 1, "is_lossless": false, "size": 0}'
    ends = "stopped = json.dumps(dict(kind='Stopped', loss='wrong', problem=str(answer), hint=''))"
    program = f"sys.stdin.buffer.readline(); print('{coded}', flush=True); answer = sys.stdin.buffer.read(1)[0]; {ends}"
    monkeypatch.setattr(connection, "_PROGRAM", f"import json, sys; {program}; print(stopped, flush=True)")
    for decoding, answer in ((CpuPackets(), FRAMES), (CpuPackets(has_fallback=False), PACKETS)):
        with Watched("tcp://127.0.0.1:1", decoding) as watched:
            watched.hears(f"given up: {answer}")
            is_said = any(
                "decoded by the CPU: parts of frames can be lost on the way" in line for line in watched.events
            )
            assert is_said == (answer == FRAMES)
        assert len(decoding.opened) == (answer == PACKETS)
