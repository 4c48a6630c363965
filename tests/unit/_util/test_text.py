from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from yoloship._util.text import MAX_ENTRIES, counted, shortened, similar_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("image",), "0 images"),
        (1, ("image",), "1 image"),
        (2, ("box", "boxes"), "2 boxes"),
        (1, ("box", "boxes"), "1 box"),
    ],
)
def test_a_noun_goes_with_its_number(count: int, words: tuple[str, ...], text: str) -> None:
    assert counted(count, *words) == text


def test_a_long_text_ends_in_an_ellipsis_within_its_limit() -> None:
    assert shortened("a" * 60) == "a" * 60
    assert shortened("a" * 61) == "a" * 57 + "..."
    assert shortened("abcdef", 5) == "ab..."


def test_the_file_that_was_probably_meant_is_named(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"")
    assert similar_file(tmp_path / "bst.pt") == str(tmp_path / "best.pt")
    assert similar_file(tmp_path / "something else") is None
    assert similar_file(tmp_path / "none" / "best.pt") is None
    (tmp_path / "link.pt").symlink_to(tmp_path / "gone.pt")
    assert similar_file(tmp_path / "link.pt") is None


def test_only_so_many_names_of_a_folder_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship._util.text.MAX_ENTRIES", 0)
    (tmp_path / "best.pt").write_bytes(b"")
    assert MAX_ENTRIES > 0
    assert similar_file(tmp_path / "bst.pt") is None
