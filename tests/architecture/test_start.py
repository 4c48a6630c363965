"""What a start of `detect` that finds its graph in the cache opens and imports: no more than it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "src" / "yoloship" / "demo" / "codes-yolov5n.pt"

PROGRAM = """
import json, sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from yoloship.cli import main
sys.argv = ["yoloship", "detect", {model!r}, {image!r}, "--no-draw", "--json", {json!r}, "--overwrite"]
try:
    code = main()
except SystemExit as exit:
    code = exit.code
with open({report!r}, "w") as file:
    json.dump([code, opened, sorted(sys.modules)], file)
"""


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Files opened and modules imported by the second of two runs."""
    folder = tmp_path_factory.mktemp("start")
    image, report = folder / "image.png", folder / "report.json"
    cv2.imwrite(os.fspath(image), np.full((96, 128, 3), 90, np.uint8))
    names = {"model": MODEL, "image": image, "json": folder / "found.json", "report": report}
    program = PROGRAM.format(**{key: os.fspath(path) for key, path in names.items()})
    environment = {**os.environ, "YOLOSHIP_CACHE": os.fspath(folder / "cache"), "PYTHONPATH": os.fspath(ROOT / "src")}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found: Any = json.loads(report.read_text())
        assert found[0] in {0, None}, done.stderr
    return found[1], found[2]


def test_the_checkpoint_and_its_graph_are_opened_once(warm: tuple[list[str], list[str]]) -> None:
    opened, _ = warm
    assert opened.count(os.fspath(MODEL)) == 1
    assert sum(name.endswith(".onnx") for name in opened) == 1


def test_none_of_our_own_modules_is_read_to_know_that_it_did_not_change(warm: tuple[list[str], list[str]]) -> None:
    opened, modules = warm
    assert [name for name in modules if name.startswith(("yoloship.checkpoint", "yoloship.graph"))] == []
    rooms = tuple(os.fspath(ROOT / "src" / "yoloship" / room) for room in ("checkpoint", "graph"))
    assert [name for name in opened if name.startswith(rooms) and name.endswith(".py")] == []


@pytest.mark.parametrize(
    "room",
    [
        "yoloship.cuda",
        "yoloship.engine",
        "yoloship.runtime.device",
        "yoloship.models.gpu_loading",
        "cuda",
        "onnx",
        "torch",
    ],
)
def test_a_cpu_imports_nothing_of_a_gpu_nor_what_builds_graphs(room: str, warm: tuple[list[str], list[str]]) -> None:
    _, modules = warm
    assert [name for name in modules if name == room or name.startswith((f"{room}.", f"{room}_"))] == []
