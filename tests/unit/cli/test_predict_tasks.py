"""The names of ``yoloship predict`` for one task: what their help says, and that what it leaves out is refused."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.samples import sample
from yoloship.cli.app import COMMANDS
from yoloship.cli.predict import WITHOUT_EFFECT, predict
from yoloship.graph import GraphConfig, build_graph, graph_bytes

VALUES = {
    "--conf": "0.5",
    "--iou": "0.5",
    "--max-det": "5",
    "--classes": "0",
    "--mask-rule": "yolov5",
    "--head": "one2one",
    "--line-width": "2",
    "--coco": "found.json",
    "--txt": "labels",
    "--txt-conf": "labels",
    "--transform": "yolov5",
    "--track": "paper",
    "--slice": "64",
    "--slice-overlap": "0.1 --slice 64",
    "--slice-merge": "ios --slice 64",
    "--no-slice-whole": "--slice 64",
    "--crops": "crops",
    "--zones": "{folder}/zones.yaml",
}
"""A value for each hidden option that takes one."""
HIDDEN = [(task, option) for task, options in WITHOUT_EFFECT.items() for option in sorted(options)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each task and an image."""
    made = tmp_path_factory.mktemp("tasks")
    for task in WITHOUT_EFFECT:
        graph = build_graph(sample("ultralytics", task), GraphConfig((64, 64), 1))
        (made / f"{task}.onnx").write_bytes(graph_bytes(graph))
    (made / "zones.yaml").write_text("units: pixels\nlines: [{name: a, from: [0, 9], to: [9, 9]}]", encoding="utf-8")
    cv2.imwrite(str(made / "a.png"), np.random.default_rng(5).integers(0, 256, (96, 64, 3), dtype=np.uint8))
    return made


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def offered(*command: str) -> set[str]:
    """The long options in the help of a command."""
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", run(*command, "--help").out, re.MULTILINE))


@pytest.mark.parametrize("task", WITHOUT_EFFECT)
def test_the_help_of_a_task_leaves_out_what_has_no_effect_and_nothing_else(task: str) -> None:
    assert offered("predict") - offered(task) == WITHOUT_EFFECT[task] <= offered("predict")


@pytest.mark.parametrize("task", WITHOUT_EFFECT)
def test_the_help_of_a_task_says_what_it_refuses(task: str) -> None:
    helped = " ".join(run(task, "--help").out.split())
    assert f"{COMMANDS[task]} Prints a table" in helped
    assert "Models for other tasks are refused; 'yoloship predict' runs models for every task." in helped
    assert "do the same" not in helped
    assert "Run a model on images. Prints a table" in (predict.help or "")


@pytest.mark.parametrize(("task", "option"), HIDDEN)
def test_what_the_help_of_a_task_leaves_out_is_refused_before_anything_is_written(
    folder: Path, task: str, option: str
) -> None:
    words = [option, *(VALUES[option].format(folder=folder).split() if option in VALUES else [])]
    ran = run(task, folder / f"{task}.onnx", folder / "a.png", *words)
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1
    assert option in ran.error or option in {"--head", "--transform"}
    assert not list(Path().iterdir())


def test_a_classification_writes_no_boxes_and_says_what_it_can_write(folder: Path) -> None:
    ran = run("predict", folder / "classify.onnx", folder / "a.png", "--coco", "a.json", "--txt", "labels")
    before, able = ran.error.split("; leave it out; classes can be written with ")
    assert before.endswith("is a classification model, which has no boxes for --coco and --txt")
    writable = able.split(", ")
    assert {"--json", "--csv"} <= set(writable)
    assert not {"-o", "--coco", "--txt"} & set(writable)
