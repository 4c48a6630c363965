"""A record and plan bytes for tests that need no TensorRT."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from yoloship.cuda.device import GpuInfo
from yoloship.engine import BuildConfig, EngineRecord, InputProfile, Installation, Range, Recipe
from yoloship.engine.file import sidecar_path
from yoloship.model import ModelInfo, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "1.7.1.116"
MODEL = ModelInfo("detect", "yolov5", ("hard hat", "vest"), (8, 16, 32), (), "float", "raw", (640, 640), None)
ADA = GpuInfo(0, "NVIDIA RTX 4090", (8, 9), 24 << 30, (12, 9))
HERE = Installation(MappingProxyType({"rtx": VERSION}), ADA)


def plan_bytes(length: int = 4096) -> bytes:
    """Bytes with the header of a TensorRT-RTX plan; not a real one."""
    head = b"vtrt" + bytes(12) + struct.pack("<Q", length) + bytes((1, 7, 1, 116))
    return head + bytes(index % 251 for index in range(length - len(head)))


def record_of(plan: bytes, **changes: Any) -> EngineRecord:
    """A record that belongs to those bytes."""
    record = EngineRecord(
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        onnx_sha256="ab" * 32,
        source_name="best.onnx",
        recipe=Recipe(),
        flavour="rtx",
        version=VERSION,
        compute_capability=None,
        config=BuildConfig(batch=Range(1, 4, 8)),
        inputs=(TensorSpec("images", "float32", ("batch", 3, 640, 640)),),
        outputs=(TensorSpec("output0", "float32", ("batch", 25200, 7)),),
        profiles=(InputProfile("images", (1, 3, 640, 640), (4, 3, 640, 640), (8, 3, 640, 640)),),
        dtypes=("float32", "int64"),
        model=MODEL,
        producer="yoloship 0.1",
    )
    return replace(record, **changes)


def write(path: Path, plan: bytes, record: EngineRecord | None) -> Path:
    """Put both files on disk."""
    path.write_bytes(plan)
    if record is not None:
        sidecar_path(path).write_text(record.to_json(), encoding="utf-8")
    return path
