"""Files that one run begins and another continues: nothing twice, nothing lost, and nobody else's file replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from yoloship.errors import OutputError
from yoloship.sinks.text_target import ResumedFile

OPENING, CLOSING = b"[", b"]\n"


def at(path: Path, mark: int = 0) -> ResumedFile:
    return ResumedFile.at(path, mark, OPENING, CLOSING)


def test_a_file_is_whole_after_every_record_and_has_its_name_at_the_end(tmp_path: Path) -> None:
    path, part = tmp_path / "found.json", tmp_path / "found.json.part"
    file = at(path)
    file.append(b"1", CLOSING)
    assert part.read_bytes() == b"[1]\n"
    assert file.flush() == 2
    assert file.finish(CLOSING, keep=True)
    assert (path.read_bytes(), part.exists()) == (b"[1]\n", False)


def test_what_was_written_after_the_mark_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    file = at(path)
    file.append(b"1", CLOSING)
    mark = file.flush()
    file.append(b",2 is not in the log", CLOSING)
    assert not file.abort(CLOSING, keep=True)
    assert not path.exists()
    file = at(path, mark)
    file.append(b",2", CLOSING)
    file.finish(CLOSING, keep=True)
    assert path.read_bytes() == b"[1,2]\n"


def test_a_finished_file_is_continued_in_a_copy_and_stays_until_that_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    file = at(path)
    file.append(b"1", CLOSING)
    mark = file.flush()
    file.finish(CLOSING, keep=True)
    file = at(path, mark)
    file.append(b",2", CLOSING)
    assert path.read_bytes() == b"[1]\n"
    file.finish(CLOSING, keep=True)
    assert path.read_bytes() == b"[1,2]\n"


@pytest.mark.parametrize("copied", [0, 1])
def test_a_copy_that_was_not_finished_is_made_again(tmp_path: Path, copied: int) -> None:
    path = tmp_path / "found.json"
    path.write_bytes(b"[1]\n")
    (tmp_path / "found.json.part").write_bytes(b"["[:copied])
    file = at(path, 2)
    file.append(b",2", CLOSING)
    file.finish(CLOSING, keep=True)
    assert path.read_bytes() == b"[1,2]\n"


def test_a_file_that_was_cut_short_meanwhile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_bytes(b"[")
    with pytest.raises(OutputError, match=r"found\.json: was changed or removed .* expected at least 9 bytes, got 1"):
        at(path, 9)
    assert path.read_bytes() == b"["


def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_bytes(b"theirs")
    with pytest.raises(OutputError, match="already exists"):
        at(path)
    assert path.read_bytes() == b"theirs"


def test_a_file_that_another_run_writes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    file = at(path)
    with pytest.raises(OutputError, match="is in use by another run"):
        at(path)
    file.abort(CLOSING, keep=False)
    at(path).abort(CLOSING, keep=False)
