"""Which mark each batch waits for and which it sets, on streams that only write down what they are asked."""

from __future__ import annotations

from typing import Any

import pytest

from yoloship.detect.gpu import turns
from yoloship.detect.gpu.turns import Turns


class Mark:
    def __init__(self, _: object) -> None:
        self.reached = ""

    def __enter__(self) -> Mark:
        return self

    def __exit__(self, *_: object) -> None:
        self.reached = "closed"


class Line:
    """A stream: what is queued on it, and after the end of which batch."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def hold(self, mark: Mark) -> None:
        self.log.append(f"{self.name} waits for {mark.reached or 'nobody'}")

    def record(self, mark: Mark) -> None:
        mark.reached = self.name
        self.log.append(f"{self.name} ends")


@pytest.fixture(autouse=True)
def _marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "Event", Mark)


def queue(found: Turns, names: str) -> list[str]:
    log: list[str] = []
    for name in names:
        line: Any = Line(name, log)
        with found.turn(line):
            log.append(f"{name} runs")
    return log


def test_with_two_abreast_each_batch_waits_for_the_last_but_one() -> None:
    device: Any = None
    log = queue(Turns(device, 2), "abcd")
    assert [line for line in log if "waits" in line] == [
        "a waits for nobody", "b waits for nobody", "c waits for a", "d waits for b",
    ]  # fmt: skip
    assert log[:3] == ["a waits for nobody", "a runs", "a ends"]


def test_without_a_limit_nobody_waits() -> None:
    device: Any = None
    assert queue(Turns(device, 0), "ab") == ["a runs", "b runs"]


def test_a_batch_that_fails_half_way_lets_the_others_pass() -> None:
    device: Any = None
    found, log = Turns(device, 1), list[str]()
    line: Any = Line("a", log)
    with pytest.raises(ValueError, match="half-way"), found.turn(line):
        raise ValueError("half-way")
    assert queue(found, "b") == ["b waits for a", "b runs", "b ends"]
    assert log == ["a waits for nobody", "a ends"]
