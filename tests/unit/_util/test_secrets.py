from __future__ import annotations

import pytest

from yoloship._util.secrets import without_secrets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:secret@host/a.jpg", "https://host/a.jpg"),
        ("https://host/a.jpg?pwd=abc&size=2", "https://host/a.jpg?pwd=***&size=2"),
        ("https://host/a?X-Amz-Signature=0a1b&X-Amz-Date=2026", "https://host/a?X-Amz-Signature=***&X-Amz-Date=2026"),
        ("rtsp://host/user=me_password=abc_channel=1", "rtsp://host/user=***_password=***_channel=1"),
        ("no address at all: 3 of 5", "no address at all: 3 of 5"),
    ],
)
def test_what_is_secret_by_its_place_or_its_name_is_not_shown(text: str, expected: str) -> None:
    assert without_secrets(text) == expected
