"""Whatever a user names is opened without waiting, and refused in one line if it is not a file."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from helpers.cli import run
from helpers.models import finds_a_cat

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes"),
    pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero"),
]

HW = (64, 96)

ODD = {"pipe": "is a pipe, not ", "/dev/zero": "is a device, not ", "folder": "is a folder, not "}

COMMANDS: dict[str, tuple[str, ...]] = {
    "detect": ("detect", "ODD", "a.png", "--no-draw"),
    "export": ("export", "ODD", "-o", "out.onnx"),
    "build": ("build", "ODD", "-o", "out.engine"),
    "info": ("info", "ODD"),
    "inspect": ("inspect", "ODD"),
    "bench": ("bench", "ODD"),
    "verify, the first": ("verify", "ODD", "two.onnx", "--images", "a.png"),
    "verify, the second": ("verify", "two.onnx", "ODD", "--images", "a.png"),
}

SIDE_FILES: dict[str, tuple[str, ...]] = {
    "labels/a.txt": ("verify", "two.onnx", "two.onnx", "--images", "a.png", "--labels", "labels"),
    "cached.engine.json": ("info", "cached.engine"),
    "w.data": ("info", "big.onnx"),
    "images/b.png": ("detect", "two.onnx", "images/b.png", "--no-draw"),
}


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    model = finds_a_cat(HW)
    Path("two.onnx").write_bytes(model.SerializeToString())
    onnx.save(model, "big.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    Path("w.data").unlink()
    header = b"vtrt" + bytes(12) + (64).to_bytes(8, "little") + bytes((1, 7, 1, 116))
    Path("cached.engine").write_bytes(header.ljust(64, b"\0"))
    cv2.imwrite("a.png", np.full((*HW, 3), 90, np.uint8))
    for folder in ("folder", "labels", "images"):
        Path(folder).mkdir()
    os.mkfifo("pipe")
    return tmp_path


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_that_is_not_a_file_is_refused_at_once(command: str, odd: str) -> None:
    ran = run(*(odd if word == "ODD" else word for word in COMMANDS[command]))
    assert f"error: {odd}: {ODD[odd]}" in ran.err
    assert ran.code == 1


@pytest.mark.parametrize(
    ("name", "way"),
    [
        (name, way)
        for name in SIDE_FILES
        for way in ("pipe", "device", "link to a device", "folder")
        if name != "images/b.png" or "device" in way  # pipes and folders of images are read
    ],
)
def test_what_lies_beside_a_model_or_an_image_is_opened_no_other_way(name: str, way: str) -> None:
    path = Path(name)
    if way == "pipe":
        os.mkfifo(path)
    elif way == "folder":
        path.mkdir()
    elif way == "device":
        path.symlink_to("/dev/zero")
    else:
        Path("middle").symlink_to("/dev/zero")
        path.symlink_to(Path("middle").absolute())
    ran = run(*SIDE_FILES[name])
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    said = "behind a link" if name == "w.data" and "device" in way else f"is a {way.rpartition(' ')[2]}, not "
    assert said in ran.err


EMPTY: dict[str, tuple[str, ...]] = {
    "detect, the model": ("detect", "", "a.png"),
    "detect, an image": ("detect", "two.onnx", "a.png", ""),
    "detect -o": ("detect", "two.onnx", "a.png", "-o", ""),
    "detect --json": ("detect", "two.onnx", "a.png", "--json", ""),
    "export -o": ("export", "two.pt", "-o", ""),
    "export --calibrate": ("export", "two.pt", "--precision", "int8", "--calibrate", ""),
    "export --labels": ("export", "two.pt", "--precision", "int8", "--calibrate", "images", "--labels", ""),
    "build -o": ("build", "two.onnx", "-o", ""),
    "build --timing-cache": ("build", "two.onnx", "--timing-cache", ""),
    "verify --images": ("verify", "two.onnx", "two.onnx", "--images", ""),
    "verify --labels": ("verify", "two.onnx", "two.onnx", "--images", "a.png", "--labels", ""),
    "verify --plot": ("verify", "two.onnx", "two.onnx", "--images", "a.png", "--plot", ""),
    "bench --source": ("bench", "two.onnx", "--source", ""),
    "demo -o": ("demo", "-o", ""),
    "demo --dataset": ("demo", "--dataset", ""),
}


@pytest.mark.parametrize("arguments", EMPTY.values(), ids=EMPTY)
def test_an_empty_name_is_refused_instead_of_meaning_the_current_folder(arguments: tuple[str, ...]) -> None:
    before = sorted(Path().iterdir())
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "the name is empty" in ran.err.splitlines()[-1]
    assert sorted(Path().iterdir()) == before


def test_a_file_that_begins_like_an_option_is_refused_with_the_way_to_name_it() -> None:
    Path("-x.png").write_bytes(Path("a.png").read_bytes())
    ran = run("detect", "two.onnx", "-x.png")
    assert ran.code == 2
    assert ran.err.endswith("No such option '-x'. If you mean the file, write ./-x.png\n")
    assert run("detect", "two.onnx", "./-x.png", "--no-draw").code == 0


def test_a_name_with_a_line_break_stays_on_the_line_of_the_error() -> None:
    ran = run("verify", "two.onnx", "two.onnx", "--images", "a.png", "--labels", "x\nerror: y")
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == "Error: --labels x\\x0aerror: y: there is no such folder"


def test_a_link_that_leads_nowhere_is_not_said_to_be_like_itself() -> None:
    Path("lost.png").symlink_to("nowhere.png")
    assert run("detect", "two.onnx", "lost.png", "--no-draw").error == "lost.png: no such file"


@pytest.mark.parametrize("name", ["pipe", "./folder", "lost", "/dev/zero"])
def test_what_exists_is_never_taken_for_a_class_name(name: str) -> None:
    Path("lost").symlink_to("nowhere")
    ran = run("detect", "two.onnx", "a.png", "--no-draw", "--names", name)
    assert ran.code == 2
    assert f"Invalid value for '--names': {Path(name)}: " in ran.err


def test_a_folder_may_be_called_like_a_class() -> None:
    ran = run("detect", "two.onnx", "a.png", "--no-draw", "--names", "folder")
    assert ran.error.startswith("two.onnx: needs one class name for each class: expected 2, got 1")


def test_one_file_that_may_not_be_read_is_no_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens it says so, and the run goes on with the next image."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert run("detect", "two.onnx", "a.png", "--no-draw").code == 0
