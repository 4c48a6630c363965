from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from yoloship._util.writing import free_name, fresh_folder, made_folder
from yoloship.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_fresh_folder_is_made_and_has_a_name_of_its_own(tmp_path: Path) -> None:
    folders = [fresh_folder(tmp_path / "runs", "detect") for _ in range(3)]
    assert [folder.name for folder in folders] == ["detect", "detect-2", "detect-3"]
    assert all(folder.is_dir() for folder in folders)


def test_runs_that_start_together_get_different_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: fresh_folder(tmp_path, "detect"), range(40)))
    assert len(set(folders)) == 40


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="below: folder cannot be created: Not a directory"):
        made_folder(tmp_path / "file" / "below")
    with pytest.raises(OutputError, match="folder cannot be created: File exists"):
        fresh_folder(tmp_path / "file", "detect")


def test_a_free_name_is_the_next_that_no_file_has() -> None:
    taken: dict[str, int] = {}
    names = [free_name(stem, ".txt", taken) for stem in ("a", "A", "a", "a-2", "b")]
    assert names == ["a.txt", "A-2.txt", "a-3.txt", "a-2-2.txt", "b.txt"]
