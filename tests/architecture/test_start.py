"""What a start of `detect` that finds its graph in the cache opens and imports: no more than it needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "src" / "yoloship" / "demo" / "codes-yolov5n.pt"

MOST_FUNCTIONS = 157
"""One of them draws an entry, for the annotated images and for the page of ``--show``: they once differed. Another
opens what a name leads to, for the two ways of reading it. Two make the class that checks options against the model.
Three remember what a camera writes into the headers of all its JPEGs, so that a GPU is not kept waiting for them."""
MOST_FILES = 37
"""Two of them were parts of files of nearly 600 lines: the sinks of `predict`, and the options of calls."""

PROGRAM = """
import json, sys, threading
opened, passed = [], set()
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith({source!r}) and not code.co_name.startswith("<"):
        passed.add((code.co_filename[len({source!r}) :], code.co_name, code.co_firstlineno))
sys.setprofile(note)
threading.setprofile(note)
from yoloship.cli import main
sys.argv = ["yoloship", "detect", "best.pt", "photo.jpg"]
try:
    code = main()
except SystemExit as exit:
    code = exit.code
sys.setprofile(None)
with open({report!r}, "w") as file:
    json.dump([code, opened, sorted(sys.modules), sorted(passed)], file)
"""


@dataclass(frozen=True)
class Start:
    """What a start passes through.

    Attributes:
        opened: Files that were opened, each as often as it was.
        modules: Modules that were imported.
        passed: Functions of ours that were called, and classes of ours that were made: file, name, first line.
    """

    opened: list[str]
    modules: list[str]
    passed: list[list[Any]]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """The second of two runs of ``yoloship detect best.pt photo.jpg``, on a photo without objects."""
    folder = tmp_path_factory.mktemp("start")
    report = folder / "report.json"
    shutil.copy(MODEL, folder / "best.pt")
    cv2.imwrite(os.fspath(folder / "photo.jpg"), np.full((96, 128, 3), 90, np.uint8))
    program = PROGRAM.format(source=os.fspath(ROOT / "src" / "yoloship"), report=os.fspath(report))
    environment = {**os.environ, "YOLOSHIP_CACHE": os.fspath(folder / "cache"), "PYTHONPATH": os.fspath(ROOT / "src")}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, cwd=folder
        )
        assert done.returncode == 0, done.stderr
        found: Any = json.loads(report.read_text())
        assert found[0] in {0, None}, done.stderr
    return Start(*found[1:])


def test_the_checkpoint_and_its_graph_are_opened_once(warm: Start) -> None:
    opened = warm.opened
    assert opened.count("best.pt") == 1
    assert sum(name.endswith(".onnx") for name in opened) == 1


def test_none_of_our_own_modules_is_read_to_know_that_it_did_not_change(warm: Start) -> None:
    opened = warm.opened
    assert [name for name in warm.modules if name.startswith(("yoloship.checkpoint", "yoloship.graph"))] == []
    rooms = tuple(os.fspath(ROOT / "src" / "yoloship" / room) for room in ("checkpoint", "graph"))
    assert [name for name in opened if name.startswith(rooms) and name.endswith(".py")] == []


@pytest.mark.parametrize(
    "room",
    [
        "yoloship.bounds",
        "yoloship.cuda",
        "yoloship.detect.batching",
        "yoloship.detect.gpu",
        "yoloship.engine",
        "yoloship.runtime.device",
        "yoloship.models.gpu_loading",
        "cuda",
        "onnx",
        "torch",
    ],
)
def test_a_cpu_imports_nothing_of_a_gpu_nor_what_builds_graphs(room: str, warm: Start) -> None:
    assert [name for name in warm.modules if name == room or name.startswith((f"{room}.", f"{room}_"))] == []


def test_a_start_passes_through_few_functions_and_files_of_ours(warm: Start) -> None:
    """They are what a newcomer steps through. The bounds may fall; whoever must raise one says why."""
    functions = {tuple(one) for one in warm.passed if not one[1].lstrip("_")[:1].isupper()}
    assert len(functions) <= MOST_FUNCTIONS, sorted(functions)
    files = sorted({file for file, _, _ in functions})
    assert len(files) <= MOST_FILES, files
