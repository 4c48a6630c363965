"""A lock on a folder, which ends with its process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from yoloship._util.folder_lock import FolderLock
from yoloship.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from yoloship._util.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), "labels")
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_is_refused_until_it_ends_even_by_a_kill(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=r"is in use by another run; wait for its end"):
            FolderLock(tmp_path, "labels")
        other.kill()
        other.wait()
    with FolderLock(tmp_path, "labels"):
        assert [path.name for path in tmp_path.iterdir()] == [".yoloship-labels.lock"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written: No such file or directory"):
        FolderLock(tmp_path / "no", "labels")
