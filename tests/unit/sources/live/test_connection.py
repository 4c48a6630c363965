from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cameras import HW, BytesServer, RtspCamera, picture, video_bytes
from yoloship.sources.live import connection as module
from yoloship.sources.live.connection import Connection
from yoloship.sources.live.messages import Alive, Arrived, BrokenDecoderError, Opened, Stopped
from yoloship.sources.live.target import Target, target_of
from yoloship.sources.settings import SourceOptions

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="live sources are not for Windows yet"),
]
EVERY = SourceOptions(live="every")


def descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def says(monkeypatch: pytest.MonkeyPatch, program: str) -> Connection:
    """A connection whose decoder is another program."""
    monkeypatch.setattr(module, "_PROGRAM", f"import os, sys, time; {program}")
    return Connection(target_of("tcp://127.0.0.1:1"), EVERY, 2)


def test_a_decoder_fills_slots_that_come_back_and_is_gone_in_the_end() -> None:
    before = descriptors()
    with BytesServer(video_bytes(12)) as server, Connection(target_of(server.address), EVERY, 2) as connection:
        kinds = []
        for message in connection:
            kinds.append(type(message))
            if isinstance(message, Arrived):
                image = connection.take(message.slot, (message.height, message.width))
                assert not image.flags.writeable
                assert abs(image.astype(int) - picture(message.index)).mean() < 4
            if isinstance(message, Stopped):
                assert message.loss == "ended"
                break
    assert kinds == [Alive, Opened, *[Arrived] * 12, Alive, Stopped]
    assert not connection.is_full
    assert descriptors() <= before + 1  # the ring, until it is collected
    connection.close()


def test_its_end_is_told_by_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    with says(monkeypatch, "sys.exit(3)") as connection:
        assert list(connection) == []
        connection._process.wait()
    assert connection.how_it_ended() == "exit code 3"
    with says(monkeypatch, "os.kill(os.getpid(), 11)") as connection:
        assert list(connection) == []
        connection._process.wait()
    assert connection.how_it_ended() == "signal SIGSEGV"


@pytest.mark.parametrize(
    "text",
    ["rubbish", json.dumps({"kind": "Alive", "more": 1}), "x" * 100_000],
    ids=["rubbish", "a field too many", "a line without an end"],
)
def test_a_decoder_that_talks_nonsense_is_not_believed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with (
        says(monkeypatch, f"print({text!r}, flush=True); time.sleep(60)") as connection,
        pytest.raises(BrokenDecoderError),
    ):
        list(connection)


def test_a_slot_that_was_not_given_back_cannot_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps({"kind": "Arrived", "slot": 1, "index": 0, "height": 2, "width": 2, "pts": None, "dropped": 0})
    with says(monkeypatch, f"print({line!r}); print({line!r}, flush=True); time.sleep(60)") as connection:
        messages = iter(connection)
        assert isinstance(next(messages), Arrived)
        with pytest.raises(BrokenDecoderError, match="not its own"):
            next(messages)


def test_a_decoder_that_never_reads_what_it_is_told_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with says(monkeypatch, "time.sleep(600)") as connection:
        for _ in range(100_000):  # a pipe holds 65,536 bytes
            connection.give_back(0)
        connection._process.wait()
    assert connection.how_it_ended() == "signal SIGKILL"


@pytest.mark.parametrize("name", ["SIGSTOP", "SIGKILL"])
def test_a_decoder_that_hangs_or_died_is_gone_after_close(name: str) -> None:
    with RtspCamera() as camera, Connection(target_of(camera.address), EVERY, 2) as connection:
        assert isinstance(next(iter(connection)), Alive)
        os.kill(connection._process.pid, signal.Signals[name])
    assert connection.how_it_ended() == "signal SIGKILL"


def test_frames_outlive_the_decoder() -> None:
    with BytesServer(video_bytes(12)) as server, Connection(target_of(server.address), EVERY, 2) as connection:
        arrived = next(message for message in connection if isinstance(message, Arrived))
    image = connection.take(arrived.slot, HW)
    assert abs(image.astype(int) - picture(0)).mean() < 4


def test_no_password_is_an_argument_of_a_process() -> None:
    target = Target("tcp://host/", None, "tcp://me:s3cret@127.0.0.1:1/")
    with Connection(target, EVERY, 2) as connection:
        arguments = subprocess.run(
            ["ps", "-o", "args=", "-p", str(connection._process.pid)], capture_output=True, text=True, check=False
        ).stdout
    assert "s3cret" not in arguments


def test_a_module_in_the_current_folder_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "av.py").write_text("open('loaded', 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in {"", "."}])
    with BytesServer(video_bytes(5)) as server, Connection(target_of(server.address), EVERY, 8) as connection:
        assert any(isinstance(message, Arrived) for message in connection)
    assert not (tmp_path / "loaded").exists()


def test_decoders_end_when_their_parent_is_killed() -> None:
    program = (
        "import sys; from yoloship.sources.live.connection import Connection\n"
        "from yoloship.sources.live.target import target_of\n"
        "from yoloship.sources.settings import SourceOptions\n"
        "connection = Connection(target_of(sys.argv[1]), SourceOptions(), 2)\n"
        "next(iter(connection)); print(connection._process.pid, flush=True); sys.stdin.read()"
    )
    with RtspCamera() as camera:
        parent = subprocess.Popen(
            [sys.executable, "-c", program, camera.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        assert parent.stdin is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        parent.stdout.close()
        parent.stdin.close()
        while _runs(child):
            pass  # the time limit of this test is what ends it otherwise


def _runs(pid: int) -> bool:
    """Whether a process is there; one that ended and is not waited for by anybody is not."""
    states = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(states.strip()) and not states.startswith("Z")
