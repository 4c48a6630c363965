"""What a file is follows from its content alone, and every room says the same about a wrong one."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import forge
from yoloship.errors import CheckpointError, InputError
from yoloship.kinds import (
    HEAD_BYTES,
    IMAGE_KINDS,
    MODEL_KINDS,
    TORCH_LEGACY_MAGIC,
    Kind,
    Wanted,
    is_checkpoint,
    kind_of,
    refuse_others,
    wrong_kind,
)

if TYPE_CHECKING:
    from pathlib import Path

METADATA = json.dumps({"description": "x", "names": ["a"] * 200}).encode()


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        if name:
            archive.writestr(name, b"x")
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, images=np.zeros(2))
    return file.getvalue()


CASES: tuple[tuple[Kind, bytes], ...] = (
    ("checkpoint", zipped("best/data.pkl")),
    ("checkpoint", b"\x80\x02\x8a\n" + TORCH_LEGACY_MAGIC + b".\x80\x02"),
    ("engine", b"ftrt" + bytes(60)),
    ("engine", b"vtrt" + bytes(60)),
    ("engine", b"ptrt" + bytes(60)),
    ("engine", struct.pack("<i", len(METADATA)) + METADATA + b"ftrt" + bytes(60)),
    ("engine", struct.pack("<i", 1000) + b"{cut short"),
    ("onnx", b"\x08\x08\x12\x07pytorch\x1a\x05"),
    ("onnx", b"\x08\x0a:\x00"),
    ("pickle", b"\x80\x04N."),
    ("npz", npz()),
    ("npy", b"\x93NUMPY\x01\x00"),
    ("safetensors", struct.pack("<Q", 64) + b'{"a":{"dtype":"F32"}}'),
    ("hdf5", b"\x89HDF\r\n\x1a\n"),
    ("tflite", b"\x1c\0\0\0TFL3"),
    ("gguf", b"GGUF\x03"),
    ("lfs-pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00"),
    ("gzip", b"\x1f\x8b\x08"),
    ("bzip2", b"BZh9"),
    ("xz", b"\xfd7zXZ\0"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("rar", b"Rar!\x1a\x07"),
    ("7z", b"7z\xbc\xaf\x27\x1c"),
    ("tar", forge.old_tar()),
    ("zip", zipped("")),
    ("pdf", b"%PDF-1.7"),
    ("html", b"\n <!DOCTYPE html><html>"),
    ("html", b"\xef\xbb\xbf<HTML lang=de>"),
    ("html", b'<?xml version="1.0"?><html>'),
    ("xml", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'),
    ("json", b'{"a": 1}'),
    ("json", b"[1, {"),
    ("text", b"0 0.5 0.5 0.1 0.1\n"),
    ("text", "Gr\u00f6\u00dfe \u4f60\u597d\n".encode() * 40),
    ("jpeg", b"\xff\xd8\xff\xe0"),
    ("png", b"\x89PNG\r\n\x1a\n"),
    ("gif", b"GIF89a"),
    ("webp", b"RIFF\x10\0\0\0WEBPVP8 "),
    ("bmp", b"BM\x10\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"),
    ("bmp", b"BM\x10\0\0\0made\x1a\0\0\0\x0c\0\0\0"),
    ("text", b"BMW and Audi are found well"),
    ("tiff", b"MM\0*"),
    ("avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"),
    ("avif", b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"),
    ("avif", b"\0\0\0\x1cftypavif\0\0\0\0mif1heicmiaf"),
    ("heic", b"\0\0\0\x1cftypmsf1\0\0\0\0mif1heicavif"),
    ("video", b"\0\0\0\x14ftypmif1\0\0\0\0mif1"),
    ("heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    ("jp2", b"\xff\x4f\xff\x51"),
    ("netpbm", b"P6\n1 1\n255\n\0\0\0"),
    ("video", b"\0\0\0\x18ftypisom\0\0\0\0isommp42"),
    ("video", b"\x1aE\xdf\xa3"),
    ("video", b"RIFF\x10\0\0\0AVI LIST"),
    ("empty", b""),
    ("zeros", bytes(100)),
    ("unknown", bytes(range(128, 256))),
    ("unknown", b"text\0with a null"),
)


@pytest.mark.parametrize(("kind", "data"), CASES, ids=[f"{index}-{case[0]}" for index, case in enumerate(CASES)])
def test_the_content_says_what_a_file_is(tmp_path: Path, kind: Kind, data: bytes) -> None:
    path = tmp_path / "best.onnx"  # its suffix counts for nothing
    path.write_bytes(data)
    (tmp_path / "best.onnx.json").write_text("{}")  # nor does what lies beside it
    assert kind_of(data) == kind_of(memoryview(data)) == kind_of(path) == kind


@pytest.mark.parametrize("name", ["best.engine", "best.plan", "best.TRT"])
@pytest.mark.parametrize(("kind", "data"), CASES, ids=[f"{index}-{case[0]}" for index, case in enumerate(CASES)])
def test_an_engines_name_counts_only_where_the_content_fits_nothing(
    tmp_path: Path, kind: Kind, data: bytes, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert kind_of(path) == ("no-engine" if kind == "unknown" else kind)
    (tmp_path / f"{name}.json").write_text("{}")  # its sidecar
    assert kind_of(path) == ("engine" if kind == "unknown" else kind)


def test_a_file_named_as_an_engine_that_is_none_is_called_that_whatever_was_wanted(tmp_path: Path) -> None:
    path = tmp_path / "best.engine"
    path.write_bytes(b"\xfe" * 600)
    for wanted in get_args(Wanted):
        with pytest.raises(
            InputError,
            match=r"best\.engine: is not a TensorRT engine: got a file that begins with b'\\xfe.*'; "
            r"copy it again, or build it again with 'yoloship build'$",
        ):
            refuse_others(path, MODEL_KINDS | {"unknown"}, wanted, subject=str(path), error=InputError)


def test_there_is_a_case_for_every_kind_of_model_and_image() -> None:
    assert {kind for kind, _ in CASES} >= MODEL_KINDS | IMAGE_KINDS


@pytest.mark.parametrize(("kind", "data"), CASES, ids=[f"{index}-{case[0]}" for index, case in enumerate(CASES)])
def test_a_wrong_file_is_named_in_one_line_with_what_was_wanted(kind: Kind, data: bytes) -> None:
    said = str(wrong_kind(kind, "onnx", subject="x", error=CheckpointError, start=data))
    assert said.startswith("x: is ")
    assert "\n" not in said
    assert "an ONNX model" in said or kind in {"empty", "zeros", "lfs-pointer"}


@pytest.mark.parametrize(
    ("kind", "wanted", "line"),
    [
        ("onnx", "checkpoint", "x: is an ONNX model, not a checkpoint; give the .pt that it was exported from; "),
        (
            "checkpoint",
            "onnx",
            "x: is a checkpoint, not an ONNX model; write an ONNX model from it with 'yoloship export'",
        ),
        (
            "engine",
            "onnx",
            "x: is a TensorRT engine, not an ONNX model; give the .pt or the .onnx that it was built from",
        ),
        (
            "png",
            "model",
            "x: is a PNG image, not a checkpoint, an ONNX model or a TensorRT engine; give the model first",
        ),
        ("engine", "image", "x: is a TensorRT engine, not an image; give the model first, then the images"),
        ("empty", "image", "x: is empty (0 bytes); download or copy the file again"),
    ],
)
def test_the_next_step_depends_on_what_was_wanted(kind: Kind, wanted: str, line: str) -> None:
    assert str(wrong_kind(kind, wanted, subject="x", error=InputError)).startswith(line)  # type: ignore[arg-type]


@given(st.one_of(st.binary(max_size=600), st.sampled_from(CASES).flatmap(lambda case: mutated(case[1]))))
def test_any_bytes_are_of_one_kind_and_described_in_one_line(data: bytes) -> None:
    kind = kind_of(data)
    assert kind in get_args(Kind)
    assert kind_of(data[:HEAD_BYTES]) == kind
    assert "\n" not in str(wrong_kind(kind, "model", subject="x", error=InputError, start=data))


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with some replaced, and cut."""

    def change(edits: list[tuple[int, int]], cut: int) -> bytes:
        changed = bytearray(data)
        for at, value in edits:
            if at < len(changed):
                changed[at] = value
        return bytes(changed[: len(changed) - cut % (len(changed) + 1)])

    edits = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 255)), max_size=4)
    return st.builds(change, edits, st.integers(0, 600))


def test_a_file_outside_the_wanted_kinds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"\xfe\xfe\xfe\xfe")
    with pytest.raises(
        InputError, match=r"m: is not a checkpoint: got a file that begins with b'\\xfe\\xfe\\xfe\\xfe'"
    ):
        refuse_others(path, frozenset({"checkpoint"}), "checkpoint", subject="m", error=InputError)
    assert refuse_others(path, frozenset({"unknown"}), "onnx", subject="m", error=InputError) == "unknown"


def test_what_somebody_trained_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "best.jpg").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "old.jpg").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "photo.pt").write_bytes(b"\xff\xd8\xff" + bytes(100))
    found = {path.name: is_checkpoint(path) for path in (*tmp_path.iterdir(), tmp_path / "none", tmp_path)}
    assert found == {"best.jpg": True, "old.jpg": True, "photo.pt": False, "none": False, tmp_path.name: False}
