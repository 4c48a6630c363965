"""API keys: read from a file, compared as digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from yoloship.errors import InputError
from yoloship.serve.keys import ApiKeys

if TYPE_CHECKING:
    from pathlib import Path


def test_each_line_is_a_key_but_comments_and_empty_ones(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text("# ours\n0123456789abcdef\n\n  fedcba9876543210  \n")
    keys = ApiKeys.read(path)
    assert keys.accept("0123456789abcdef")
    assert keys.accept("fedcba9876543210")
    assert not keys.accept("# ours")
    assert not keys.accept("0123456789abcdeF")
    assert not keys.accept("\udcff")
    assert not keys.accept("")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("short", "line 1 is not an API key: expected at least 16"),
        ("# a\n0123456789abcde f", "line 2 is not an API key"),
        ("0123456789abcdéf", "line 1 is not an API key"),
        ("# only a comment", "expected 1 to 1000, got 0"),
        ("0123456789abcdef\n" * 1001, "got 1001"),
    ],
)
def test_a_file_that_would_not_protect_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        ApiKeys.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"keys\.txt"):
        ApiKeys.read(tmp_path / "keys.txt")
