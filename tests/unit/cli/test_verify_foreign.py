"""Commands that compare and measure, on exports of other projects, which say less about themselves than ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.cli import run
from helpers.images import saved
from helpers.other_exports import constant_export, detr_export

if TYPE_CHECKING:
    from pathlib import Path

BENCH = ("--rounds", "1", "--runs", "1", "--seconds", "0")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(saved(np.full((100, 300, 3), 90, np.uint8), "PNG"))
    return path


@pytest.fixture
def detr(tmp_path: Path) -> Path:
    path = tmp_path / "detr.onnx"
    path.write_bytes(detr_export().SerializeToString())
    return path


def test_a_detr_is_verified_and_measured_with_the_class_names_that_are_given(detr: Path, image: Path) -> None:
    names = ("--names", "cat,dog")
    ran = run("verify", detr, detr, "--images", image, *names, "--json", "-")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["passed"]
    assert run("bench", detr, *BENCH, *names).code == 0
    for command in (("verify", detr, detr, "--images", image), ("bench", detr, *BENCH), ("predict", detr, image)):
        ran = run(*command)
        assert ran.code == 1
        assert ran.err.splitlines()[-1].endswith("give them with --names (class_names in Python)")


def test_class_names_come_from_one_option(detr: Path, image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
    assert run("verify", detr, detr, "--images", image, "--names-from", folder).code == 0
    for command in (("verify", detr, detr, "--images", image), ("bench", detr, *BENCH)):
        assert run(*command, "--names-from", folder, "--names", "cat,dog").code == 2


def test_a_classification_model_needs_its_transform_everywhere(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # annotated images are written here
    path = tmp_path / "logits.onnx"
    path.write_bytes(constant_export({"output": np.array([[1, 9, -3]], np.float32)}).SerializeToString())
    names = ("--names", "cat,dog,cow")
    transform = ("--transform", "stretch")
    for command in (("verify", path, path, "--images", image), ("predict", path, image)):
        ran = run(*command, *names)
        assert ran.code == 1
        assert "does not say how images become its input" in ran.err.splitlines()[-1]
    assert run("verify", path, path, "--images", image, *names, *transform).code == 0
    assert run("bench", path, *BENCH, *names, *transform).code == 0
    ran = run("predict", path, image, *names, *transform, "--json", "-")
    assert ran.code == 0, ran.err
    assert "dog" in ran.out
