from __future__ import annotations

import json
import os
import re
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.engine_records import HERE, MODEL, VERSION, plan_bytes, record_of, write
from yoloship.engine import BuildConfig, BuiltEngine, EngineRecord, open_engine_file, read_engine, write_engine
from yoloship.engine.file import prefix_info, sidecar_path
from yoloship.errors import EngineError, InputError, OutputError, YoloshipError
from yoloship.kinds import kind_of
from yoloship.model import METADATA_KEY, TensorSpec

PLAN = plan_bytes()
SPEC = TensorSpec("images", "float32", (1, 3, 640, 640))
BUILT = BuiltEngine(
    PLAN, "rtx", VERSION, None, (SPEC,), (SPEC,), (), frozenset({"float32"}), "ab" * 32, BuildConfig(), (), 0.1
)
METADATA = {
    "description": "YOLOv5n model trained on coco.yaml",
    "author": "Ultralytics",
    "version": "8.3.1",
    "stride": 32,
    "task": "detect",
    "batch": 1,
    "imgsz": [384, 640],
    "names": {"0": "hard hat", "1": "vest"},
    "args": {"dynamic": False},
}


def prefixed(metadata: Any = METADATA, plan: bytes = PLAN) -> bytes:
    text = json.dumps(metadata).encode()
    return struct.pack("<i", len(text)) + text + plan


def refusal(path: Path, error: type[YoloshipError] = EngineError) -> str:
    with pytest.raises(error) as caught:
        read_engine(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_an_existing_engine_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    for taken in ("best.engine", "best.engine.json"):
        (tmp_path / taken).write_bytes(b"mine")
        with pytest.raises(OutputError, match=f"{taken}: already exists"):
            write_engine(tmp_path / "best.engine", BUILT, source_name="best.onnx", model=None, overwrite=False)
        assert (tmp_path / taken).read_bytes() == b"mine"
        (tmp_path / taken).unlink()


def test_a_folder_that_is_missing_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_engine(tmp_path / "none" / "best.engine", BUILT, source_name="best.onnx", model=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty (0 bytes); download or copy the file again"),
        (b"vtrt", "is not a TensorRT engine: expected at least 28 bytes, got 4 bytes"),
        (b"<html>" * 20, "is a web page, not a TensorRT engine; download the file itself, not its page"),
        (PLAN[:-1], "is truncated: expected 4096 bytes, as its header says, got 4095 bytes; copy"),
        (
            PLAN + b"!",
            "has extra bytes after its end: expected 4096 bytes, as its header says, got 4097 bytes; "
            "copy it again, or build it again",
        ),
        (
            struct.pack("<i", 99_999) + b"{" + PLAN,
            "begins with a length and JSON, but the length is impossible: expected 2 to 4097 bytes of JSON, got 99999; "
            "the file is damaged or truncated",
        ),
        (struct.pack("<i", -5) + b"{" + PLAN, "begins with a length and JSON, but the length is impossible"),
        (struct.pack("<i", 9) + b"{not json" + PLAN, "its JSON prefix cannot be read: got Expecting property name"),
        (prefixed({**METADATA, "names": {"0": "a", "2": "b"}}), "JSON prefix: bad 'names': expected class names by id"),
        (prefixed({**METADATA, "imgsz": [640, -1]}), "JSON prefix: bad 'imgsz': expected [height, width] in pixels"),
        (prefixed({**METADATA, "task": "a pose"}), "JSON prefix: bad 'task': expected a word of small letters"),
        (prefixed({**METADATA, "stride": "32"}), "JSON prefix: bad 'stride': expected an integer from 1 to 1024"),
        (prefixed()[:-1], "is truncated: expected 4096 bytes, as its header says, got 4095 bytes"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_whole_engine_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "best.engine"
    path.write_bytes(data)
    assert refusal(path).startswith(message)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": (TensorSpec("x" * 2000, "float32", (1,)),)}, "sidecar: bad 'inputs'"),
        ({"outputs": tuple(TensorSpec(f"o{n}", "float32", (1,)) for n in range(2000))}, "sidecar: bad 'outputs'"),
        ({"model": replace(MODEL, class_names=("a\ud800",))}, "a name in the model is not valid text: got '\\ud800'"),
    ],
)
def test_nothing_is_written_that_could_not_be_read_back(
    tmp_path: Path, changes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = SimpleNamespace(plan=PLAN)
    monkeypatch.setattr(EngineRecord, "of", lambda *_, **__: record_of(PLAN, **changes))
    with pytest.raises(EngineError, match=re.escape(words)):
        write_engine(tmp_path / "best.engine", built, source_name="best.onnx", model=None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("has_sidecar", [False, True])
def test_a_file_of_the_wrong_length_is_refused_before_it_is_read(
    tmp_path: Path, has_sidecar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "best.engine", PLAN, record_of(PLAN) if has_sidecar else None)
    os.truncate(path, 3 << 30)  # of holes: it takes no space

    def fail(*_: Any) -> Any:
        raise AssertionError("the whole file was read")

    monkeypatch.setattr("yoloship.engine.file._rest", fail)
    assert refusal(path).startswith("has extra bytes after its end: expected 4096 bytes")
    path.write_bytes(b"no engine at all" * 100)
    if not has_sidecar:
        assert refusal(path).startswith("is a text file, not a TensorRT engine")


def test_a_plan_longer_than_its_beginning_is_read_whole(tmp_path: Path) -> None:
    plan = plan_bytes(3 << 20)
    engine = read_engine(write(tmp_path / "best.engine", plan, record_of(plan)))
    assert bytes(engine.plan) == plan
    assert engine.plan.readonly
    path = tmp_path / "prefixed.engine"
    path.write_bytes(prefixed(plan=plan))
    assert bytes(read_engine(path).plan) == plan


def test_a_prefixed_engine_is_read_with_what_its_prefix_says(tmp_path: Path) -> None:
    path = tmp_path / "best.engine"
    path.write_bytes(prefixed())
    engine = read_engine(path)
    assert engine.has_prefix
    assert bytes(engine.plan) == PLAN
    assert engine.record is None
    assert engine.info is not None
    assert engine.info.class_names == ("hard hat", "vest")
    assert (engine.info.family, engine.info.input_hw, engine.info.batch) == ("yolov5", (384, 640), 1)
    assert (engine.info.strides, engine.info.output_form) == ((8, 16, 32), "raw")


def test_what_an_engine_says_about_its_model_has_the_keys_of_an_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "best.engine"
    path.write_bytes(prefixed({**METADATA, "kpt_shape": [17, 3], "end2end": True}))
    said = read_engine(path).metadata
    assert (said["names"], said["kpt_shape"], said["end2end"]) == (str(METADATA["names"]), "[17, 3]", "True")
    assert METADATA_KEY not in said
    engine = read_engine(write(tmp_path / "other.engine", PLAN, None))
    assert dict(engine.metadata) == {}
    record = record_of(PLAN)
    assert record.model is not None
    engine = read_engine(write(tmp_path / "ours.engine", PLAN, record))
    assert dict(engine.metadata) == {METADATA_KEY: record.model.to_json()}


def test_a_prefixed_engine_of_a_newer_family_says_so(tmp_path: Path) -> None:
    path = tmp_path / "best.engine"
    path.write_bytes(prefixed({**METADATA, "description": "Ultralytics YOLOv8n model", "args": {"dynamic": True}}))
    info = read_engine(path).info
    assert info is not None
    assert (info.family, info.batch, info.input_hw) == ("ultralytics", None, (None, None))


@pytest.mark.parametrize(
    ("description", "family"),
    [
        ("Ultralytics YOLOv5su model trained on coco.yaml", "ultralytics"),
        ("Ultralytics YOLOv5n6u model trained on /data/hats.yaml", "ultralytics"),
        ("YOLOv5su model trained on coco.yaml", "ultralytics"),
        ("Ultralytics YOLOv8n model trained on yolov5-style.yaml", "ultralytics"),
        ("Ultralytics best model trained on data/yolov5s.yaml", "ultralytics"),
        ("Ultralytics YOLO11n model untrained", "ultralytics"),
        ("Ultralytics YOLOv5s model trained on unusual-u.yaml", "yolov5"),
        ("Ultralytics yolov5x6 model untrained", "yolov5"),
        ("YOLOv5n model trained on coco.yaml", "yolov5"),
        ("yolov5s", "yolov5"),
        ("", "ultralytics"),
        (5, "ultralytics"),
        (None, "yolov5"),
    ],
)
def test_the_family_of_a_prefixed_engine_is_read_from_the_name_in_its_description(
    description: object, family: str
) -> None:
    assert prefix_info({**METADATA, "description": description}, subject="best.engine").family == family


def test_a_plain_plan_without_a_sidecar_is_read_for_what_it_is(tmp_path: Path) -> None:
    engine = read_engine(write(tmp_path / "best.engine", PLAN, None))
    assert (engine.record, engine.info, engine.header.version) == (None, None, VERSION)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan_bytes": 5}, "does not match the .json file beside it: the length differs: expected 5 bytes"),
        ({"plan_sha256": "0" * 64}, "does not match the .json file beside it: the SHA-256 differs: expected"),
        ({"version": "1.6.0.0"}, "its sidecar names another version of TensorRT than its header: expected 1.7.1.116"),
        ({"flavour": "tensorrt"}, "its sidecar names another flavour of TensorRT than its header: expected rtx"),
    ],
)  # fmt: skip
def test_a_sidecar_that_lies_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "best.engine", PLAN, record_of(PLAN, **changes))
    text = refusal(path)
    assert text.startswith(message)
    assert "build it again: yoloship build best.onnx -o" in text


def test_a_sidecar_for_bytes_that_are_no_engine_is_refused(tmp_path: Path) -> None:
    junk = b"x" * 4096
    path = write(tmp_path / "best.engine", junk, record_of(junk))
    assert refusal(path).startswith("is not a TensorRT-RTX engine, though its sidecar says so")


def test_a_sidecar_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "best.engine", PLAN, None)
    sidecar_path(path).write_bytes(b"\xff\xfe{}")
    with pytest.raises(EngineError, match=r"best\.engine\.json: cannot be read as text: byte 0 is not UTF-8"):
        read_engine(path)


def test_an_engine_that_fits_is_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "best.engine", PLAN, record_of(PLAN))
    assert open_engine_file(path, installation=HERE).info == MODEL


def test_a_missing_engine_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.engine", InputError) == "no such file"


def test_an_engine_that_begins_in_a_way_unknown_here_is_known_by_its_sidecar(tmp_path: Path) -> None:
    plan = b"\xf7" * 4096  # as a later TensorRT may write it
    engine = write(tmp_path / "best.engine", plan, record_of(plan, flavour="tensorrt", version="12.0.1"))
    assert kind_of(engine) == "engine"
    assert read_engine(engine).info == MODEL
    sidecar_path(engine).unlink()
    assert refusal(engine) == (
        r"is not a TensorRT engine: got a file that begins with b'\xf7\xf7\xf7\xf7\xf7\xf7\xf7\xf7'; "
        "copy it again, or build it again with 'yoloship build'"
    )
