"""What a log says, however it was cut or damaged."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from yoloship.errors import InputError, OutputError
from yoloship.job.log import Contents, Facts, Log, digest, read_log

FACTS = Facts("ab" * 32, {"--conf": 0.25, "--rect": True}, {"--json": "found.json"})


def written(path: Path) -> bytes:
    with Log.open(path) as log:
        log.begin(FACTS, digest("abc"))
        log.add(["a", "b"], 1, {"json": 10})
        log.add(["\udcff c"], 0, {"json": 20})
        log.end()
    return path.read_bytes()


def read(data: bytes) -> Contents:
    return read_log(io.BytesIO(data), "found.resume")


def test_it_says_what_was_written(tmp_path: Path) -> None:
    said = read(written(tmp_path / "log"))
    assert said.facts == FACTS
    assert said.done == ["a", "b", "\udcff c"]
    assert (said.failed, said.marks, said.has_ended, said.order) == (1, {"json": 20}, True, digest("abc"))


def test_a_log_that_was_cut_anywhere_says_what_its_whole_lines_say(tmp_path: Path) -> None:
    data = written(tmp_path / "log")
    ends = [index + 1 for index, byte in enumerate(data) if byte == ord("\n")]
    for length in range(ends[0], len(data) + 1):
        said = read(data[:length])
        assert said.length == max(end for end in ends if end <= length)
        lines = sum(end <= length for end in ends)
        assert said.done == ["a", "b", "\udcff c"][: (0, 0, 0, 2, 3, 3)[lines]]
        assert said.marks == ({}, {}, {}, {"json": 10}, {"json": 20}, {"json": 20})[lines]
        assert said.has_ended == (lines == 5)


def test_a_log_without_its_first_line_is_refused_unless_it_is_empty(tmp_path: Path) -> None:
    data = written(tmp_path / "log")
    assert read(b"").facts is None
    for length in (1, 20, data.index(b"\n")):
        with pytest.raises(InputError, match=r"found\.resume: is not the log of a run"):
            read(data[:length])


@pytest.mark.parametrize("data", [b"{}\n", b"[1]\n", b"\n", b"\xff\xd8\xff\n", b"[" * 100_000 + b"\n", b"null\n"])
def test_another_file_is_not_taken_for_a_log(data: bytes) -> None:
    with pytest.raises(InputError, match="is not the log of a run"):
        read(data)


def test_a_log_of_a_later_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected format 1, got format 2"):
        read(written(tmp_path / "log").replace(b'"yoloship_log":1', b'"yoloship_log":2'))


@pytest.mark.parametrize(
    "line",
    [
        {"done": "a", "failed": 0, "marks": {}},
        {"done": [1], "failed": 0, "marks": {}},
        {"done": ["a"], "failed": -1, "marks": {}},
        {"done": ["a"], "failed": True, "marks": {}},
        {"done": ["a"], "failed": 0, "marks": {"json": 1.5}},
        {"done": ["a"], "failed": 0, "marks": {"json": -1}},
        {"done": ["a"], "failed": 0, "marks": []},
        {"ended": 1},
        {"order": 7},
        7,
    ],
)
def test_nothing_after_a_line_that_a_log_cannot_have_counts(line: Any, tmp_path: Path) -> None:
    first, *rest = written(tmp_path / "log").splitlines(keepends=True)
    said = read(first + json.dumps(line).encode() + b"\n" + b"".join(rest))
    assert (said.done, said.marks, said.length) == ([], {}, len(first))


def test_damage_never_invents_a_frame(tmp_path: Path) -> None:
    data = written(tmp_path / "log")
    start = data.index(b"\n") + 1
    random_ = random.Random(5)
    for _ in range(3000):
        damaged = bytearray(data)
        for _ in range(random_.randint(1, 4)):
            damaged[random_.randrange(start, len(data))] = random_.randrange(256)
        try:
            said = read(bytes(damaged))
        except InputError:
            continue
        assert said.length <= len(damaged)
        assert all(isinstance(name, str) for name in said.done)
        assert all(isinstance(mark, int) and mark >= 0 for mark in said.marks.values())


def test_what_does_not_count_is_cut_off_before_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(written(path) + b'{"done":["d"')
    with Log.open(path) as log:
        log.check(FACTS)
        log.add(["e"], 0, {"json": 30})
    said = read(path.read_bytes())
    assert said.done[3:] == ["e"]
    assert said.length == len(path.read_bytes())
    assert not said.has_ended


def test_two_runs_cannot_have_one_log(tmp_path: Path) -> None:
    with Log.open(tmp_path / "log"), pytest.raises(OutputError, match="is in use by another run; wait for its end"):
        Log.open(tmp_path / "log")


def test_a_log_in_which_nothing_was_written_is_removed(tmp_path: Path) -> None:
    Log.open(tmp_path / "log").close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (Facts("cd" * 32, FACTS.options, FACTS.outputs), "another model: expected SHA-256 abababababab…"),
        (Facts("ab" * 32, {"--rect": True}, FACTS.outputs), "another option: expected --conf 0.25, got no --conf"),
        (Facts("ab" * 32, {"--conf": 0.5, "--rect": True}, FACTS.outputs), "expected --conf 0.25, got --conf 0.5"),
        (Facts("ab" * 32, {"--conf": 0.25}, FACTS.outputs), "expected --rect, got no --rect"),
        (Facts("ab" * 32, FACTS.options, {"--csv": "found.csv"}), "another output: expected no --csv, got --csv found"),
        (Facts("ab" * 32, FACTS.options, {"--json": "b.json"}), "expected --json found.json, got --json b.json"),
    ],
)
def test_another_run_is_refused_by_what_differs(facts: Facts, said: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    before = written(path)
    with Log.open(path) as log, pytest.raises(InputError) as refused:
        log.check(facts)
    assert said in str(refused.value)
    assert str(refused.value).startswith(str(path))
    assert path.read_bytes() == before
