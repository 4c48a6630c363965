"""Which batch goes on in a folder, and the proof at its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from yoloship.batch.folder import LocalFolder
from yoloship.batch.manifest import NAME, Manifest, read_manifest
from yoloship.batch.parts import Counts, Parts, part_bytes
from yoloship.batch.running import Batch, open_batch, parts_left, start
from yoloship.errors import ImageError, InputError, OutputError
from yoloship.job.log import Facts
from yoloship.sinks.sink import Entry

NAMES = [f"{index}.jpg" for index in range(5)]
WANTED = Manifest.of("best.pt", Facts("0" * 64, {}, {}), Parts(5, 2, "jsonl"), NAMES)


def write(folder: Path, number: int, images: int) -> None:
    entries = [Entry("x", None, ImageError("is broken"), index=0)] * images
    (folder / WANTED.parts.name(number)).write_bytes(part_bytes(entries, Counts(), "jsonl"))


def opened(tmp_path: Path, names: list[str] = NAMES, *, resume: bool = True, said: list[str] | None = None) -> Batch:
    return open_batch(LocalFolder(tmp_path), WANTED, names, resume=resume, say=(said or []).append)


def test_what_is_missing_is_left_and_what_is_there_is_counted(tmp_path: Path) -> None:
    start(opened(tmp_path))
    write(tmp_path, 1, 2)
    batch = opened(tmp_path)
    assert [(part.number, list(part.names)) for part in parts_left(batch)] == [
        (0, ["0.jpg", "1.jpg"]),
        (2, ["4.jpg"]),
    ]
    assert batch.counts_before() == Counts(2, 2, {})
    with pytest.raises(OutputError, match=r"2 of 3 parts are missing, such as part-00000\.jsonl"):
        batch.finish(Counts(5))
    write(tmp_path, 0, 2)
    write(tmp_path, 2, 1)
    with pytest.raises(OutputError, match="expected 5 images, got 4"):
        batch.finish(Counts(4))
    batch.finish(Counts(5, 5))
    manifest = read_manifest(LocalFolder(tmp_path))
    assert manifest is not None
    assert manifest.ended
    assert opened(tmp_path).has_ended


def test_a_part_with_other_images_than_its_own_is_refused(tmp_path: Path) -> None:
    start(opened(tmp_path))
    write(tmp_path, 1, 1)
    with pytest.raises(OutputError, match=r"part-00001\.jsonl: is not a part of this batch.*expected 2 images, got 1"):
        opened(tmp_path).counts_before()


def test_a_batch_that_is_there_goes_on_only_if_it_is_asked_to(tmp_path: Path) -> None:
    start(opened(tmp_path))
    assert opened(tmp_path, resume=False).done == frozenset()  # nothing is done: it is begun again
    write(tmp_path, 0, 2)
    with pytest.raises(
        InputError, match=r"holds a batch: got a batch of 5 images, 1 of 3 parts done; give a new folder"
    ):
        opened(tmp_path, resume=False)
    (tmp_path / "other.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"has files that do not belong to this batch: got other\.parquet"):
        opened(tmp_path)


def test_it_goes_on_with_the_images_that_it_had_and_with_its_own_parts(tmp_path: Path) -> None:
    start(opened(tmp_path))
    write(tmp_path, 0, 2)
    said: list[str] = []
    other = replace(WANTED, parts=Parts(6, 3, "jsonl"))
    names = [*NAMES[1:], "new.jpg", "newer.jpg"]
    batch = open_batch(LocalFolder(tmp_path), other, names, resume=True, say=said.append)
    assert said == [
        "images were added or removed since the batch was started (2 new images, 1 gone): it keeps its original images"
    ]
    assert list(batch.names) == NAMES
    assert batch.manifest.parts == WANTED.parts
    start(batch)
    assert (tmp_path / NAME).read_bytes() == batch.manifest.to_json()
