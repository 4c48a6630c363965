"""The parts of a batch: which images each file of the output holds, and the bytes of such a file.

The images of a batch are known and numbered before it begins, and part k holds the images from k·n on. So a part is
done if its file is there, whoever wrote it: a run on one machine, on many, or the second attempt after a node broke.
The file is written as a whole, and a second attempt replaces it by the same rows. This is all that a batch remembers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from yoloship.errors import OutputError
from yoloship.sinks.parquet_file import GROUP_ROWS, parquet_library, row_schema, rows_of
from yoloship.sinks.records import json_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.sinks.sink import Entry

Format: TypeAlias = Literal["parquet", "jsonl"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
MAX_PART_IMAGES: Final = 100_000
MAX_PART_BYTES: Final = 4 << 30
_USUAL_IMAGES: Final = 1000
_LEAST_IMAGES: Final = 16
_USUAL_PARTS: Final = 64
_KEY: Final = b"yoloship.part"
_NAME: Final = re.compile(r"part-([0-9]{5,8})\.(parquet|jsonl)")


def usual_size(images: int) -> int:
    """Images of a part, if nobody says: 1000 for large batches, fewer for small ones, so that many can work."""
    return max(_LEAST_IMAGES, min(_USUAL_IMAGES, -(-images // _USUAL_PARTS)))


@dataclass(frozen=True, slots=True)
class Parts:
    """How the images of a batch are divided.

    Attributes:
        images: How many there are.
        size: Images of each part but the last.
        form: The format of the files.
    """

    images: int
    size: int
    form: Format

    def __len__(self) -> int:
        return (self.images + self.size - 1) // self.size

    def name(self, number: int) -> str:
        """``part-00017.parquet``."""
        return f"part-{number:05}.{self.form}"

    def first(self, number: int) -> int:
        """The place of a part's first image in the batch."""
        return number * self.size

    def count(self, number: int) -> int:
        """How many images a part has."""
        return min(self.size, self.images - self.first(number))

    def number(self, name: str) -> int | None:
        """The number of the part with this file name; None if there is no such part."""
        match = _NAME.fullmatch(name)
        number = -1 if match is None else int(match[1])
        return number if 0 <= number < len(self) and self.name(number) == name else None


@dataclass(slots=True)
class Counts:
    """What is in a part, or in several.

    Attributes:
        images: Images with a row, failed ones included.
        failed: Images with an error.
        objects: How often each class was found, by its name; a classified image counts for its most probable class.
    """

    images: int = 0
    failed: int = 0
    objects: dict[str, int] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Count an image."""
        self.images += 1
        self.failed += entry.error is not None
        if entry.result is not None:
            for name, number in entry.result.counts().items():
                self.objects[name] = self.objects.get(name, 0) + number

    def merge(self, other: Counts) -> None:
        """Add the counts of another part."""
        self.images += other.images
        self.failed += other.failed
        for name, number in other.objects.items():
            self.objects[name] = self.objects.get(name, 0) + number

    def to_json(self) -> str:
        """The counts as a JSON object on one line."""
        return json.dumps({"images": self.images, "failed": self.failed, "objects": self.objects})

    @classmethod
    def from_json(cls, text: str | bytes) -> Counts:
        """The counts from such an object.

        Raises:
            ValueError: it is something else.
        """
        data = json.loads(text)
        numbers = [data["images"], data["failed"], *data["objects"].values()] if _is_counts(data) else [None]
        if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in numbers):
            raise ValueError("not counts")
        return cls(data["images"], data["failed"], data["objects"])


def _is_counts(data: object) -> bool:
    return (
        isinstance(data, dict) and data.keys() >= {"images", "failed", "objects"} and isinstance(data["objects"], dict)
    )


def part_bytes(entries: Sequence[Entry], counts: Counts, form: Format) -> bytes:
    """The file of a part.

    Args:
        entries: Its images in their order, each with its place in the whole batch.
        counts: What is in it.
        form: Its format. A Parquet file has the columns of ``--parquet`` of `yoloship predict`, and the counts in the
            metadata of its schema; JSON Lines are those of ``--jsonl``.

    Raises:
        DependencyError: pyarrow is not installed.
    """
    if form == "jsonl":
        return b"".join(json_record(entry) + b"\n" for entry in entries)
    arrow = parquet_library()
    schema = row_schema(arrow).with_metadata({_KEY: counts.to_json().encode()})
    table = arrow.Table.from_pylist([row for entry in entries for row in rows_of(entry)], schema=schema)
    buffer = arrow.BufferOutputStream()
    arrow.parquet.write_table(table, buffer, compression="zstd", row_group_size=GROUP_ROWS)
    data: bytes = buffer.getvalue().to_pybytes()
    return data


def counts_of(data: bytes, form: Format, subject: str) -> Counts:
    """What is in the file of a part that an earlier run wrote.

    Raises:
        OutputError: it is not such a file.
    """
    try:
        return _of_lines(data) if form == "jsonl" else _of_table(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise OutputError(
            "is not a part of this batch, or is damaged", subject=subject, hint="remove it; --resume writes it again"
        ) from error


def _of_table(data: bytes) -> Counts:
    arrow = parquet_library()
    metadata = arrow.parquet.read_schema(arrow.BufferReader(data)).metadata
    return Counts.from_json(metadata[_KEY])


def _of_lines(data: bytes) -> Counts:
    counts = Counts()
    if data and not data.endswith(b"\n"):
        raise ValueError("the last line was cut")
    for line in data.splitlines():
        record: dict[str, Any] = json.loads(line)
        counts.images += 1
        counts.failed += "error" in record
        answers = record.get("detections", record.get("classes", [])[:1])
        for answer in answers:
            name = answer["class_name"]
            counts.objects[name] = counts.objects.get(name, 0) + 1
    return counts
