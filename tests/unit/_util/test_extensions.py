"""Tables of what can be added to, with entries of ours and of third parties."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import pytest

from yoloship._util.extensions import Extensions
from yoloship.errors import DependencyError, InputError

if TYPE_CHECKING:
    from pathlib import Path

TABLE: Extensions[object] = Extensions("shape", "yoloship.test_shapes", {"path": "pathlib:PurePath"})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that adds to the table, on the path as pip would install it."""
    info = tmp_path / "their_shapes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-shapes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[yoloship.test_shapes]\nround = their_shapes:Round\nbroken = their_shapes:Missing\n"
        "path = their_shapes:Round\ngone = no_such_module:Thing\n"
    )
    (tmp_path / "their_shapes.py").write_text("class Round:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_shapes", raising=False)
    return tmp_path


def test_the_table_is_read_only_and_imports_a_class_when_it_is_asked_for() -> None:
    assert dict(TABLE) == {"path": "pathlib:PurePath"}
    assert len(TABLE) == 1
    assert not hasattr(TABLE, "__setitem__")
    import pathlib

    assert TABLE.load("path") is pathlib.PurePath


def test_a_third_party_adds_by_an_entry_point(installed: Path) -> None:
    loaded = TABLE.load("round")
    assert (loaded.__module__, loaded.__name__) == ("their_shapes", "Round")
    assert list(TABLE) == ["path"], "the table itself lists what is ours"


def test_nobody_replaces_an_entry_of_ours(installed: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "yoloship"):
        assert sorted(TABLE.third_party()) == ["broken", "gone", "round"]
    assert "'path' of 'their_shapes:Round' is left out" in caplog.text
    assert TABLE.load("path").__module__.startswith("pathlib")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "their_shapes:Missing: the shape 'broken' cannot be loaded: AttributeError: "),
        ("gone", "no_such_module:Thing: the shape 'gone' cannot be loaded: ModuleNotFoundError: "),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_line(installed: Path, name: str, words: str) -> None:
    with pytest.raises(DependencyError) as caught:
        TABLE.load(name)
    assert str(caught.value).startswith(words)
    assert str(caught.value).endswith("; update or remove the package that brings it")


def test_an_unknown_name_is_refused_with_the_known_ones(installed: Path) -> None:
    with pytest.raises(InputError, match="oval: there is no shape of this name: expected path, round, broken, gone"):
        TABLE.load("oval")
