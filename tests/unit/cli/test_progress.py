from __future__ import annotations

import io
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING

import pytest

from helpers.terminals import Clock, Terminal
from yoloship.cli.progress import PIPE_S, TERMINAL_S, progress

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("yoloship.cli.progress.time.monotonic", clock)
    return clock


@contextmanager
def into(stream: io.StringIO) -> Iterator[io.StringIO]:
    with redirect_stderr(stream):
        yield stream


def test_a_pipe_gets_a_line_every_few_seconds(clock: Clock) -> None:
    with into(io.StringIO()) as pipe, progress(in_pipes=True) as show:
        assert show is not None
        for step in range(100):
            clock.now += PIPE_S / 10
            show("calibrating", step, 100)
    lines = pipe.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "calibrating 9/100 0:05"
    assert lines[-1] == "calibrating 99/100 0:50"


def test_a_short_job_says_nothing_in_a_pipe(clock: Clock) -> None:
    with into(io.StringIO()) as pipe, progress(in_pipes=True) as show:
        clock.now += PIPE_S - 0.001
        assert show is not None
        show("building", 0.5, 1)
    assert pipe.getvalue() == ""


def test_nothing_is_shown_in_a_pipe_where_nobody_asked_for_it() -> None:
    with into(io.StringIO()) as pipe, progress() as show:
        assert show is None
    assert pipe.getvalue() == ""


def test_a_terminal_gets_one_line_that_is_gone_at_the_end(clock: Clock) -> None:
    with into(Terminal()) as stream, progress(in_pipes=True) as show:
        assert show is not None
        show("building", 0.0, 1)
        clock.now += TERMINAL_S / 2
        show("building", 0.1, 1)  # too soon
        clock.now += TERMINAL_S
        show("building", 0.5, 1)
    text = stream.getvalue()
    assert "\n" not in text
    assert "50 %" in text
    assert "10 %" not in text
    assert text.endswith("\r")


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


class BrokenTerminal(Broken):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Broken(), BrokenTerminal()])
def test_a_reader_of_progress_that_has_gone_does_not_end_the_work(clock: Clock, stream: io.StringIO) -> None:
    with into(stream), progress(in_pipes=True) as show:
        assert show is not None
        for step in range(3):
            clock.now += PIPE_S
            show("building", step, 3)
