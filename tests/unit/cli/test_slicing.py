from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.models import finds_a_cat

HW = (64, 96)
"""Of the model's input, and of a tile."""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that finds a cat at (20, 15, 40, 25) of its input, and an image of four tiles."""
    (tmp_path / "cat.onnx").write_bytes(finds_a_cat(HW).SerializeToString())
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((100, 160, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def boxes(*words: str) -> list[list[float]]:
    ran = run("predict", "cat.onnx", "large.png", "--no-draw", "--jsonl", "found.jsonl", "--overwrite", *words)
    assert ran.code == 0, ran.err
    (record,) = [json.loads(line) for line in Path("found.jsonl").read_text(encoding="utf-8").splitlines()]
    found: list[dict[str, Any]] = record["detections"]
    return sorted(one["box_xyxy"] for one in found)


def test_each_tile_is_searched_and_the_whole_image_too(work: Path) -> None:
    tiles = [[20, 15, 40, 25], [20, 51, 40, 61], [84, 15, 104, 25], [84, 51, 104, 61]]
    assert boxes("--slice", "64x96", "--no-slice-whole") == tiles
    with_whole = boxes("--slice", "64x96")
    assert len(with_whole) == 5
    assert all(tile in with_whole for tile in tiles)
    assert len(boxes()) == 1


def test_the_overlap_and_the_measure_are_those_of_the_options(work: Path) -> None:
    half = ("--slice", "64x96", "--no-slice-whole", "--slice-overlap", "0.5")
    assert len(boxes(*half)) == 9
    assert len(boxes(*half, "--slice-merge", "ios")) == 6  # three have 0.6 of their area in another, and an IoU of 0.43


@pytest.mark.parametrize("option", [("--slice-overlap", "0.1"), ("--slice-merge", "ios"), ("--no-slice-whole",)])
def test_an_option_of_slicing_needs_the_size_of_the_tiles(work: Path, option: tuple[str, ...]) -> None:
    ran = run("predict", "cat.onnx", "large.png", *option)
    assert ran.code == 2
    assert "--slice-overlap, --slice-merge and --no-slice-whole need --slice" in ran.err


def test_a_value_outside_its_range_is_refused_before_the_model_is_loaded(work: Path) -> None:
    ran = run("predict", "none.onnx", "large.png", "--slice", "16")
    assert ran.code == 1
    assert "slicing: tile_hw: cannot have this value: expected None or (height, width), each 32 to 65535" in ran.error
    assert "slicing: overlap" in run("predict", "none.onnx", "large.png", "--slice", "64", "--slice-overlap", "1").error
