"""The folder of a sink: made when it is needed, and written by one run at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from yoloship.errors import OutputError
from yoloship.sinks import Entry
from yoloship.sinks.folder import OutputFolder, stem_for

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_made_for_its_first_file(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "a" / "b", "labels", ["x.txt", "y.txt"])
    assert not folder.path.exists()
    assert folder.file(Entry("in/y.jpg", None, index=1), ".txt") == folder.path / "y.txt"
    assert folder.path.is_dir()
    folder.close()
    folder.close()
    assert list(folder.path.iterdir()) == []


def test_a_file_has_the_stem_of_its_entry_or_its_place_in_the_run(tmp_path: Path) -> None:
    assert stem_for(Entry("a", None, stem="clip_17")) == "clip_17"
    assert stem_for(Entry("a", None, index=6)) == "000007"


def test_two_runs_share_it_only_for_different_kinds_of_files(tmp_path: Path) -> None:
    first, other, same = (OutputFolder(tmp_path, kind) for kind in ("labels", "crops", "labels"))
    first.ready()
    other.ready()
    with pytest.raises(OutputError, match="is in use by another run; wait for its end"):
        same.ready()
    first.close()
    same.ready()
    same.close()
    other.close()


def test_a_protected_file_is_refused_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(tmp_path / "in.png")
    (tmp_path / "other.png").write_bytes(b"x")
    folder = OutputFolder(tmp_path, "images")
    folder.protect([tmp_path / "gone.png", tmp_path / "in.png"])
    for name in ("in.png", "link.png"):
        with pytest.raises(OutputError, match=f"{name}: would replace an input; give another folder"):
            folder.checked(tmp_path / name)
    for name in ("gone.png", "other.png"):
        assert folder.checked(tmp_path / name) == tmp_path / name
