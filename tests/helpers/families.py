"""The reference checkpoints of the families without anchors, and what their own library computes from them."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from helpers.shared import CHECKPOINTS, require
from yoloship.checkpoint import read_checkpoint
from yoloship.graph import GraphConfig, build_graph, graph_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.checkpoint import Checkpoint

FOLDER = CHECKPOINTS / "families"


@cache
def checkpoint(path: Path) -> Checkpoint:
    return read_checkpoint(require(path))


@cache
def reference(path: Path) -> dict[str, Any]:
    return dict(np.load(require(path.with_suffix(".npz"))))


@cache
def noise() -> dict[str, dict[str, float]]:
    """How far float32 is from float64 in each file, by what is compared: the README's table."""
    found = {}
    for line in require(FOLDER / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 7:
            many, _, one = cells[7].partition("1:1")
            for suffix, text in (("", many), ("/one2one", one)):
                pairs = re.findall(r"(box|score|extra) ([\d.e+-]+)", text)
                found[cells[1] + suffix] = {name: float(value) for name, value in pairs}
    return found


def run(path: Path, hw: tuple[int, int], config: GraphConfig) -> list[Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph_bytes(build_graph(checkpoint(path), config)), options)
    return list(session.run(None, {"images": np.random.default_rng(7).random((2, 3, *hw), dtype=np.float32)}))


def sizes_of(path: Path) -> list[tuple[str, tuple[int, int]]]:
    """The suffix of the reference's keys, and the size of its input."""
    other = "_192x192" if "pred_192x192" in reference(path) else "_160x160"
    height, width = map(int, other[1:].split("x"))
    return [("", (128, 192)), (other, (height, width))]
