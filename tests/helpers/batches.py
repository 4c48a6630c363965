"""Small batches: a model that finds a cat, pictures of which some are broken, and what is in the parts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from helpers.models import finds_a_cat

if TYPE_CHECKING:
    from pathlib import Path

HW = (64, 96)
BROKEN = 5
"""Of 13 pictures, the one of this number is broken."""


def write_pictures(folder: Path, count: int) -> Path:
    """Pictures 000.png, 001.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (folder / f"{index:03}.png").write_bytes(picture(index))
    return folder


def picture(index: int) -> bytes:
    """A plain picture of its own grey, or bytes that are not one."""
    if index % 13 == BROKEN:
        return b"broken"
    done, data = cv2.imencode(".png", np.full((*HW, 3), index % 256, np.uint8))
    assert done
    return bytes(data.tobytes())


def write_model(folder: Path) -> Path:
    """`finds_a_cat`, which finds one cat in every picture."""
    path = folder / "cat.onnx"
    path.write_bytes(finds_a_cat(HW).SerializeToString())
    return path


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of all parts, in the order of the parts."""
    import pyarrow.parquet

    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("part-*")):
        if path.suffix == ".jsonl":
            found += map(json.loads, path.read_text(encoding="utf-8").splitlines())
        else:
            found += pyarrow.parquet.read_table(path).to_pylist()
    return found


def files(folder: Path) -> dict[str, bytes]:
    """The bytes of all parts."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}
