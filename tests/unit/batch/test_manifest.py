"""What a batch says of itself, read back, also from files that somebody changed."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from yoloship.batch.folder import LocalFolder
from yoloship.batch.manifest import (
    IMAGES,
    NAME,
    Manifest,
    begin,
    check_same,
    read_manifest,
    read_names,
    unlike,
)
from yoloship.batch.parts import Counts, Parts
from yoloship.errors import InputError
from yoloship.job.log import Facts

NAMES = ["a.jpg", "b\n.jpg", "c\udc80.jpg", "s3://b/é.jpg"]


def manifest(**changes: Any) -> Manifest:
    made = Manifest.of("best.pt", Facts("0" * 64, {"--conf": 0.4}, {}), Parts(len(NAMES), 2, "parquet"), NAMES)
    return replace(made, **changes)


def begun(tmp_path: Path) -> LocalFolder:
    folder = LocalFolder(tmp_path)
    begin(folder, manifest(), NAMES)
    return folder


def test_what_was_written_is_read_back_with_names_of_any_bytes(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    read = read_manifest(folder)
    assert read is not None
    assert read.to_json() == (tmp_path / NAME).read_bytes()
    assert read_names(folder, read) == NAMES
    done = read.finished(Counts(4, 1, {"cat": 3}))
    again = Manifest.from_json(done.to_json(), "x")
    assert again.ended
    assert json.loads(done.to_json())["objects"] == {"cat": 3}


def test_an_empty_folder_has_none_and_a_strange_one_is_refused(tmp_path: Path) -> None:
    assert read_manifest(LocalFolder(tmp_path / "new")) is None
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"is not empty, and not the folder of a batch: got notes\.txt; give a new"):
        read_manifest(LocalFolder(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"yoloship_batch": 2},
        {"images": True},
        {"images": 0},
        {"part_images": 10**9},
        {"part_images": -1},
        {"format": "csv"},
        {"format": []},
        {"options": []},
        {"model_sha256": None},
        {"begun": 3},
    ],
)
def test_a_changed_manifest_is_refused(change: dict[str, Any]) -> None:
    data = json.loads(manifest().to_json()) | change
    with pytest.raises(InputError, match=r"not the manifest of a batch, or is damaged|another version"):
        Manifest.from_json(json.dumps(data).encode(), "x")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe", b"null"])
def test_what_is_not_a_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="not the manifest of a batch"):
        Manifest.from_json(data, "x")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "damaged|changed or removed"),
        (b"\x1f\x8b", "damaged"),
        (gzip.compress(b'"a"\n', mtime=0), "changed or removed since the batch was started: expected 4 names, got 1"),
        (gzip.compress(b"3\n", mtime=0), "damaged"),
        (gzip.compress(b"{\n", mtime=0), "damaged"),
        (gzip.compress(b'"\\ud800"\n' * 4, mtime=0), "damaged"),
        (gzip.compress(b'"a"\n', mtime=0)[:-4], "damaged"),
    ],
)
def test_a_changed_list_of_images_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    folder = begun(tmp_path)
    (tmp_path / IMAGES).write_bytes(data)
    with pytest.raises(InputError, match=words):
        read_names(folder, manifest())
    (tmp_path / IMAGES).unlink()
    with pytest.raises(InputError, match="changed or removed"):
        read_names(folder, manifest())


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (manifest(facts=Facts("1" * 64, {"--conf": 0.4}, {})), "another model: expected SHA-256 000000000000"),
        (
            manifest(facts=Facts("0" * 64, {}, {})),
            "another option: expected --conf 0.4, got no --conf; give the same command, or another folder",
        ),
        (manifest(parts=Parts(4, 2, "jsonl")), "another format: expected --format parquet, got jsonl"),
        (manifest(facts=Facts("0" * 64, {"--conf": 0.4}, {}, "0.1")), "another version of yoloship"),
    ],
)
def test_another_model_option_format_or_version_is_refused_by_name(tmp_path: Path, other: Manifest, words: str) -> None:
    folder = begun(tmp_path)
    check_same(manifest(), manifest(), folder)
    before, now = (other, manifest()) if "version" in words else (manifest(), other)
    with pytest.raises(InputError, match=words):
        check_same(before, now, folder)


def test_files_that_are_not_of_the_batch_are_found(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    for name in ("part-00001.parquet", "part-00002.parquet", ".0123456789ab.part"):
        (tmp_path / name).write_bytes(b"")
    assert unlike(folder, manifest().parts) == ({1}, ["part-00002.parquet"])
