"""NVIDIA's Polygraphy reads the ONNX files that are exported: names, shapes, types and weights are as we say."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import yoloship
from helpers.cli import run
from helpers.shared import IN_CI
from yoloship.graph import read_onnx

DEMO = Path(yoloship.__file__).parent / "demo" / "codes-yolov5n.pt"


def polygraphy(*words: str | Path) -> str:
    """What the tool prints."""
    tool = shutil.which("polygraphy", path=str(Path(sys.executable).parent))
    if tool is None or importlib.util.find_spec("polygraphy") is None:
        if IN_CI:
            pytest.fail("polygraphy is not installed; CI must have it")
        pytest.skip("polygraphy is not installed")
    done = subprocess.run([sys.executable, tool, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "options", [("--output", "raw"), ("--output", "nms", "--batch", "dynamic", "--input", "image")]
)
def test_polygraphy_reads_the_same_inputs_outputs_and_nodes(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "codes.onnx"
    assert run("export", DEMO, "-o", path, "--imgsz", "64", *options).code == 0
    text = " ".join(polygraphy("inspect", "model", path).split())
    file = read_onnx(path)
    for spec in (*file.inputs, *file.outputs):
        shape = ", ".join(repr(axis) for axis in spec.shape) + ("," if len(spec.shape) == 1 else "")
        assert f"{spec.name} [dtype={spec.dtype}, shape=({shape})]" in text, text[:2000]
    assert f"---- {sum(dict(file.operators).values())} Node(s) ----" in text
    assert f"ONNX Opset: {file.opset}" in text
