"""`--names` in place of a model's class names, and `--classes` by name and id."""

from __future__ import annotations

import json
from pathlib import Path

import click
import cv2
import numpy as np
import onnx
import pytest

import yoloship
from helpers.cli import run
from helpers.models import constant_raw, empty_rows
from helpers.shared import GENERATED, require
from yoloship.cli.options import class_names
from yoloship.detect.options import class_words
from yoloship.errors import InputError
from yoloship.graph.onnx_file import read_metadata, read_model_info

HW = (64, 96)


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    cv2.imwrite("a.png", np.full((*HW, 3), 90, np.uint8))
    return tmp_path


def model(names: str, path: str = "two.onnx") -> Path:
    """A foreign file that finds class 0 and class 1 in every image of its own size."""
    raw = empty_rows(HW, 7)
    raw[0, 27] = (30, 20, 20, 10, 0.9, 1.0, 0.0)
    raw[0, 67] = (60, 40, 30, 20, 0.8, 0.0, 0.75)
    Path(path).write_bytes(constant_raw(raw, HW, {"names": names, "stride": "32"}).SerializeToString())
    return Path(path)


def found(*arguments: str | Path) -> list[str]:
    ran = run("detect", *arguments, "a.png", "--no-draw", "--json", "-")
    assert ran.code == 0, ran
    return [entry["class_name"] for entry in json.loads(ran.out)[0]["detections"]]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("\ufeffcat, small\r\n\r\ndog\r\n", ("cat, small", "dog")),
        ("nc: 2\nnames: ['cat', \"dog\"]  # two\n", ("cat", "dog")),
        ("names: [cat, dog]\ntrain: x\n", ("cat", "dog")),
        ("names: ['cat',\n  'dog']\n", ("cat", "dog")),
        ("names: {0: 'cat', 1: 'dog'}\n", ("cat", "dog")),
        ("path: x\nnames:\n  0: cat\n  1: 'dog'\n\ntrain: y\n", ("cat", "dog")),
        ("names:\n- cat\n- dog # barks\n", ("cat", "dog")),
        ("names:\n  1: no\n  0: 007\n", ("007", "no")),
        ("name: tag\nnames of things: x\n", ("name: tag", "names of things: x")),
    ],
)
def test_a_file_of_names_is_read(content: str, names: tuple[str, ...]) -> None:
    Path("names.txt").write_text(content, encoding="utf-8")
    assert class_names("names.txt") == names


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no class names"),
        (b"names:\n  0: cat\n  2: dog\n", "names has ids that are not 0, 1, 2"),
        (b"names: {a: b}\n", "names has ids that are not 0, 1, 2"),
        (b"nc: 2\nnames:\n", "names is missing"),
        (b"names: [cat, cat]\nnames: [cat]\n", "line 2: has the key 'names' twice"),
        (b"a: &x [cat]\nnames: *x\n", "has the alias"),
        (b"names: [cat\n", "is not valid YAML"),
        (b"\xff\xfe", "cannot be read as text"),
        (b"a\n" * (1 << 20), "is too long for a list of class names"),
    ],
)
def test_a_file_without_usable_names_is_refused(content: bytes, words: str) -> None:
    Path("names.yaml").write_bytes(content)
    with pytest.raises(click.BadParameter, match=words):
        class_names("names.yaml")


def test_names_between_commas_are_read_however_many_there_are() -> None:
    assert class_names("cat, dog") == ("cat", "dog")
    assert len(class_names(",".join(f"class {index}" for index in range(500)))) == 500
    for bad, words in (("cat,,dog", "is empty"), ("missing.yaml", "no such file")):
        with pytest.raises(click.BadParameter, match=words):
            class_names(bad)


def test_a_value_that_is_a_class_name_is_not_split() -> None:
    names = ("car, red", "car", "red")
    assert class_words(["car, red"], names) == ("car, red",)
    assert class_words(["car,red", "2"], names) == ("car", "red", "2")


def test_classes_may_be_repeated_and_named_with_commas() -> None:
    path = model("['cat, small', 'dog']")
    assert found(path, "--classes", "cat, small") == ["cat, small"]
    assert found(path, "--classes", "cat, small", "--classes", "1") == ["cat, small", "dog"]


def test_a_class_id_out_of_range_says_the_range() -> None:
    ran = run("detect", model("['cat', 'dog']"), "a.png", "--classes", "2")
    assert ran.error == "2: no such class: expected an id from 0 to 1"
    assert run("detect", "two.onnx", "a.png", "--classes", "dgo").error == (
        "dgo: no such class: expected one of cat, dog, or an id from 0 to 1; did you mean 'dog'?"
    )


@pytest.mark.parametrize("in_file", ["['cat', 'dog']", "['only one']", "{0: broken", ""])
def test_names_replace_those_of_a_foreign_file_whatever_they_are(in_file: str) -> None:
    path = model(in_file)
    assert found(path, "--names", "hen,egg") == ["hen", "egg"]
    assert found(path, "--names", "hen,egg", "--classes", "egg") == ["egg"]
    assert run("detect", path, "a.png", "--names", "hen").error == (
        "two.onnx: needs one class name for each class: expected 2, got 1"
    )


def test_names_replace_those_of_a_checkpoint_in_detect_and_export() -> None:
    checkpoint = require(GENERATED / "v7-yolov5n.pt")
    detector = yoloship.load(checkpoint, imgsz=64, class_names=["x", "y", "z"])
    with detector:
        assert detector.class_names == ("x", "y", "z")
    with yoloship.load(checkpoint, imgsz=64) as detector:
        assert detector.class_names == ("alpha", "beta", "gamma")
    assert run("export", checkpoint, "-o", "x.onnx", "--imgsz", "64", "--names", "x,y,z").code == 0
    metadata = read_metadata(onnx.load("x.onnx"))
    assert metadata["names"] == "{0: 'x', 1: 'y', 2: 'z'}"
    info = read_model_info(metadata, "x.onnx")
    assert info is not None
    assert info.class_names == ("x", "y", "z")
    with yoloship.load("x.onnx", class_names=("1", "2", "3")) as detector:
        assert detector.class_names == ("1", "2", "3")
    error = run("export", checkpoint, "-o", "y.onnx", "--names", "x,y").error
    assert (
        "has 2 class names for 3 classes; give the names of its 3 classes with --names (class_names in Python)" in error
    )


@pytest.mark.parametrize("names", ["abc", [], ["a", ""], ["a", 1], ["a" * 2000, "b"]])
def test_what_is_not_a_list_of_names_is_refused(names: object) -> None:
    with pytest.raises(InputError, match="class_names: not usable as class names"):
        yoloship.load(model("['cat', 'dog']"), class_names=names)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names:\n- 'C # sharp'\n- \"b\"  # flat\n", ("C # sharp", "b")),
        ("names: ['it''s', b]\n", ("it's", "b")),
        ('names:\n  0: "caf\\u00e9"\n  1: a#b\n', ("caf\u00e9", "a#b")),
        ('"names": [a, b]\nnc: 2\n', ("a", "b")),
        ("'names':\n- a\n- b\n", ("a", "b")),
    ],
)
def test_quotes_of_yaml_are_undone_and_comments_are_told_from_names(
    text: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text, encoding="utf-8")
    assert class_names(str(path)) == names
