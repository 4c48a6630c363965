from __future__ import annotations

from pathlib import Path

import pytest

from yoloship.sources.recognise import recognise

CONTENT = {
    "clip.bin": (b"\0\0\0\x18ftypisom", "video"),
    "clip.ts": (b"\x47" + b"\0" * 187 + b"\x47" + b"\0" * 187 + b"\x47", "video"),
    "clip.avi": (b"RIFF\0\0\0\0AVI LIST", "video"),
    "error.mp4": (b"no such key\n", "video"),
    "bare.h264": (b"\0\0\0\x01\x67\x42\xff", "video"),
    "pictures.dat": (b"PK\x03\x04" + b"\0" * 40, "archive"),
    "pictures.tar.gz": (b"\x1f\x8b\x08\0", "archive"),
    "list.txt": (b"a.jpg\nb.jpg\n", "list"),
    "table.csv": (b"source\na.jpg\n", "csv"),
    "notes.md": (b"a.jpg\n", "images"),
    "photo": (b"\xff\xd8\xff\xe0", "images"),
    "empty.mp4": (b"", "images"),
}


@pytest.mark.parametrize("name", CONTENT)
def test_a_file_is_recognised_by_its_content(name: str, tmp_path: Path) -> None:
    content, kind = CONTENT[name]
    (tmp_path / name).write_bytes(content)
    assert recognise(str(tmp_path / name)) == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-", "stdin"),
        ("0", "live"),
        ("rtsp://camera/1", "live"),
        ("https://example.org/a.jpg", "url"),
        ("http://example.org/a", "url"),
        ("ftp://example.org/a", "images"),  # which refuses it as an address
        ("missing.mp4", "video"),
        ("cams/*.mkv", "video"),
        ("missing.jpg", "images"),
        (".", "images"),
        ("a\0b", "images"),
    ],
)
def test_a_text_that_is_not_a_file_is_recognised_by_its_form(text: str, kind: str) -> None:
    assert recognise(text) == kind


def test_a_file_with_the_name_of_a_camera_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("0").write_bytes(b"\xff\xd8\xff\xe0")
    assert recognise("0") == "images"
