"""`yoloship demo`: works with no network, says what it found, and leaves what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from helpers.cli import Ran, run
from yoloship.engine import installed_flavours, sidecar_path
from yoloship.images import read_image

DOCS = Path(__file__).resolve().parents[3] / "docs"
OFFLINE = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"{event} {arguments}: the network was asked")
sys.addaudithook(refuse)
from yoloship.cli import main
main()
"""


def without_network() -> list[str]:
    """What runs a command in a network namespace of its own, where the machine allows it."""
    program = shutil.which("unshare")
    probe = [program, "--map-root-user", "--net", "true"] if program else ["false"]
    return probe[:-1] if subprocess.run(probe, capture_output=True, check=False).returncode == 0 else []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def ran(folder: Path) -> Ran:
    """The command as a newcomer runs it: a process of its own in an empty folder, with nothing but the package."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "PYTEST", "XDG_", "YOLOSHIP"))
    }
    done = subprocess.run(
        [*without_network(), sys.executable, "-c", OFFLINE, "demo"],
        cwd=folder,
        env={**environment, "HOME": str(folder / "no-home")},
        capture_output=True,
        text=True,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def test_it_finds_every_code_without_network(ran: Ran) -> None:
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith("found 7 of 7 codes; look at yoloship-demo/found.jpg\n")


def test_it_prints_what_the_qr_codes_say(ran: Ran) -> None:
    rows = [line.split() for line in ran.out.split("\n\n")[0].splitlines()]
    assert rows[0] == ["class", "score", "x1", "y1", "x2", "y2", "says"]
    assert sorted(" ".join(row[6:]) for row in rows[1:] if row[0] == "qr_code") == [
        "TICKET 57-638",
        "https://yoloship.example/p/00750",
    ]
    assert {row[0] for row in rows[1:]} == {"qr_code", "marker", "barcode"}


def test_every_file_that_it_names_is_there_and_no_other(ran: Ran, folder: Path) -> None:
    named = {Path(match) for match in re.findall(r"yoloship-demo/\S+", ran.out)}
    there = {path.relative_to(folder) for path in (folder / "yoloship-demo").rglob("*") if path.is_file()}
    assert there == named | {sidecar_path(path) for path in named if path.suffix == ".engine"}
    assert {path.name for path in named} >= {"scene.png", "codes-yolov5n.onnx", "found.jpg", "found.json"}


def test_nothing_is_left_outside_its_folder(ran: Ran, folder: Path) -> None:
    """No cache, no settings, and no device id for whoever counts devices."""
    assert [path.name for path in folder.iterdir()] == ["yoloship-demo"]


def test_each_step_says_how_long_it_took(ran: Ran) -> None:
    lines = ran.out.split("\n\n")[1].splitlines()
    assert lines[0].split() == ["step", "ms", "file", "result"]
    assert len(lines) == 10
    for line in lines[1:]:
        assert re.search(r"\s{2,}\d+\s*", line), line


def test_the_image_is_the_scene_with_boxes_drawn(ran: Ran, folder: Path) -> None:
    scene, found = read_image(folder / "yoloship-demo/scene.png"), read_image(folder / "yoloship-demo/found.jpg")
    assert scene.shape == found.shape == (720, 960, 3)
    changed = np.abs(scene.astype(int) - found).max(axis=2) > 60
    assert 0.005 < changed.mean() < 0.2


def test_the_image_in_the_readme_is_this_one(ran: Ran, folder: Path) -> None:
    shown, found = read_image(DOCS / "demo.jpg"), read_image(folder / "yoloship-demo/found.jpg")
    assert shown.shape == found.shape
    assert np.abs(shown.astype(int) - found).mean() < 1


def test_the_onnx_file_is_valid(ran: Ran, folder: Path) -> None:
    onnx.checker.check_model(onnx.load(folder / "yoloship-demo/codes-yolov5n.onnx"), full_check=True)


def test_the_json_is_as_detect_writes_it_with_the_texts(ran: Ran, folder: Path) -> None:
    (entry,) = json.loads((folder / "yoloship-demo/found.json").read_bytes())
    assert (entry["input"], entry["width"], entry["height"]) == ("scene.png", 960, 720)
    assert len(entry["detections"]) == 7
    for detection in entry["detections"]:
        assert sorted(detection) == ["box_xyxy", "class_id", "class_name", "score", "text"]
        assert (detection["text"] is not None) == (detection["class_name"] == "qr_code")
        assert 0.25 < detection["score"] <= 1
        assert len(detection["box_xyxy"]) == 4


def test_an_engine_is_built_where_a_flavour_is_installed_and_else_it_says_how(ran: Ran, folder: Path) -> None:
    line = next(line for line in ran.out.splitlines() if line.startswith("build a TensorRT engine"))
    if "rtx" in installed_flavours():
        assert "yoloship-demo/codes-yolov5n.engine" in line
        assert (folder / "yoloship-demo/codes-yolov5n.engine").stat().st_size > 1_000_000
    else:
        assert "left out: no TensorRT is installed; install one with: pip install" in line or "not built" in line


def test_its_own_earlier_output_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("demo", "-o", "a/b", "--seed", "1000000012").code == 0
    before = (tmp_path / "a/b/scene.png").read_bytes()
    again = run("demo", "-o", "a/b", "--seed", "1000000013")
    assert re.search(r"found \d+ of \d+ codes", again.out)
    assert (tmp_path / "a/b/scene.png").read_bytes() != before


def test_a_training_behind_one_of_its_names_is_never_replaced(tmp_path: Path) -> None:
    training = tmp_path / "best.pt"
    training.write_bytes(b"PK\x03\x04 a training of a week")
    (tmp_path / "found.jpg").symlink_to(training)
    error = run("demo", "-o", tmp_path, "--overwrite").error
    assert error == f"{tmp_path / 'found.jpg'}: would replace a checkpoint or another zip archive; give another name"
    assert training.read_bytes() == b"PK\x03\x04 a training of a week"


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run("demo", "-o", tmp_path / "file").error.startswith(f"{tmp_path / 'file'}: is a file, not a folder")


@pytest.mark.parametrize(("label_format", "labels"), [("coco", "annotations.json"), ("yolo", "data.yaml")])
def test_labelled_scenes_are_written_on_request(tmp_path: Path, label_format: str, labels: str) -> None:
    ran = run("demo", "--dataset", tmp_path / "set", "--count", "2", "--format", label_format)
    assert (ran.code, ran.err) == (0, "")
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/set: 2 scenes, \d+ codes, {label_format}\n", ran.out)
    assert (tmp_path / "set" / labels).exists()
    assert len(list((tmp_path / "set" / "images").iterdir())) == 2
    assert run("demo", "--dataset", tmp_path / "set").error.endswith(
        "set: already exists; give the name of a new folder"
    )


def test_options_that_contradict_each_other_are_wrong_usage(tmp_path: Path) -> None:
    for options in (["--count", "3"], ["--format", "yolo"]):
        ran = run("demo", *options)
        assert ran.code == 2
        assert "--count and --format need --dataset" in ran.err
    ran = run("demo", "--dataset", tmp_path / "set", "-o", tmp_path / "out")
    assert ran.code == 2
    assert "--dataset has its own folder" in ran.err
    assert run("demo", "--seed", "-1").code == 2
    assert list(tmp_path.iterdir()) == []
