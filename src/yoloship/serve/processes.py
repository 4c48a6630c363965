"""Several server processes at one port, for a GPU that is faster than the one thread that answers: `serve_together`.

Each process is a whole server with its own copy of the models. Linux shares new connections out among them. The process
that started them only watches: one that dies is started again, and all end together. Their metrics lie in files of a
folder, where each of them finds those of all.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.multiprocess import mark_process_dead

from yoloship.errors import InputError, SessionError, YoloshipError
from yoloship.serve.listening import Listening, address_of, bound_socket, check_tls, on_signals, serve
from yoloship.serve.logs import LogForm, begin_log
from yoloship.serve.metrics import FOLDER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

    from yoloship.serve.settings import ServeSettings

_HEALTHY_S: Final = 30.0
"""A process that lived for this long did not fail at its start."""
_FIRST_DELAY_S: Final = 0.5
_MAX_DELAY_S: Final = 10.0
_LATE_S: Final = 60.0
"""Processes that have loaded their models wait for so long for the others."""
_KILLED_AFTER_S: Final = 5.0
"""A process has this much time to end beyond that for its requests."""

_logger = logging.getLogger("yoloship.serve")


def serve_together(
    settings: ServeSettings, listening: Listening, count: int, log: LogForm, started: Callable[[str], None]
) -> None:
    """Serve with several processes until SIGTERM or SIGINT; each finishes the requests under way.

    They take connections once the models of all are loaded: those that were made before would all be the first one's.
    They do not wait for a process that has ended, nor for longer than a minute. A process that is started again, or is
    late, takes connections when its own models are loaded.

    Args:
        settings: What to serve. The limits of connections, of bodies and of the queue are those of all processes.
        listening: Where; port 0 takes a free one.
        count: How many processes.
        log: The form of their log lines.
        started: Called with the address; models are still being loaded.

    Raises:
        InputError: this is not Linux, or the files for TLS cannot be used.
        OutputError: the address cannot be listened on.
        SessionError: processes die as soon as they are started.
        YoloshipError: a model cannot be loaded.
    """
    if not sys.platform.startswith("linux"):
        raise InputError("several processes at one port need Linux", subject="--processes", hint="leave it out")
    check_tls(listening)
    if listening.port:
        bound_socket(listening).close()  # shared, it would join the server of somebody else at this port, in silence
    with ExitStack() as stack:
        held = stack.enter_context(bound_socket(replace(listening, is_shared=True)))  # keeps the port for all
        shared = replace(listening, port=held.getsockname()[1], is_shared=True)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="yoloship-metrics-"))
        os.environ[FOLDER_VARIABLE] = folder  # the processes that are started have it too
        stack.callback(os.environ.pop, FOLDER_VARIABLE)
        started(address_of(shared, held))
        _Family(_share_of(settings, count), shared, log, folder).run(count)


def _share_of(settings: ServeSettings, count: int) -> ServeSettings:
    """What one of so many processes may take."""
    limits = settings.limits
    return replace(
        settings,
        limits=replace(
            limits,
            max_connections=-(-limits.max_connections // count),
            held_body_bytes=max(limits.held_body_bytes // count, limits.max_body_bytes),
            queue=None if limits.queue is None else -(-limits.queue // count),
        ),
    )


@dataclass(slots=True, eq=False)
class _Member:
    """A place among the processes.

    Attributes:
        process: The process; None while it waits to be started again.
        pipe: Messages of the process. When this end of it closes, the process ends.
        born_s: When it was started.
        is_loaded: Whether its models are loaded.
        may_listen: Whether it was told that it may listen.
        failures: How many times in a row it died young.
        due_s: When it is started again.
    """

    process: BaseProcess | None = None
    pipe: Connection | None = None
    born_s: float = 0.0
    is_loaded: bool = False
    may_listen: bool = False
    failures: int = 0
    due_s: float = 0.0


@dataclass(eq=False)
class _Family:
    """The processes, and what to do about their ends.

    Attributes:
        settings: What each of them serves.
        listening: Where all of them listen.
        log: The form of their log lines.
        folder: Where their metrics lie.
    """

    settings: ServeSettings
    listening: Listening
    log: LogForm
    folder: str
    _members: list[_Member] = field(default_factory=list)
    _error: YoloshipError | None = None
    _has_worked: bool = False
    _late_s: float | None = None
    """When those that are loaded listen without the others; None if none is loaded, or they listen already."""

    def run(self, count: int) -> None:
        """Start them, and keep them running until a signal."""
        woken, wakes = os.pipe()
        try:
            with on_signals(lambda *_: os.write(wakes, b"\0")):
                self._members = [_Member() for _ in range(count)]
                try:
                    self._watch(woken)
                finally:
                    self._end()
        finally:
            os.close(woken)
            os.close(wakes)
        if self._error is not None:
            raise self._error

    def _watch(self, woken: int) -> None:
        while self._error is None:
            now_s = time.monotonic()
            for member in self._members:
                if member.process is None and member.due_s <= now_s:
                    self._start(member)
            if self._late_s is not None and self._late_s <= now_s:
                self._listen_without_the_late()
            dues_s = [member.due_s for member in self._members if member.process is None]
            due_s = min(dues_s if self._late_s is None else [*dues_s, self._late_s], default=None)
            pipes: list[Any] = [member.pipe for member in self._members if member.pipe is not None]
            sentinels: list[Any] = [member.process.sentinel for member in self._members if member.process is not None]
            ready = wait([woken, *pipes, *sentinels], None if due_s is None else max(due_s - now_s, 0))
            if woken in ready:
                return
            for member in self._members:
                if member.pipe in ready:
                    self._hear(member)
                if member.process is not None and member.process.exitcode is not None:
                    self._bury(member)

    def _start(self, member: _Member) -> None:
        context = multiprocessing.get_context("spawn")
        member.pipe, theirs = context.Pipe()
        member.process = context.Process(
            target=_serve_one, args=(self.settings, self.listening, self.log, theirs), name="yoloship-serve"
        )
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a process that begins has no use for it
        try:
            member.process.start()
        finally:
            signal.signal(signal.SIGINT, before)
            theirs.close()
        member.born_s = time.monotonic()

    def _hear(self, member: _Member) -> None:
        assert member.pipe is not None
        try:
            message = member.pipe.recv()
        except (EOFError, OSError):  # the latter if it has ended before it read what it was told
            member.pipe.close()
            member.pipe = None
            return
        if message is None:
            if not self._has_worked:
                self._late_s = time.monotonic() + _LATE_S
            self._has_worked = member.is_loaded = True
            self._let_listen()
        elif not self._has_worked:
            self._error = message
        else:
            _logger.error("a server process ended: %s", message)

    def _bury(self, member: _Member) -> None:
        """Say that a process ended, and have it started again."""
        process = member.process
        assert process is not None
        if member.pipe is not None and member.pipe.poll():
            self._hear(member)
        self._forget(member)
        lived_s = time.monotonic() - member.born_s
        member.failures = 1 if lived_s > _HEALTHY_S else member.failures + 1
        if self._error is not None:
            return
        if not self._has_worked and member.failures > 2:
            self._error = SessionError(
                f"server processes end as soon as they are started ({_how_ended(process)})",
                hint="see their lines above",
            )
            return
        delay_s = min(_MAX_DELAY_S, _FIRST_DELAY_S * 2 ** (member.failures - 1))
        member.due_s = time.monotonic() + delay_s
        _logger.error(
            "server process %s ended (%s); another is started in %.1f s", process.pid, _how_ended(process), delay_s
        )
        self._let_listen()

    def _let_listen(self) -> None:
        """Let those listen that have loaded their models, unless they still wait for one that has not failed before."""
        if all(member.is_loaded or member.failures for member in self._members):
            self._late_s = None
        if self._has_worked and self._late_s is None:
            for member in self._members:
                if member.is_loaded:
                    _tell(member)

    def _listen_without_the_late(self) -> None:
        late = [member.process.pid for member in self._members if member.process is not None and not member.is_loaded]
        _logger.warning(
            "server processes %s have not loaded their models %.0f s after the first; the others listen without them",
            ", ".join(map(str, late)), _LATE_S,
        )  # fmt: skip
        self._late_s = None
        self._let_listen()

    def _end(self) -> None:
        """End all: they finish their requests, and are killed if that takes too long."""
        for member in self._members:  # also those that still load: they end after that
            _tell(member)
        living = [member.process for member in self._members if member.process is not None]
        for process in living:
            process.terminate()
        until_s = time.monotonic() + self.listening.drain_s + _KILLED_AFTER_S
        for process in living:
            process.join(max(until_s - time.monotonic(), 0))
            if process.exitcode is None:
                _logger.error("server process %s does not end, and is killed", process.pid)
                process.kill()
                process.join()
        for member in self._members:
            self._forget(member)

    def _forget(self, member: _Member) -> None:
        if member.process is not None and member.process.pid is not None:
            mark_process_dead(member.process.pid, self.folder)  # type: ignore[no-untyped-call]  # it has no types
        if member.pipe is not None:
            member.pipe.close()
        member.process = member.pipe = None
        member.is_loaded = member.may_listen = False


def _tell(member: _Member) -> None:
    """Tell a process, once, that it may listen as soon as its models are loaded."""
    if member.pipe is not None and not member.may_listen:
        member.may_listen = True
        with suppress(OSError):  # it has just ended
            member.pipe.send(None)


def _serve_one(settings: ServeSettings, listening: Listening, log: LogForm, pipe: Connection) -> None:
    """One process: serve, and tell the one that watches when the models are loaded, or why they are not."""
    begin_log(log)
    alone, may_listen = threading.Event(), threading.Event()
    threading.Thread(target=_obey, args=(pipe, alone, may_listen, listening.drain_s), daemon=True).start()

    def wait_for_others() -> None:
        pipe.send(None)
        may_listen.wait()

    try:
        serve(settings, listening, lambda _: None, ready=wait_for_others)
    except YoloshipError as error:
        pipe.send(error)
        sys.exit(1)
    finally:
        if alone.is_set():
            shutil.rmtree(os.environ[FOLDER_VARIABLE], ignore_errors=True)


def _obey(pipe: Connection, alone: threading.Event, may_listen: threading.Event, drain_s: float) -> None:
    """Let this process listen when the one that watches says so, and end it when that one is gone, as that would."""
    with suppress(EOFError, OSError):
        while True:
            pipe.recv()
            may_listen.set()
    alone.set()
    may_listen.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(drain_s + _KILLED_AFTER_S)
    shutil.rmtree(os.environ[FOLDER_VARIABLE], ignore_errors=True)
    os.kill(os.getpid(), signal.SIGKILL)


def _how_ended(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
