from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.cameras import BytesServer, MjpegCamera, RtspCamera, video_bytes
from yoloship.errors import DependencyError, InputError
from yoloship.sources import Frame, SourceOptions, open_source
from yoloship.sources.live import feed, streams
from yoloship.sources.live.feed import Feed
from yoloship.sources.live.streams import LiveStreams
from yoloship.sources.live.target import targets_of

if TYPE_CHECKING:
    from yoloship.sources.settings import LivePolicy

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="live sources are not for Windows yet"),
]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_FIRST_DELAY_S", 0.01)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("yoloship-live")]


def test_all_streams_come_and_one_that_ends_or_fails_does_not_end_the_others() -> None:
    events: list[str] = []
    options = SourceOptions(live="every", on_event=events.append)
    with (
        BytesServer(video_bytes(10)) as short,
        BytesServer(video_bytes(30), chunk=300, rate=100) as long,
        BytesServer(b"no video" * 1000) as wrong,
        open_source([short.address, wrong.address, long.address], options) as source,
    ):
        frames = list(source)
    names = [frame.stream.name for frame in frames if frame.stream and frame.error is None]
    assert names.count(short.address) == 10
    assert names.count(long.address) == 30
    (failed,) = (frame for frame in frames if frame.error is not None)
    assert failed.name == wrong.address
    assert [line.split(": ", 1)[1] for line in events[-3:]] == [
        "ended: 10 frames, 0 dropped, 0 damaged, 0 reconnects",
        "failed: 0 frames, 0 dropped, 0 damaged, 0 reconnects",
        "ended: 30 frames, 0 dropped, 0 damaged, 0 reconnects",
    ]
    assert threads() == []


def test_a_stream_that_dies_does_not_hold_up_the_others() -> None:
    with (
        MjpegCamera(rate=100) as dies,
        RtspCamera(rate=100) as lives,
        open_source([f"live:{dies.address}", lives.address]) as source,
    ):
        came: list[str] = []
        for frame in source:
            assert frame.stream is not None
            came.append(frame.stream.name)
            if dies.address in came and lives.address in came:
                break
        dies.die()
        iterator = iter(source)
        with pytest.raises(InputError, match="only once"):
            next(iterator)


def test_the_rest_goes_on_while_one_is_away() -> None:
    with (
        MjpegCamera(rate=100) as dies,
        RtspCamera(rate=100) as lives,
        open_source([f"live:{dies.address}", lives.address]) as source,
    ):
        frames = iter(source)
        while next(frames).stream.name != dies.address:  # type: ignore[union-attr]
            pass
        dies.die()
        alone = 0
        while alone < 20:
            alone = alone + 1 if next(frames).stream.name == lives.address else 0  # type: ignore[union-attr]
        dies.appear()
        while next(frames).stream.name != dies.address:  # type: ignore[union-attr]
            pass


class Still:
    """A connection without a decoder, for frames that a test makes."""

    def __init__(self) -> None:
        self.free: list[int] = []

    def take(self, slot: int, image_hw: tuple[int, int]) -> Any:
        self.free.append(slot)

    def give_back(self, slot: int) -> None:
        self.free.append(slot)


def queue(one: Feed, index: int, still: Still) -> None:
    with one._changed:
        image = feed.InSlot(still, index, (2, 2))  # type: ignore[arg-type]
        one._queue(feed.Held(Frame(index, f"{one.target.name}#{index}", None), image))


def order(policy: LivePolicy, arrivals: str) -> list[str]:
    """In which order frames are given that arrive in this order: a letter for each stream."""
    source = LiveStreams(targets_of(["0", "1", "2"]), SourceOptions(live=policy))
    still, count = Still(), dict.fromkeys("abc", 0)
    for letter in arrivals:
        queue(source._feeds["abc".index(letter)], count[letter], still)
        count[letter] += 1
    given = []
    while source._ready:
        frame = source._ready.popleft().pop().take()
        given.append("abc"[int(frame.name[7])] + str(frame.index))
    assert len(still.free) == len(arrivals), "every slot is free again"
    dropped = sum(one.counts.dropped for one in source._feeds)
    assert dropped == len(arrivals) - len(given)
    return given


def test_newest_takes_turns_so_that_a_fast_stream_does_not_starve_a_slow_one_nor_the_reverse() -> None:
    assert order("newest", "aaabaaca") == ["a5", "b0", "c0"]
    assert order("newest", "bbbb") == ["b3"]


def test_every_gives_all_as_they_arrived() -> None:
    assert order("every", "aabac") == ["a0", "a1", "b0", "a2", "c0"]


def test_it_is_ready_when_a_frame_waits_or_nothing_more_comes() -> None:
    source = LiveStreams(targets_of(["0"]), SourceOptions())
    assert not source.is_ready()
    queue(source._feeds[0], 0, Still())
    assert source.is_ready()
    source._ready.popleft()
    assert not source.is_ready()
    source.close()
    assert source.is_ready()


def test_nothing_is_connected_before_the_first_frame_is_asked_for() -> None:
    with MjpegCamera() as camera:
        with open_source([f"live:{camera.address}"]) as source:
            assert source.is_live
            assert source.live_streams == 1
            assert source.count is None
            assert source.files is None
        assert camera.connections == 0
        with pytest.raises(InputError, match="only once"):
            next(iter(source))


def test_leaving_early_leaves_no_thread_and_no_process() -> None:
    with MjpegCamera() as camera, open_source([f"live:{camera.address}"]) as source:
        for _ in source:
            pids = [one._connection._process.pid for one in source._feeds if one._connection]  # type: ignore[attr-defined]
            break
    assert threads() == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_closing_in_another_thread_ends_the_iteration() -> None:
    with MjpegCamera() as camera:
        camera.stalled.set()
        source = open_source([f"live:{camera.address}"])
        timer = threading.Timer(0.2, source.close)
        timer.start()
        assert len(list(source)) <= 1
        timer.join()
    assert threads() == []


def test_the_watchdog_finds_a_silent_stream_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    with MjpegCamera(rate=100) as camera:
        options = SourceOptions(live_timeout_s=0.3, on_event=events.append)
        with open_source([f"live:{camera.address}"], options) as source:
            frames = iter(source)
            next(frames)
            camera.stalled.set()
            while not any("trying again" in line for line in events):
                if source.is_ready():
                    next(frames)
            camera.stalled.clear()
            next(frames)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_everything_and_nothing_is_left_or_complained_about(number: signal.Signals) -> None:
    program = (
        "import sys\nfrom yoloship.sources import open_source\n"
        "with open_source(sys.argv[1:]) as source:\n"
        "    for frame in source:\n"
        "        pids = [one._connection._process.pid for one in source._feeds if one._connection]\n"
        "        print(*pids, flush=True)\n"
    )
    with MjpegCamera() as one, RtspCamera() as other:
        run = subprocess.Popen(
            [sys.executable, "-c", program, f"live:{one.address}", other.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert run.stdout is not None
        while len(pids := run.stdout.readline().split()) < 2:
            pass
        os.killpg(run.pid, number)
        _, complaints = run.communicate()
    if number == signal.SIGINT:
        assert complaints.rstrip().endswith("KeyboardInterrupt")
    assert "leaked" not in complaints
    assert "resource_tracker" not in complaints
    for pid in pids:
        while Path(f"/proc/{pid}").exists() and b"live.decoder" in Path(f"/proc/{pid}/cmdline").read_bytes():
            pass


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "has_pyav", lambda: False)
    with pytest.raises(DependencyError, match=r"pip install 'yoloship\[video\]'"):
        open_source(["rtsp://cam/"])
    open_source(["0"]).close()


def test_what_cannot_be_is_refused_before_anything_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, words in (
        (SourceOptions(frame_step=0), r"frame_step \(--vid-stride\): must be at least 1"),
        (SourceOptions(live_timeout_s=0), "live_timeout_s: must be above 0"),
        (SourceOptions(live_timeout_s=float("nan")), "live_timeout_s: must be above 0"),
    ):
        with pytest.raises(InputError, match=words):
            LiveStreams.open(["0"], options)
    with pytest.raises(InputError, match="too many streams"):
        LiveStreams.open([f"tcp://h:{port}" for port in range(1, 300)])
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(InputError, match="not supported on Windows"):
        LiveStreams.open(["0"])
