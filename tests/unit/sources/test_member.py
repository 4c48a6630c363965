"""Names of archives' entries, made harmless."""

from __future__ import annotations

import pytest

from yoloship.sources.member import safe_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("b/c.jpg", "b/c.jpg"),
        ("../../b/./c.jpg", "b/c.jpg"),
        ("b/../c.jpg", "b/c.jpg"),
        ("/etc/c.jpg", "etc/c.jpg"),
        (r"C:\b\c.jpg", "b/c.jpg"),
        (r"..\c.jpg", "c.jpg"),
        ("//host/c.jpg", "host/c.jpg"),
        ("c.jpg\0.txt", "c.jpg"),
        ("..", ""),
        ("", ""),
        ("日本/é.jpg", "日本/é.jpg"),
        ("...", "..."),
    ],
)
def test_a_path_has_no_root_and_leads_nowhere_else(name: str, expected: str) -> None:
    assert safe_path(name) == expected
