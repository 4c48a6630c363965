"""`yoloship info` and the program itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import forge
from helpers.cli import run
from helpers.shared import CHECKPOINTS, GENERATED, TRAINED, require
from yoloship import __version__
from yoloship.cli.app import COMMANDS


def facts(text: str) -> dict[str, str]:
    """First word or words of each line → the rest, lines that go on joined."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if not line.startswith(" "):
            name, _, line = line.partition("  ")  # noqa: PLW2901
        found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found


def test_a_checkpoint_shows_what_it_is() -> None:
    ran = run("info", require(TRAINED / "coco-yolov5n.pt"))
    assert (ran.code, ran.err) == (0, "")
    shown = facts(ran.out)
    assert shown["kind"].startswith("YOLOv5 checkpoint, detect")
    assert shown["classes"].startswith("80: person, bicycle, car")
    assert shown["strides"] == "8, 16, 32"
    assert shown["parameters"] == "1,872,157"
    assert shown["arithmetic"] == "4.5 GFLOPs at 640×640"
    assert shown["epoch"] == "-1 (training is finished)"
    assert len(shown["sha256"]) == 64


def test_a_classifier_shows_its_size_and_how_images_become_its_input() -> None:
    shown = facts(run("info", require(GENERATED / "v7-yolov5n-cls.pt")).out)
    assert "classify" in shown["kind"]
    assert shown["classes"] == "5: ant, bee, cat, dog, elk"
    assert shown["arithmetic"].endswith("GFLOPs at 224×224")
    assert shown["transform"].startswith("centre square to 224x224, opencv-linear, mean 0.485/0.456/0.406")
    shown = facts(run("info", require(CHECKPOINTS / "families" / "sd-resnet18.pt")).out)
    assert shown["transform"] == "not in the file; give it with --transform"
    assert shown["kind"].startswith("ResNet checkpoint, classify")
    assert shown["size"] == "224×224 by default"
    assert shown["classes"].startswith("1000: tench, goldfish")
    assert shown["parameters"] == "11,689,512"


def test_a_graph_that_classifies_shows_its_transform() -> None:
    run("export", require(GENERATED / "v7-yolov5n-cls.pt"), "-o", "x.onnx")
    shown = facts(run("info", "x.onnx").out)
    assert shown["transform"].startswith("centre square to 224x224")
    assert shown["form"] == "input float, output raw (logits), float32"
    assert "strides" not in shown


def write(path: Path, **beside: bytes) -> Path:
    names = beside.pop("names", forge.listed(forge.text("helmet"), forge.text("vest")))
    table = forge.table({**beside, "model": forge.model({"names": names})})
    path.write_bytes(forge.zip_bytes(forge.end(table)))
    return path


def test_what_a_checkpoint_holds_and_nobody_reads_is_listed_with_its_unknown_classes(tmp_path: Path) -> None:
    settings = forge.listed(forge.instance("mypkg.Config"), forge.instance("torch.optim.sgd.SGD"))
    weights = forge.listed(forge.tensor(forge.storage("1", 3), (3,), (1,)))
    path = write(tmp_path / "x.pt", settings=settings, weights=weights, epoch=forge.integer(7))
    shown = facts(run("info", path).out)
    assert shown["not read"] == "settings (torch.optim.sgd.SGD, mypkg.Config), weights"
    assert shown["epoch"] == "7"
    ran = run("inspect", path, "--json")
    assert json.loads(ran.out)["not read"] == {"settings": ["torch.optim.sgd.SGD", "mypkg.Config"], "weights": []}


def test_class_names_that_cannot_be_used_are_said_and_the_rest_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pt", names=forge.listed(forge.text("one")))
    shown = facts(run("info", path).out)
    assert shown["classes"] == "has 1 class name for 2 classes; give them with --names"
    assert shown["strides"] == "8, 16, 32"


def test_a_table_of_metadata_is_bounded_in_rows_and_width(tmp_path: Path) -> None:
    many = {f"key{index:04}" + "x" * 300: forge.text("y" * 3000) for index in range(300)}
    ran = run("info", write(tmp_path / "x.pt", **many))
    assert ran.code == 0
    assert "200 more entries" in ran.out
    assert len(ran.out) < 100_000


def test_an_exported_file_shows_its_form_and_where_it_came_from(tmp_path: Path) -> None:
    checkpoint = require(GENERATED / "v7-yolov5n.pt")
    target = tmp_path / "x.onnx"
    assert (
        run("export", checkpoint, "-o", target, "--imgsz", "64x96", "--input", "image", "--output", "heads").code == 0
    )
    shown = facts(run("info", target).out)
    assert shown["kind"].startswith("ONNX, opset 17")
    assert shown["form"] == "input image, output heads, float32"
    assert shown["input"] == "images uint8(1, 64, 96, 3)"
    assert "head2 float32(1, 24, 2, 3)" in shown["output"]
    assert facts(run("info", checkpoint).out)["sha256"] in shown["made from"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "x: no such file"), (b"", "x: "), (b"hello", "x: "), (b"PK\x03\x04", "x: ")],
)
def test_other_files_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("x").write_bytes(content)
    assert run("info", "x").error.startswith(message)


def test_the_version_is_shown() -> None:
    assert run("--version").out == f"yoloship {__version__}\n"


def test_every_command_has_help_with_examples() -> None:
    for command in COMMANDS:
        ran = run(command, "--help")
        assert ran.code == 0
        assert "Examples:\n    yoloship " in ran.out
        assert "\b" not in ran.out
    ran = run("--help")
    assert all(f"  {command} " in ran.out for command in COMMANDS)


def test_the_module_runs_as_the_program_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "yoloship", "info", "no-such.pt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: no-such.pt: no such file\n"


def test_inspect_is_another_name_of_info(tmp_path: Path) -> None:
    checkpoint = require(GENERATED / "v7-yolov5n.pt")
    assert run("inspect", checkpoint).out == run("info", checkpoint).out
    assert "'info' and 'inspect' are the same command" in run("info", "--help").out
    assert "Another name for info." in run("--help").out
    data = json.loads(run("info", checkpoint, "--json").out)
    assert (data["kind"], data["classes"], data["parameters"]) == ("checkpoint", ["alpha", "beta", "gamma"], 447544)


def test_a_quantized_file_has_its_parameters(tmp_path: Path, photos: Path) -> None:
    checkpoint, target = require(GENERATED / "v7-yolov5n.pt"), tmp_path / "q.onnx"
    options = ("--imgsz", "64", "--precision", "int8", "--calibrate", photos / "bus.jpg", "--max-drop", "1")
    assert run("export", checkpoint, "-o", target, *options).code == 0
    data = json.loads(run("info", target, "--json").out)
    assert 400_000 < data["parameters"] < 460_000
    assert "Conv in int8" in "".join(data["weighted layers"])


@pytest.mark.parametrize(
    ("name", "row", "words"),
    [
        ("v8-pose-kpt5x2", "keypoints", "5, x and y"),
        ("y26-pose", "keypoints", "17, x, y and visibility"),
        ("y5-seg", "masks", "by the rule yolov5"),
    ],
)
def test_keypoints_and_masks_are_shown_of_a_checkpoint_and_of_its_graph(
    name: str, row: str, words: str, tmp_path: Path
) -> None:
    checkpoint = require(CHECKPOINTS / "families" / f"{name}.pt")
    assert facts(run("info", checkpoint).out)[row] == words
    assert run("export", checkpoint, "-o", tmp_path / "a.onnx", "--imgsz", "64").code == 0
    assert facts(run("info", tmp_path / "a.onnx").out)[row] == words
