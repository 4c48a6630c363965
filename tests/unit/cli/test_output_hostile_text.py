"""Names and metadata that try to steer the terminal: nothing of it reaches stdout, stderr or JSON as it is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import onnx
import pytest

from helpers.cli import Ran, run
from helpers.models import constant_raw, empty_rows

HW = (64, 96)
EVIL = "\x1b]0;t\x07\x1b[2J\x9b31m\u202egpj\u200b\u2066\ufeff\x7f"


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    raw = empty_rows(HW, 7)
    raw[0, 27] = (30, 20, 20, 10, 0.9, 1.0, 0.0)
    metadata = {"names": f"['{EVIL}', 'dog']", "stride": "32", EVIL: EVIL, "author": EVIL}
    path = tmp_path / "m.onnx"
    path.write_bytes(constant_raw(raw, HW, metadata).SerializeToString())
    return path


def image(name: str) -> str:
    done, data = cv2.imencode(".png", np.full((*HW, 3), 90, np.uint8))
    assert done
    Path(name).write_bytes(data.tobytes())
    return name


def clean(ran: Ran) -> Ran:
    for text in (ran.out, ran.err):
        assert all(letter.isprintable() or letter == "\n" for letter in text), ascii(text)
    return ran


def test_tables_and_json_show_names_of_classes_and_files_escaped() -> None:
    name = image(f"a{EVIL}.png")
    shown = clean(run("detect", "m.onnx", name, "--no-draw"))
    assert shown.code == 0
    assert "\\x1b[2J" in shown.out
    assert "\\u202e" in shown.out
    document = clean(run("detect", "m.onnx", name, "--no-draw", "--json", "-")).out
    (entry,) = json.loads(document)
    assert entry["input"] == name
    assert entry["detections"][0]["class_name"] == EVIL
    assert run("detect", "m.onnx", name, "--no-draw", "--json", "f.json").code == 0
    assert Path("f.json").read_text(encoding="utf-8") == document


@pytest.mark.skipif(sys.platform == "darwin" or os.name != "posix", reason="its file names are Unicode")
def test_a_name_that_is_not_utf_8_gives_valid_json() -> None:
    name = os.fsdecode(b"caf\xe9.png")
    image(name)
    document = clean(run("detect", "m.onnx", name, "--no-draw", "--json", "-")).out
    assert json.loads(document.encode("utf-8"))[0]["input"] == name
    assert "caf\\udce9.png" in clean(run("detect", "m.onnx", name, "--no-draw")).out


def test_errors_show_file_names_escaped() -> None:
    for arguments in (("info", EVIL), ("detect", "m.onnx", EVIL, "--no-draw"), ("export", EVIL), (EVIL,)):
        ran = clean(run(*arguments))
        assert ran.code in {1, 2}
        assert "x1b" in ran.err


@pytest.mark.skipif(sys.platform == "darwin" or os.name != "posix", reason="its file names are Unicode")
def test_every_command_takes_a_model_whose_name_is_not_utf_8() -> None:
    name = os.fsdecode(b"m\xe9\xe2\x80\xae.onnx")
    Path(name).write_bytes(Path("m.onnx").read_bytes())
    image("a.png")
    ran = clean(run("bench", name, "--rounds", "1", "--runs", "1", "--seconds", "0", "--json", "-", "--plot", "b.svg"))
    assert json.loads(ran.out)["results"][0]["model"] == name
    assert ET.parse("b.svg").getroot().tag.endswith("svg")
    ran = clean(run("verify", name, "m.onnx", "--images", "a.png", "--json", "-"))
    assert json.loads(ran.out)["sides"][0]["name"] == name
    assert clean(run("info", name)).code == 0


def test_class_names_that_are_not_text_are_refused() -> None:
    image("a.png")
    ran = clean(run("detect", "m.onnx", "a.png", "--names", os.fsdecode(b"caf\xe9,dog")))
    assert ran.error.startswith("--names: not usable as class names")


@pytest.mark.parametrize("command", ["info", "inspect"])
def test_metadata_is_shown_escaped(command: str) -> None:
    ran = clean(run(command, "m.onnx"))
    assert ran.code == 0
    assert "\\x1b[2J" in ran.out
    assert onnx.load("m.onnx").metadata_props[0].key == "names"
    data = json.loads(clean(run("inspect", "m.onnx", "--json")).out)
    assert data["metadata"]["author"] == EVIL
