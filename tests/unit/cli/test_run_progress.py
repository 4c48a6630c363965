"""The progress of a run: what people and programs can know while it goes on."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from helpers.terminals import Clock, Terminal
from yoloship.cli.progress import PIPE_S, TERMINAL_S
from yoloship.cli.run_progress import JSON_S, Pace, run_progress
from yoloship.job.run import Tally
from yoloship.sinks import Entry
from yoloship.sources import Frame, Stream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("yoloship.cli.run_progress.time.monotonic", clock)
    return clock


def ran(stream: io.StringIO, clock: Clock, step_s: float, *, total: int | None = 8, as_json: bool = False) -> str:
    """Run over eight images, and return everything that was shown."""
    tally = Tally()
    with redirect_stderr(stream), run_progress(Pace(tally, total), as_json=as_json) as shown:
        for index in range(8):
            clock.now += step_s
            tally.seen += 1
            tally.failures += index == 3
            tally.objects["汽车"] = tally.objects.get("汽车", 0) + 2
            tally.objects["cat\x1b[2J"] = 1
            shown.write(Entry(f"{index}.jpg", None, index=index))
    return stream.getvalue()


def test_a_pipe_gets_a_line_every_few_seconds(clock: Clock) -> None:
    lines = ran(io.StringIO(), clock, PIPE_S / 2).splitlines()
    assert lines[0] == r"predicting 2/8, 0.4/s, 0:15 left, 4 汽车, 1 cat\x1b[2J"
    assert lines[1] == r"predicting 4/8, 0.4/s, 0:10 left, 1 failed, 8 汽车, 1 cat\x1b[2J"
    assert len(lines) == 4


def test_a_short_run_says_nothing_in_a_pipe(clock: Clock) -> None:
    assert ran(io.StringIO(), clock, PIPE_S / 9) == ""


def test_a_run_without_a_known_end_says_how_long_it_has_run(clock: Clock) -> None:
    lines = ran(io.StringIO(), clock, PIPE_S, total=None).splitlines()
    assert lines[1].startswith("predicting 2 images, 0.2/s, 0:10, 4 汽车")


def test_a_terminal_gets_one_line_that_fits_and_is_gone_at_the_end(clock: Clock) -> None:
    text = ran(Terminal(), clock, TERMINAL_S * 2)
    assert "\n" not in text
    assert "\x1b" not in text
    frames = text.split("\r")
    assert "[############------------] 4/8  5.0/s  0:00 left  1 failed  8 汽车, 1 cat" in frames[4]
    assert frames[-2].strip() == frames[-1] == ""
    assert max(map(len, frames)) < 80


def test_programs_get_an_object_every_second_and_one_at_the_end(clock: Clock) -> None:
    lines = ran(io.StringIO(), clock, JSON_S / 2, as_json=True).splitlines()
    records = [json.loads(line)["progress"] for line in lines]
    assert records[0] == {
        "done": 2, "total": 8, "failed": 0, "seconds": 1.0, "per_second": 2.0, "left_s": 3.0,
        "objects": {"汽车": 4, "cat\x1b[2J": 1},
    }  # fmt: skip
    assert [record["done"] for record in records] == [2, 4, 6, 8, 8]
    assert ["ended" in record for record in records] == [False, False, False, False, True]


def test_the_rate_is_that_of_the_last_half_minute(clock: Clock) -> None:
    tally = Tally()
    pace = Pace(tally, 10_000)
    for step in range(200):
        clock.now += 1
        tally.seen += 1 if step < 100 else 20
        rate = pace.rate()
    assert rate == pytest.approx(20, rel=0.01)
    left_s = pace.left_s(rate)
    assert left_s is not None
    assert left_s == pytest.approx((10_000 - tally.seen) / 20, rel=0.01)


def test_the_video_and_its_time_are_shown(clock: Clock) -> None:
    stream = Stream("cams/a.mp4", Path("cams/a.mp4"))
    frame = Frame(5, "cams/a.mp4#5", None, time_s=75.2, stream=stream)
    tally, entry = Tally(seen=1), Entry("cams/a.mp4#5", None, frame=frame)
    pace = Pace(tally, None)
    clock.now += PIPE_S
    assert "a.mp4 1:15" in pace.facts(entry)
    with redirect_stderr(io.StringIO()) as said, run_progress(pace, as_json=True) as shown:
        clock.now += JSON_S
        shown.write(entry)
    record = json.loads(said.getvalue().splitlines()[0])["progress"]
    assert (record["stream"], record["time_s"]) == ("cams/a.mp4", 75.2)


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


class BrokenTerminal(Broken):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Broken(), BrokenTerminal()])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_reader_of_progress_that_has_gone_does_not_end_the_run(
    clock: Clock, stream: io.StringIO, as_json: bool
) -> None:
    assert ran(stream, clock, PIPE_S, as_json=as_json) == ""
