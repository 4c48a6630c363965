"""`--alias`: a class of a fork is read as the official one, in every command that reads checkpoints for work."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

import yoloship
from helpers.cli import run
from helpers.shared import GENERATED, require
from yoloship.cli.command import alias_pair, alias_table
from yoloship.errors import CheckpointError, GraphError, InputError
from yoloship.graph.onnx_file import read_metadata

ALIAS = "forkpkg.nets.C3=models.common.C3"


@pytest.fixture
def fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose C3 blocks bear a fork's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "fork.pt"
    with zipfile.ZipFile(require(GENERATED / "v7-yolov5n.pt")) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("data.pkl"):
                assert b"cmodels.common\nC3\n" in data
                data = data.replace(b"cmodels.common\nC3\n", b"cforkpkg.nets\nC3\n")
            new.writestr(name, data)
    return path


def test_a_block_of_a_fork_is_refused_by_place_and_name_with_the_option_that_helps(fork: Path) -> None:
    ran = run("export", fork, "-o", "x.onnx", "--imgsz", "64")
    assert ran.code == 1
    assert "(forkpkg.nets.C3)" in ran.error
    assert "--alias forkpkg.nets.C3=" in ran.error


def test_an_alias_makes_it_the_official_block_and_the_file_says_so(fork: Path) -> None:
    assert run("export", fork, "-o", "x.onnx", "--imgsz", "64", "--alias", ALIAS).code == 0
    assert run("export", require(GENERATED / "v7-yolov5n.pt"), "-o", "y.onnx", "--imgsz", "64").code == 0
    found, official = onnx.load("x.onnx"), onnx.load("y.onnx")
    assert [node.op_type for node in found.graph.node] == [node.op_type for node in official.graph.node]
    assert found.graph.initializer == official.graph.initializer
    assert json.loads(read_metadata(found)["yoloship.aliases"]) == {"forkpkg.nets.C3": "models.common.C3"}
    assert "yoloship.aliases" not in read_metadata(official)
    assert "forkpkg.nets.C3 as models.common.C3" in " ".join(run("info", "x.onnx").out.split())
    assert "--alias" not in run("info", "y.onnx").out
    assert json.loads(run("info", "x.onnx", "--json").out)["aliases"] == {"forkpkg.nets.C3": "models.common.C3"}


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', "[" * 5000])
def test_a_damaged_note_of_aliases_is_none(fork: Path, text: str) -> None:
    assert run("export", fork, "-o", "x.onnx", "--imgsz", "64", "--alias", ALIAS).code == 0
    model = onnx.load("x.onnx")
    for entry in model.metadata_props:
        if entry.key == "yoloship.aliases":
            entry.value = text
    onnx.save(model, "z.onnx")
    shown = run("info", "z.onnx")
    assert shown.code == 0
    assert "--alias" not in shown.out


def test_python_takes_aliases_too_and_keeps_graphs_apart_by_them(fork: Path) -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    with pytest.raises(GraphError, match=r"forkpkg\.nets\.C3"):
        yoloship.load(fork, imgsz=64)
    with yoloship.load(fork, imgsz=64, aliases={"forkpkg.nets.C3": "models.common.C3"}) as detector:
        found = detector(image)
    with yoloship.load(require(GENERATED / "v7-yolov5n.pt"), imgsz=64) as detector:
        np.testing.assert_array_equal(detector(image).boxes_xyxy, found.boxes_xyxy)
    with pytest.raises(GraphError, match=r"forkpkg\.nets\.C3"):
        yoloship.load(fork, imgsz=64)


def test_detect_and_the_check_of_build_take_it(fork: Path) -> None:
    import cv2

    cv2.imwrite("a.png", np.full((64, 64, 3), 90, np.uint8))
    assert run("detect", fork, "a.png", "--no-draw", "--imgsz", "64", "--alias", ALIAS).code == 0
    ran = run("build", fork, "--imgsz", "64", "--check", "--alias", ALIAS)
    assert "ok    model:" in ran.out
    assert "FAIL  model:" in run("build", fork, "--imgsz", "64", "--check").out


def test_an_alias_does_not_open_what_the_official_block_does_not_have(fork: Path) -> None:
    """The block must hold what the official one holds, and nothing else."""
    ran = run("export", fork, "-o", "x.onnx", "--imgsz", "64", "--alias", "forkpkg.nets.C3=models.common.Conv")
    assert ran.code == 1
    assert "models.common.Conv" in ran.error


def test_an_alias_that_nothing_needs_is_an_error(fork: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no module of the class 'forkpkg\.C3', for which there is an alias"):
        yoloship.load(fork, imgsz=64, aliases={"forkpkg.C3": "models.common.C3"})


def test_an_alias_for_a_file_that_is_not_a_checkpoint_is_refused(fork: Path) -> None:
    assert run("export", fork, "-o", "x.onnx", "--imgsz", "64", "--alias", ALIAS).code == 0
    with pytest.raises(InputError, match="aliases: is for checkpoints"):
        yoloship.load("x.onnx", aliases={"a.B": "models.common.C3"})
    ran = run("build", "x.onnx", "--check", "--alias", ALIAS)
    assert ran.code == 2
    assert "--alias is for checkpoints" in ran.err


@pytest.mark.parametrize("text", ["C3=models.common.C3", "a.b", "a.b=", "=a.b", "a.b=C3", "a.b=c d.e", "a..b=c.d"])
def test_what_is_not_two_class_paths_is_a_usage_error(text: str, fork: Path) -> None:
    ran = run("export", fork, "--alias", text)
    assert ran.code == 2
    assert "is not an alias: give OLD.PATH=OFFICIAL.PATH" in ran.err


def test_two_names_for_one_class_are_a_usage_error(fork: Path) -> None:
    assert alias_pair(" a.b = c.d ") == ("a.b", "c.d")
    assert alias_table([("a.b", "c.d"), ("a.b", "c.d")]) == {"a.b": "c.d"}
    ran = run("export", fork, "--alias", ALIAS, "--alias", "forkpkg.nets.C3=models.common.Conv")
    assert ran.code == 2
    assert "--alias gives forkpkg.nets.C3 two names: models.common.C3 and models.common.Conv" in ran.err
