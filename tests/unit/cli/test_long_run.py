"""What a run over many images prints, as people read it."""

from __future__ import annotations

import numpy as np

from yoloship.cli.long_run import ImagesTable
from yoloship.cli.output import MAX_ROWS
from yoloship.errors import ImageError
from yoloship.job.run import Tally
from yoloship.results.classification import Classification
from yoloship.results.detections import Detections
from yoloship.sinks import Entry


def found(*class_ids: int, names: tuple[str, ...] = ("cat", "dog")) -> Detections:
    count = len(class_ids)
    boxes = np.tile(np.array([[1, 2, 30.25, 40]], np.float32), (count, 1))
    return Detections(
        boxes, np.linspace(0.9, 0.5, count, dtype=np.float32), np.array(class_ids, np.int32), names, (48, 64)
    )


def images_table(entries: list[Entry], *, limit: int | None, names_width: int = 0) -> list[str]:
    shown: list[str] = []
    tally = Tally()
    with ImagesTable(shown.append, tally, limit=limit, names_width=names_width) as table:
        for entry in entries:
            if entry.result is not None:
                tally.read += 1
                tally.count_objects(entry.result)
            table.write(entry)
    return shown


def test_many_images_have_a_row_each_and_a_sum() -> None:
    entries = [
        Entry("a.jpg", found(0, 0, 1)),
        Entry("no.jpg", None, ImageError("no such file")),
        Entry("long name.jpg", found()),
    ]
    assert "".join(images_table(entries, limit=MAX_ROWS)) == (
        "image          size   objects  found\n"
        "a.jpg          64×48        3  2 cat, 1 dog\n"
        "long name.jpg  64×48        0  nothing\n"
        "2 images, 3 objects: 2 cat, 1 dog\n"
    )


def test_classes_of_whole_images_are_not_called_objects() -> None:
    entry = Entry("a.jpg", Classification(np.array([0.25, 0.75], np.float32), ("cat", "dog"), (48, 64)))
    assert "".join(images_table([entry] * 2, limit=MAX_ROWS)) == (
        "image  size   classes  found\n"
        "a.jpg  64×48        1  1 dog\n"
        "a.jpg  64×48        1  1 dog\n"
        "2 images, 2 classes: 2 dog\n"
    )
    assert images_table([entry], limit=None)[-1] == "1 image, 1 class: 1 dog\n"


def test_a_long_table_ends_with_how_many_more_there_are() -> None:
    images = "".join(images_table([Entry("a.jpg", found(0))] * (MAX_ROWS + 7), limit=MAX_ROWS))
    assert "and 7 more\n57 images, 57 objects: 57 cat\n" in images


def test_a_table_without_a_limit_shows_each_row_as_it_comes() -> None:
    shown = images_table([Entry("a.jpg", found(0))] * (MAX_ROWS + 7), limit=None, names_width=9)
    assert shown[0] == "image      size         objects  found\n"
    assert shown[1:-1] == ["a.jpg      64×48              1  1 cat\n"] * (MAX_ROWS + 7)
    assert shown[-1] == "57 images, 57 objects: 57 cat\n"
    assert images_table([Entry("a.jpg", None, ImageError("is empty"))], limit=None) == []


def test_one_image_and_one_object_are_not_several_and_none_are_not_listed() -> None:
    assert images_table([Entry("a.jpg", found(0))], limit=None)[-1] == "1 image, 1 object: 1 cat\n"
    assert images_table([Entry("a.jpg", found())] * 2, limit=None)[-1] == "2 images, 0 objects\n"
