"""A model held against what its training environment computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.cli import run
from helpers.models import info
from helpers.shared import CHECKPOINTS, GENERATED, require
from yoloship.errors import InputError
from yoloship.evaluate.reference import (
    check_against_reference,
    compare_reference,
)
from yoloship.evaluate.reference_file import Reference
from yoloship.evaluate.reports import reference_facts
from yoloship.model import TensorSpec
from yoloship.runtime.scripted import ScriptedSession

NAMES = ("v1.0-yolov5s", "v6.2-yolov5n", "v7-yolov5n", "v7-yolov5-p6", "v7-yolov3-tiny", "v7-yolov5s-transformer")
IMAGES = np.zeros((1, 3, 32, 32), np.float32)
ROWS = np.zeros((1, 63, 8), np.float32)


def reference(folder: Path, name: str = "v7-yolov5n", change: Any = lambda output: output) -> Path:
    """As a user makes it: the arrays of the official code beside the images that it ran on."""
    images = np.random.default_rng(7).random((2, 3, 128, 192), dtype=np.float32)
    with np.load(require(GENERATED / f"{name}.npz")) as official:
        np.savez(folder / "reference.npz", images=images, output=change(official["pred"].copy()))
    return folder / "reference.npz"


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_agrees_with_the_official_code(name: str, tmp_path: Path) -> None:
    found = check_against_reference(require(GENERATED / f"{name}.pt"), reference(tmp_path, name))
    assert found.passed, found
    assert found.images == 2
    assert found.rows > 500


def nudged(output: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    output[1, 77, 5] += 3e-4
    return output


def shifted(output: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    output[0, 40, 2] *= 1.05
    return output


@pytest.mark.parametrize(("change", "image", "row", "what"), [(nudged, 1, 77, "score"), (shifted, 0, 40, "box")])
def test_one_number_that_differs_fails_and_is_named(
    change: Any, image: int, row: int, what: str, tmp_path: Path
) -> None:
    found = check_against_reference(require(GENERATED / "v7-yolov5n.pt"), reference(tmp_path, change=change))
    assert not found.passed
    assert found.differing == 1
    assert (found.worst.image, found.worst.row, found.worst.what) == (image, row, what)


def test_another_model_fails(tmp_path: Path) -> None:
    found = check_against_reference(require(GENERATED / "v6.2-yolov5n.pt"), reference(tmp_path))
    assert not found.passed
    assert found.differing > found.rows // 2


def test_the_command_says_what_differs_and_exits_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = require(GENERATED / "v7-yolov5n.pt")
    reference(tmp_path)
    right = run("verify", checkpoint, "reference.npz")
    assert right.code == 0, right.err
    assert "3024 of 3024 agree" in right.out
    reference(tmp_path, change=nudged)
    wrong = run("verify", checkpoint, "reference.npz", "--json", "r.json")
    assert wrong.code == 1
    assert wrong.err.endswith("1 of 3024 rows differ, row 77 of image 1 the most\n")
    assert '"passed": false' in Path("r.json").read_text()
    assert run("verify", checkpoint, "reference.npz", "--images", "x.jpg").code == 2
    exported = run("export", checkpoint, "-o", "raw.onnx", "--imgsz", "128x192")
    assert exported.code == 0
    reference(tmp_path)
    assert run("verify", "raw.onnx", "reference.npz").code == 0


def test_numbers_that_are_not_finite_never_agree() -> None:
    session = ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, 32, 32))],
        [TensorSpec("output", "float32", ROWS.shape)],
        lambda _: [np.full_like(ROWS, np.nan)],
    )
    assert not compare_reference(Reference(IMAGES, ROWS), session, info("raw"), "x").passed


FAMILIES = {
    "v8-detect": {"box", "score"},
    "v8-seg": {"box", "score", "coefficient"},
    "y5-seg": {"box", "score", "coefficient"},
    "v8-pose-kpt5x2": {"box", "score", "keypoint"},
    "v8-obb": {"box", "score", "angle"},
    "v8-cls": {"score"},
    "tv-basic-1111": {"class"},
}


def of_family(folder: Path, name: str, change: Any = lambda output: output, **more: Any) -> Path:
    """As `reference`, of a model of another task."""
    images = np.random.default_rng(7).random((2, 3, 128, 192), dtype=np.float32)
    with np.load(require(CHECKPOINTS / "families" / f"{name}.npz")) as official:
        if "proto" in official and "prototypes" not in more:
            more["prototypes"] = official["proto"]
        arrays = {name: array for name, array in more.items() if array is not None}
        np.savez(folder / "reference.npz", images=images, output=change(official["pred"].copy()), **arrays)
    return folder / "reference.npz"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_of_each_task_agrees_with_its_own_library(name: str, tmp_path: Path) -> None:
    path = require(CHECKPOINTS / "families" / f"{name}.pt")
    found = check_against_reference(path, of_family(tmp_path, name))
    assert set(found.largest) == FAMILIES[name]
    assert found.passed or found.differing <= found.rows // 100, found  # random weights are noisier than trained ones
    assert (found.prototypes is not None) == (FAMILIES[name] >= {"coefficient"})
    words = dict(reference_facts(found))
    assert ("prototypes" in words) == (found.prototypes is not None)


@pytest.mark.parametrize(
    ("name", "place", "what"),
    [
        ("v8-obb", (1, -1, 40), "angle"),
        ("v8-seg", (1, -1, 40), "coefficient"),
        ("v8-pose-kpt5x2", (1, 8, 40), "keypoint"),
    ],
)
def test_a_number_behind_the_scores_that_differs_is_named(
    name: str, place: tuple[int, ...], what: str, tmp_path: Path
) -> None:
    def moved(output: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        output[place] += 50
        return output

    found = check_against_reference(require(CHECKPOINTS / "families" / f"{name}.pt"), of_family(tmp_path, name, moved))
    assert (found.worst.image, found.worst.row, found.worst.what) == (1, 40, what)
    assert found.largest[what] == pytest.approx(50, abs=0.1)


def test_prototypes_are_compared_or_it_is_said_that_they_are_not(tmp_path: Path) -> None:
    path = require(CHECKPOINTS / "families" / "y5-seg.pt")
    without = check_against_reference(path, of_family(tmp_path, "y5-seg", prototypes=None))
    assert dict(reference_facts(without))["prototypes"] == "not in the reference, so they are not compared"
    with np.load(require(CHECKPOINTS / "families" / "y5-seg.npz")) as official:
        wrong = official["proto"] + np.float32(0.1)
    found = check_against_reference(path, of_family(tmp_path, "y5-seg", prototypes=wrong))
    assert not found.passed
    with pytest.raises(InputError, match="has no prototypes, but the reference has"):
        check_against_reference(
            require(CHECKPOINTS / "families" / "v8-detect.pt"), of_family(tmp_path, "v8-detect", prototypes=wrong)
        )


def test_rows_of_a_head_that_chooses_them_itself_are_refused(tmp_path: Path) -> None:
    path = require(CHECKPOINTS / "families" / "y26-detect-2heads.pt")
    exported = run("export", path, "-o", str(tmp_path / "end.onnx"), "--imgsz", "128x192", "--output", "end2end")
    assert exported.code == 0, exported.err
    with pytest.raises(InputError, match="cannot be compared with a reference: expected the forms 'float' and 'raw'"):
        check_against_reference(tmp_path / "end.onnx", of_family(tmp_path, "y26-detect-2heads"))
