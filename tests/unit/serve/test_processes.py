"""Several server processes at one port, as real processes."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from helpers.serving import JPEG, PHOTO, PREDICT, cat_model, settings_of
from yoloship.errors import InputError, OutputError
from yoloship.serve.listening import Listening, bound_socket
from yoloship.serve.metrics import FOLDER_VARIABLE
from yoloship.serve.processes import _Family, _Member, _share_of, serve_together
from yoloship.serve.settings import RequestLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux shares a port")
_PATIENCE_S = 60.0


@contextmanager
def two_processes(model: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server of two processes, and its address."""
    command = [sys.executable, "-m", "yoloship", "serve", str(model), "--port", "0", "--processes", "2"]
    log = model.with_suffix(".log")
    variables = {**os.environ, "TMPDIR": str(model.parent)}
    with log.open("wb") as out, subprocess.Popen(command, stderr=out, env=variables) as server:
        try:
            yield server, until(lambda: (re.findall(r"serve: (\S+)/", log.read_text()) or [""])[0])
        finally:
            server.terminate()
            server.wait(_PATIENCE_S)


def until(found: object) -> str:
    """What a function gives once it gives something."""
    assert callable(found)
    end_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end_s:
        if value := found():
            return str(value)
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def children(server: subprocess.Popen[bytes]) -> list[int]:
    """The processes that serve; what tracks the resources of Python is not one of them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may have ended meanwhile
            parent = (folder / "stat").read_text().rpartition(") ")[2].split()[1]
            if int(parent) == server.pid and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def answered(address: str, requests: int) -> list[int]:
    """The statuses of requests, each on a connection of its own; 0 if it was cut."""

    def status() -> int:
        try:
            return httpx.post(address + PREDICT, content=PHOTO, headers=JPEG, timeout=20).status_code
        except httpx.HTTPError:
            return 0

    return [status() for _ in range(requests)]


def counted(address: str, name: str) -> float:
    """A number of the metrics, all labels together."""
    text = httpx.get(address + "/metrics", timeout=20).text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def is_ready(address: str) -> bool:
    try:
        return httpx.get(address + "/readyz", timeout=20).status_code == 200
    except httpx.HTTPError:
        return False


def test_both_answer_count_together_and_end_together(tmp_path: Path) -> None:
    with two_processes(cat_model(tmp_path)) as (server, address):
        until(lambda: is_ready(address))
        until(lambda: len(children(server)) == 2)
        assert answered(address, 12) == [200] * 12
        assert counted(address, "yoloship_image_seconds_count") == 12
        assert counted(address, "yoloship_model_ready") == 1
        assert counted(address, "yoloship_in_flight") == 0
        own = children(server)
        server.terminate()
        assert server.wait(_PATIENCE_S) == 0
        assert not [pid for pid in own if Path(f"/proc/{pid}").exists()]


def test_one_that_dies_is_started_again(tmp_path: Path) -> None:
    with two_processes(cat_model(tmp_path)) as (server, address):
        until(lambda: is_ready(address))
        first, second = (int(pid) for pid in until(lambda: " ".join(map(str, pair_of(server)))).split())
        os.kill(first, signal.SIGKILL)
        until(lambda: len(now := children(server)) == 2 and first not in now and second in now)
        until(lambda: set(answered(address, 4)) == {200})


def pair_of(server: subprocess.Popen[bytes]) -> list[int]:
    found = children(server)
    return found if len(found) == 2 else []


def test_none_outlives_the_process_that_watches(tmp_path: Path) -> None:
    with two_processes(cat_model(tmp_path)) as (server, address):
        until(lambda: is_ready(address))
        own = pair_of(server)
        assert list(tmp_path.glob("yoloship-metrics-*"))
        server.kill()
        until(lambda: not [pid for pid in own if Path(f"/proc/{pid}").exists()])
        assert not list(tmp_path.glob("yoloship-metrics-*"))


def listening_at(address: str) -> int:
    """Sockets that listen at the port of an address of IPv4."""
    port = f":{int(address.rsplit(':', 1)[1]):04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(port) and line.split()[3] == "0A" for line in lines)


def test_the_first_does_not_listen_before_the_others(tmp_path: Path) -> None:
    with two_processes(cat_model(tmp_path)) as (_, address):
        until(lambda: listening_at(address))
        until(lambda: listening_at(address) == 2)
    family = _Family(settings_of(cat_model(tmp_path)), Listening(), "none", str(tmp_path))
    ends = [multiprocessing.Pipe() for _ in range(3)]
    family._members = [_Member(pipe=ours) for ours, _ in ends]
    theirs = [end for _, end in ends]
    for place, end in enumerate(theirs[:2]):
        end.send(None)
        family._hear(family._members[place])
    assert not any(end.poll() for end in theirs)
    family._members[2].failures = 1  # it could not be started, which keeps the others no longer
    family._let_listen()
    assert [end.poll() for end in theirs] == [True, True, False]
    theirs[2].send(None)
    family._hear(family._members[2])
    assert theirs[2].poll()


def test_a_server_ends_that_waits_for_another_to_load(tmp_path: Path) -> None:
    family = _Family(settings_of(cat_model(tmp_path)), Listening(), "none", str(tmp_path))
    ours, theirs = multiprocessing.Pipe()
    family._members = [_Member(pipe=ours), _Member()]
    theirs.send(None)
    family._hear(family._members[0])
    assert not theirs.poll()
    family._end()
    assert theirs.recv() is None


def test_a_server_ends_that_still_loads(tmp_path: Path) -> None:
    family = _Family(settings_of(cat_model(tmp_path)), Listening(), "none", str(tmp_path))
    ours, theirs = multiprocessing.Pipe()
    family._members = [_Member(pipe=ours)]
    family._end()  # nobody hears any more that it has loaded its models
    assert theirs.recv() is None


def test_those_that_are_loaded_do_not_wait_for_one_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("yoloship.serve.processes._LATE_S", 0.0)
    family = _Family(settings_of(cat_model(tmp_path)), Listening(), "none", str(tmp_path))
    ends = [multiprocessing.Pipe() for _ in range(2)]
    hanging = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    hanging.start()
    woken, wakes = os.pipe()
    try:
        loaded = _Member(pipe=ends[0][0], due_s=time.monotonic() + 600)
        family._members = [loaded, _Member(pipe=ends[1][0], process=hanging)]
        ends[0][1].send(None)
        family._hear(loaded)
        assert not ends[0][1].poll()
        os.write(wakes, b"\0")
        family._watch(woken)
        assert [theirs.poll() for _, theirs in ends] == [True, False]
        assert f"server processes {hanging.pid} have not loaded their models" in caplog.text
        ends[1][1].send(None)  # it was only late
        family._hear(family._members[1])
        assert ends[1][1].poll()
    finally:
        hanging.kill()
        hanging.join()
        os.close(woken)
        os.close(wakes)


def test_one_that_ends_before_it_reads_that_it_may_listen_ends_no_other(tmp_path: Path) -> None:
    family = _Family(settings_of(cat_model(tmp_path)), Listening(), "none", str(tmp_path))
    ours, theirs = multiprocessing.Pipe()
    member = _Member(pipe=ours)
    family._members = [member]
    theirs.send(None)
    family._hear(member)
    theirs.close()
    family._hear(member)  # the system answers ECONNRESET, not the end of the file
    assert member.pipe is None


def test_one_that_does_not_read_cannot_hold_up_the_one_that_watches(tmp_path: Path) -> None:
    family = _Family(settings_of(cat_model(tmp_path)), Listening(), "none", str(tmp_path))
    ours, theirs = multiprocessing.Pipe()
    family._members = [_Member(pipe=ours), _Member(failures=1)]
    theirs.send(None)
    family._hear(family._members[0])
    for _ in range(10):  # another is started again and again
        family._let_listen()
    theirs.recv()
    assert not theirs.poll()


def test_one_that_hangs_does_not_outlive_the_process_that_watches(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    code = (
        "import signal, threading; from multiprocessing.connection import Connection\n"
        "from yoloship.serve.processes import _KILLED_AFTER_S, _obey\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"_obey(Connection({theirs.fileno()}), threading.Event(), threading.Event(), 0.1 - _KILLED_AFTER_S)"
    )
    folder = tmp_path / "metrics"
    folder.mkdir()
    variables = {**os.environ, FOLDER_VARIABLE: str(folder)}
    with subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()], env=variables) as process:
        theirs.close()
        ours.close()
        assert process.wait(_PATIENCE_S) == -signal.SIGKILL
    assert not folder.exists()


def test_a_model_that_cannot_be_loaded_ends_all(tmp_path: Path) -> None:
    model = tmp_path / "cat.onnx"
    model.write_bytes(b"garbage")
    command = [sys.executable, "-m", "yoloship", "serve", str(model), "--port", "0", "--processes", "2"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PATIENCE_S)
    assert done.returncode == 1
    assert "cat.onnx: is a text file" in done.stderr.splitlines()[-1]


def test_what_cannot_be_had_is_said_before_a_process_is_started(tmp_path: Path) -> None:
    settings = settings_of(cat_model(tmp_path))
    with pytest.raises(OutputError, match="cannot be listened on"):
        serve_together(settings, Listening("203.0.113.1", 80), 2, "none", print)
    with pytest.raises(InputError, match="certificate"):
        serve_together(settings, Listening(port=0, certificate=tmp_path / "none.pem"), 2, "none", print)


def test_it_does_not_join_a_server_at_the_same_port(tmp_path: Path) -> None:
    with bound_socket(Listening(port=0, is_shared=True)) as other:
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OutputError, match=f"{port}: cannot be listened on"):
            serve_together(settings_of(cat_model(tmp_path)), Listening(port=port), 2, "none", pytest.fail)


def test_the_limits_are_those_of_all_processes(tmp_path: Path) -> None:
    limits = RequestLimits(max_connections=10, held_body_bytes=90 << 20, queue=7, max_body_bytes=40 << 20)
    share = _share_of(settings_of(cat_model(tmp_path), limits), 3).limits
    assert (share.max_connections, share.queue) == (4, 3)
    assert share.held_body_bytes == 40 << 20  # room for one body at least
