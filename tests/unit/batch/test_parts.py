"""How images are divided, and the files of parts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloship.batch.parts import Counts, Parts, counts_of, part_bytes, usual_size
from yoloship.errors import ImageError, OutputError
from yoloship.sinks.sink import Entry


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(1, 2500))
def test_every_image_is_in_exactly_one_part(images: int, size: int) -> None:
    parts = Parts(images, size, "parquet")
    ranges = [(parts.first(number), parts.first(number) + parts.count(number)) for number in range(len(parts))]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == images
    assert all(before[1] == after[0] for before, after in pairwise(ranges))


def test_a_part_is_known_by_its_own_name_only() -> None:
    parts = Parts(100, 10, "parquet")
    assert [parts.number(parts.name(number)) for number in range(10)] == list(range(10))
    for other in ("part-00010.parquet", "part-00001.jsonl", "part-000001.parquet", "part-1.parquet", "x", "part-00001"):
        assert parts.number(other) is None


@pytest.mark.parametrize(("images", "size"), [(1, 16), (1000, 16), (6400, 100), (64_000, 1000), (10**7, 1000)])
def test_small_batches_have_small_parts_so_that_many_can_work(images: int, size: int) -> None:
    assert usual_size(images) == size


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_what_is_in_a_part_can_be_read_from_its_file(form: str) -> None:
    entries = [Entry("a.jpg", None, ImageError("is broken", subject="a.jpg"), index=7)]
    counts = Counts()
    counts.add(entries[0])
    data = part_bytes(entries, counts, form)  # type: ignore[arg-type]  # it is one of them
    assert counts_of(data, form, "x") == counts == Counts(1, 1, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("form", "data"),
    [
        *(
            ("jsonl", data)
            for data in (b'{"detections": 3}\n', b'{"a": 1}', b"[]\n", b"[" * 100_000 + b"\n", b"\xff\n")
        ),
        ("jsonl", b'{"detections": [{"class_name": []}]}\n'),
        *(("parquet", data) for data in (b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1")),
    ],
)
def test_a_damaged_part_is_refused_by_name(form: str, data: bytes) -> None:
    with pytest.raises(OutputError, match=r"out/part-00000: is not a part of this batch, or is damaged"):
        counts_of(data, form, "out/part-00000")  # type: ignore[arg-type]


def test_a_table_of_another_program_is_not_a_part() -> None:
    import pyarrow as pa
    import pyarrow.parquet

    buffer = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table({"input": ["a.jpg"]}), buffer)
    with pytest.raises(OutputError, match="not a part of this batch"):
        counts_of(buffer.getvalue().to_pybytes(), "parquet", "x")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_counts_from_any_text_are_counts_or_refused(text: str) -> None:
    try:
        counts = Counts.from_json(text)
    except ValueError:
        return
    assert counts.images >= 0
