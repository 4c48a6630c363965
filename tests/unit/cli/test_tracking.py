from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.models import finds_a_cat
from yoloship.cli.options import PRESET_NAMES
from yoloship.cli.tracking import with_preset
from yoloship.tracking.presets import PRESETS


def test_the_names_are_those_of_the_presets() -> None:
    assert tuple(PRESETS) == PRESET_NAMES


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("best.pt a.mp4", "best.pt a.mp4"),
        ("best.pt a.mp4 --track", "best.pt a.mp4 --track=yoloship"),
        ("best.pt --track a.mp4", "best.pt --track=yoloship a.mp4"),
        ("best.pt --track paper a.mp4", "best.pt --track=paper a.mp4"),
        ("best.pt --track ./paper", "best.pt --track=yoloship ./paper"),
        ("best.pt --track=paper a.mp4", "best.pt --track=paper a.mp4"),
        ("best.pt --track --zones z.yaml a.mp4", "best.pt --track=yoloship --zones z.yaml a.mp4"),
        ("best.pt --track -- paper", "best.pt --track=yoloship -- paper"),
        ("best.pt -- --track paper", "best.pt -- --track paper"),
        ("best.pt -- a.mp4 --track", "best.pt -- a.mp4 --track"),
        ("--track trackers --track paper x", "--track=trackers --track=paper x"),
        ("", ""),
    ],
)
def test_a_preset_may_follow_and_anything_else_is_a_source(given: str, taken: str) -> None:
    assert with_preset(given.split()) == taken.split()


ZONES = """
units: fractions
lines:
  - {name: door, from: [0.5, 1], to: [0.5, 0]}
  - {name: far, from: [0.5, 1.5], to: [0.9, 1.5]}
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that finds a cat in the middle of every image, four images, and a file of zones."""
    monkeypatch.chdir(tmp_path)
    Path("cat.onnx").write_bytes(finds_a_cat((64, 96)).SerializeToString())
    Path("photos").mkdir()
    for index in range(4):
        cv2.imwrite(f"photos/{index}.png", np.full((64, 96, 3), 90, np.uint8))
    Path("zones.yaml").write_text(ZONES, encoding="utf-8")
    return tmp_path


def records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def ids(path: str) -> list[list[int]]:
    return [[one["track_id"] for one in record["detections"]] for record in records(path)]


@pytest.mark.parametrize(
    ("words", "first"),
    [("--track", -1), ("--track paper", 1), ("--track=paper", 1), ("--zones zones.yaml", -1)],
)
def test_every_record_has_ids(work: Path, words: str, first: int) -> None:
    ran = run("predict", "cat.onnx", "photos", "--no-draw", "--jsonl", "found.jsonl", *words.split())
    assert ran.code == 0, ran.err
    assert ids("found.jsonl") == [[first], [1], [1], [1]]


def test_without_the_option_there_are_none(work: Path) -> None:
    assert run("predict", "cat.onnx", "photos", "--no-draw", "--jsonl", "found.jsonl").code == 0
    assert "track_id" not in records("found.jsonl")[0]["detections"][0]


def test_a_source_may_follow_the_option(work: Path) -> None:
    assert run("predict", "cat.onnx", "--track", "photos", "--no-draw", "--jsonl", "found.jsonl").code == 0
    assert len(records("found.jsonl")) == 4


def test_zones_are_counted_and_drawn_and_what_can_never_count_is_said_once(work: Path) -> None:
    ran = run("predict", "cat.onnx", "photos", "-o", "out", "--jsonl", "found.jsonl", "--zones", "zones.yaml")
    assert ran.code == 0
    assert records("found.jsonl")[3]["lines"]["door"] == {"in": 0, "out": 0, "classes": {}}
    assert "\ndoor: 0 in, 0 out\nfar: 0 in, 0 out\nannotated: out\n" in ran.out
    said = [line for line in ran.err.splitlines() if line.startswith("warning: ")]
    assert len(said) == 1
    assert "zones.yaml: line 'far' lies outside the image, so nothing will ever cross it (96×64)" in said[0]
    with_zones = cv2.imread("out/3.png")
    assert run("predict", "cat.onnx", "photos", "-o", "out", "--overwrite", "--track").code == 0
    without = cv2.imread("out/3.png")
    assert with_zones is not None
    assert without is not None
    assert (with_zones != without).any()
    assert (with_zones[:, 44:52] != without[:, 44:52]).any()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--zones", "none.yaml"], 1, "none.yaml"),
        (["--track=sort"], 2, "'sort' is not one of"),
        (["--track", "--resume", "--jsonl", "a.jsonl"], 2, "--track and --zones need all of them"),
        (["--zones", "zones.yaml", "--jsonl", "zones.yaml", "--overwrite"], 1, "zones.yaml"),
    ],
)
def test_what_does_not_go_is_refused_before_anything_is_written(
    work: Path, words: list[str], code: int, message: str
) -> None:
    before = sorted(work.rglob("*"))
    ran = run("predict", "cat.onnx", "photos", "--no-draw", *words)
    assert ran.code == code
    assert message in ran.err
    assert sorted(work.rglob("*")) == before
    assert Path("zones.yaml").read_text(encoding="utf-8") == ZONES
