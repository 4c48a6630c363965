"""An option for each sink, ours and those of installed packages, and the files that they write."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from helpers.cat_folder import work_in_cat_folder
from helpers.cli import run
from helpers.plugins import install
from yoloship.sinks import SINKS

HW = (64, 96)

THEIR_SINK = '''
"""A third party's sink: all that it takes."""

from yoloship.sinks import Sink, TextSink


class WordsFile(TextSink):
    option = ("--words",)
    help = "Write a line of words for each image."
    suffix = ".txt"

    def record(self, entry):
        found = [one.class_name for one in entry.result or ()]
        return " ".join([entry.name, *found, ""]).strip().encode() + b"\\n"


class Sizes(Sink):
    option = ("--sizes",)
    metavar = "DIR"
    help = "Write the size of each image."
    target = "folder"
    needs_images = True

    def __init__(self, folder):
        self.folder = folder

    @classmethod
    def open(cls, path, *, overwrite=False, inputs=None):
        path.mkdir(exist_ok=True)
        return cls(path)

    @classmethod
    def file_names(cls, inputs):
        return [f"{path.name}.txt" for path in inputs]

    def write(self, entry):
        (self.folder / f"{entry.name}.txt").write_text(f"{entry.image.shape}")

    def close(self):
        pass


class Taken(WordsFile):
    option = ("--csv",)
'''


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that finds a cat in any image, and two images."""
    return work_in_cat_folder(tmp_path / "work", HW, monkeypatch)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with sinks, on the path as pip would install it."""
    classes = {"words": "WordsFile", "sizes": "Sizes", "taken": "Taken", "broken": "Missing"}
    entries = {name: f"their_sink:{one}" for name, one in classes.items()}
    modules = {"their_sink": THEIR_SINK}
    install(monkeypatch, tmp_path / "site", "yoloship.sinks", entries, package="their-package", modules=modules)


def files() -> set[str]:
    return {path.as_posix() for path in Path().rglob("*") if path.is_file()} - {"cat.onnx", "a.png", "b.png"}


def test_the_help_has_an_option_for_every_sink_of_ours() -> None:
    lines = run("detect", "--help").out
    for name in SINKS.own:
        kind = SINKS.load(name)
        assert f"{', '.join(kind.option)} {kind.metavar}" in lines


def test_detections_are_written_as_csv() -> None:
    ran = run("detect", "cat.onnx", "a.png", "b.png", "--no-draw", "--csv", "found.csv")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith("csv: found.csv\n")
    with Path("found.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["input"], row["class_name"]) for row in found] == [("a.png", "cat"), ("b.png", "cat")]
    assert files() == {"found.csv"}


def test_csv_on_stdout_is_all_that_stands_there() -> None:
    ran = run("detect", "cat.onnx", "a.png", "--no-draw", "--csv", "-")
    assert (ran.code, ran.err) == (0, "")
    heading, row = ran.out.splitlines()
    assert heading == "input,index,time_s,class_id,class_name,score,x1,y1,x2,y2,track_id"
    assert row.startswith('"a.png",0,"",0,"cat",')


def test_several_sinks_write_at_once() -> None:
    ran = run("detect", "cat.onnx", "a.png", "b.png", "-o", "out", "--csv", "found.csv", "--json", "found.json")
    assert ran.code == 0
    assert ran.out.splitlines()[-3:] == ["annotated: out", "csv: found.csv", "json: found.json"]
    assert files() == {"out/a.png", "out/b.png", "found.csv", "found.json"}
    assert len(json.loads(Path("found.json").read_bytes())) == len(Path("found.csv").read_text().splitlines()) - 1


def test_two_sinks_cannot_share_a_file_or_stdout() -> None:
    ran = run("detect", "cat.onnx", "a.png", "--no-draw", "--csv", "-", "--json", "-")
    assert ran.code == 2
    assert "--csv and --json cannot both be written to stdout" in ran.err or "--json and --csv cannot both" in ran.err
    ran = run("detect", "cat.onnx", "a.png", "--no-draw", "--csv", "found", "--json", "found")
    assert "is used for two outputs" in ran.error
    assert files() == set()


def test_a_csv_file_that_exists_is_kept_unless_told_otherwise() -> None:
    Path("found.csv").write_text("mine")
    ran = run("detect", "cat.onnx", "a.png", "--no-draw", "--csv", "found.csv")
    assert ran.error == "found.csv: already exists; give another name, or --overwrite"
    assert Path("found.csv").read_text() == "mine"
    assert run("detect", "cat.onnx", "a.png", "--no-draw", "--csv", "found.csv", "--overwrite").code == 0


def test_a_third_partys_sink_is_an_option(installed: None) -> None:
    ran = run("detect", "cat.onnx", "a.png", "b.png", "--no-draw", "--words", "found.txt")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "words: found.txt")
    assert Path("found.txt").read_text() == "a.png cat\nb.png cat\n"
    assert run("detect", "cat.onnx", "a.png", "--no-draw", "--words=-").out == "a.png cat\n"
    again = run("detect", "cat.onnx", "a.png", "--no-draw", "--words", "found.txt")
    assert "found.txt: already exists" in again.err


def test_a_third_partys_folder_of_files_is_protected_too(installed: None) -> None:
    ran = run("detect", "cat.onnx", "a.png", "--no-draw", "--sizes", "sizes")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "sizes: sizes")
    assert Path("sizes/a.png.txt").read_text() == "(64, 96, 3)"
    assert "sizes/a.png.txt: already exists" in run("detect", "cat.onnx", "a.png", "--no-draw", "--sizes", "sizes").err
    ran = run("detect", "cat.onnx", "a.png", "--no-draw", "--sizes", "-")
    assert (ran.code, "--sizes cannot be written to stdout" in ran.err) == (2, True)


def test_the_help_shows_what_third_parties_add_and_says_what_it_leaves_out(installed: None) -> None:
    ran = run("detect", "--help")
    assert ran.code == 0
    assert "--words FILE" in ran.out
    assert "Write a line of words for each image." in ran.out
    assert ran.out.count("--csv FILE") == 1
    assert sorted(ran.err.splitlines(), reverse=True) == [
        "warning: the sink 'taken' is left out: its option --csv is already taken",
        "warning: broken: the sink that their-package adds cannot be imported: module 'their_sink' has no attribute "
        "'Missing': expected their_sink:Missing; install a compatible version, or uninstall it",
    ]


def test_an_unknown_option_is_still_wrong_usage(installed: None) -> None:
    ran = run("detect", "cat.onnx", "a.png", "--wordz", "found.txt")
    assert (ran.code, "No such option" in ran.err) == (2, True)


def test_a_run_without_third_parties_does_not_look_for_any(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: object, **__: object) -> None:
        raise AssertionError("third parties were looked for, which takes as long as the rest of the start")

    monkeypatch.setattr("importlib.metadata.entry_points", looked)
    monkeypatch.setattr("yoloship._util.tables._points", looked)  # which remembers what it has found
    assert run("detect", "cat.onnx", "a.png", "--csv", "-", "--no-draw").code == 0
