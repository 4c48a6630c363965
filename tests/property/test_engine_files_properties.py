"""Whatever stands in an engine's files, reading them gives an engine or an EngineError."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.engine_records import plan_bytes, record_of
from yoloship.engine import EngineRecord, read_engine
from yoloship.engine.file import prefix_info, read_header, sidecar_path, split_prefix
from yoloship.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

PLAN = plan_bytes(256)
GOOD: dict[str, Any] = json.loads(record_of(PLAN).to_json())
PREFIX: dict[str, Any] = {"names": {"0": "a"}, "stride": 32, "task": "detect", "imgsz": [640, 640], "batch": 1}

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def places(value: object, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place inside a JSON value."""
    found = [place] if place else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*place, key))
    return found


def put(value: Any, place: tuple[str | int, ...], new: object) -> Any:
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return copy


def engine_or_refusal(text: str) -> EngineRecord | None:
    try:
        return EngineRecord.from_json(text, subject="s")
    except EngineError:
        return None


@quick
@given(st.text(max_size=200) | values.map(json.dumps))
def test_any_text_is_a_record_or_an_engine_error(text: str) -> None:
    assert engine_or_refusal(text) is None


@quick
@given(st.sampled_from(places(GOOD)), values)
def test_a_record_with_one_changed_value_is_read_or_refused(place: tuple[str | int, ...], new: object) -> None:
    record = engine_or_refusal(json.dumps(put(GOOD, place, new)))
    if record is not None:
        assert engine_or_refusal(record.to_json()) == record
        assert record.source_name.isprintable() or not any(letter < " " for letter in record.source_name)


@quick
@given(st.binary(max_size=400))
def test_any_bytes_are_an_engine_or_an_engine_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "fuzzed.engine"
    path.write_bytes(data)
    try:
        engine = read_engine(path)
    except EngineError:
        return
    assert engine.header.form != "unknown"


@quick
@given(st.binary(max_size=300))
def test_any_sidecar_beside_a_whole_plan_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "fuzzed.engine"
    path.write_bytes(PLAN)
    sidecar_path(path).write_bytes(data)
    try:
        engine = read_engine(path)
    except EngineError:
        return
    assert engine.record is not None


@quick
@given(st.integers(-(1 << 31), (1 << 31) - 1), st.binary(max_size=64))
def test_any_prefix_length_is_read_or_refused(length: int, rest: bytes) -> None:
    data = memoryview(struct.pack("<i", length) + b"{" + rest)
    try:
        metadata, plan = split_prefix(data, subject="s")
    except EngineError:
        return
    assert metadata is None or len(plan) == len(data) - 4 - length


@quick
@given(st.sampled_from(places(PREFIX)), values)
def test_a_prefix_with_one_changed_value_is_read_or_refused(place: tuple[str | int, ...], new: object) -> None:
    try:
        info = prefix_info(put(PREFIX, place, new), subject="s")
    except EngineError:
        return
    assert info.class_names
    assert info.strides


@quick
@given(st.binary(max_size=64), st.integers(0, len(PLAN) - 28))
def test_a_plan_of_another_length_than_its_header_says_is_refused(tail: bytes, cut: int) -> None:
    data = PLAN[: len(PLAN) - cut] + tail
    try:
        header = read_header(memoryview(data), subject="s")
    except EngineError:
        assert len(data) != len(PLAN)
    else:
        assert header.form == "rtx"
        assert len(data) == len(PLAN)
