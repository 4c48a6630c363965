"""``yoloship batch`` on this machine: the files, going on after a stop, and one line for what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import batches
from helpers.cli import run
from helpers.stores import s3_server

COUNT = 40
COMMAND = ("batch", "cat.onnx", "in", "-o", "out", "--part-images", "7")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    batches.write_model(tmp_path)
    batches.write_pictures(tmp_path / "in", COUNT)
    return tmp_path


def test_the_rows_are_those_of_predict(work: Path) -> None:
    import pyarrow.parquet

    done = run(*COMMAND, "--max-failed", "0.1")
    assert done.code == 0, done
    assert "out: 40 images in 6 parts; 37 cat" in done.err
    assert "error: 3 of 40 images failed" in done.err
    run("predict", "cat.onnx", "in", "--no-draw", "--parquet", "all.parquet", "--jsonl", "all.jsonl", "-q")
    assert batches.rows(work / "out") == pyarrow.parquet.read_table("all.parquet").to_pylist()
    assert pyarrow.parquet.read_table("out").num_rows == COUNT  # the manifest is passed over
    lines = run("batch", "cat.onnx", "in", "-o", "lines", "--format", "jsonl", "-q")
    assert (lines.code, lines.err) == (1, "error: 3 of 40 images failed\n")
    assert b"".join(batches.files(work / "lines").values()) == Path("all.jsonl").read_bytes()
    manifest = json.loads(Path("lines/_yoloship.json").read_bytes())
    assert (manifest["images"], manifest["failed"], manifest["objects"]) == (40, 3, {"cat": 37})
    assert manifest["parts"] == len(batches.files(work / "lines"))


def test_lost_parts_are_made_again_and_an_ended_batch_has_nothing_left(work: Path) -> None:
    run(*COMMAND)
    before = batches.files(work / "out")
    for name in ("part-00001.parquet", "part-00004.parquet"):
        (work / "out" / name).unlink()
    again = run(*COMMAND, "--resume")
    assert "26 of 40 images done before, 2 parts left" in again.err
    assert "out: 40 images in 6 parts; 37 cat" in again.err
    assert batches.files(work / "out") == before
    done = run(*COMMAND, "--resume")
    assert "nothing left to do: 40 images done before (out)" in done.err
    assert done.code == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "out: holds a batch: got a batch of 40 images, which has ended; give a new folder, or --resume"),
        (("--resume", "--conf", "0.5"), "another option: expected no --conf, got --conf 0.5"),
        (("--resume", "--format", "jsonl"), "another format: expected --format parquet, got jsonl"),
    ],
)
def test_a_folder_of_another_batch_is_refused_by_name(more: tuple[str, ...], words: str) -> None:
    run(*COMMAND)
    assert words in run(*COMMAND, *more).error


def test_another_model_of_the_same_name_is_refused(work: Path) -> None:
    run(*COMMAND)
    (work / "out" / "part-00000.parquet").unlink()
    model = work / "cat.onnx"
    model.write_bytes(model.read_bytes() + b"\x0a\x00")
    assert "started with another model: expected SHA-256" in run(*COMMAND, "--resume").error


@pytest.mark.skipif(sys.platform == "win32", reason="a process is killed in another way there")
@pytest.mark.parametrize("number", [signal.SIGINT, getattr(signal, "SIGKILL", None)])
def test_a_stopped_batch_goes_on_to_the_same_files(work: Path, number: int) -> None:
    run("batch", "cat.onnx", "in", "-o", "whole", "--part-images", "1")
    slow = (  # so that the signal comes before the end, however busy the machine is
        "import sys, time; from yoloship.batch import worker; before, pauses = worker.part_bytes, [0] * 4;"
        "worker.part_bytes = lambda *a: (time.sleep(pauses.pop() if pauses else 60), before(*a))[1];"
        "from yoloship.cli import main; main()"
    )
    arguments = ["batch", "cat.onnx", "in", "-o", "out", "--part-images", "1", "--resume"]
    with subprocess.Popen([sys.executable, "-c", slow, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not (work / "out" / "part-00003.parquet").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(number)
        said = process.stderr.read()
        code = process.wait()
    if number == signal.SIGINT:
        assert code == 130
        assert "out holds the finished parts: run the same command with --resume to continue" in said
        assert "Traceback" not in said
    there = len(batches.files(work / "out"))
    assert 4 <= there < COUNT
    again = run(*arguments)
    assert f"{there} of 40 images done before" in again.err
    assert batches.files(work / "out") == batches.files(work / "whole")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("none.pt", "in", "-o", "new"), 1, "none.pt: no such file"),
        (("cat.onnx", "nowhere", "-o", "new"), 1, "nowhere: no such file or folder"),
        (("cat.onnx", "in", "-o", "in"), 1, "in: is not empty, and not the folder of a batch: got 000.png"),
        (("cat.onnx", "in", "-o", "cat.onnx"), 1, "cat.onnx"),
        (("cat.onnx", "in", "-o", "new", "--classes", "horse"), 1, "horse"),
        (("cat.onnx", "in"), 2, "Missing option '-o'"),
        (("cat.onnx", "in", "-o", "new", "--actors", "2"), 2, "--actors is for a cluster: give --ray, too"),
        (("cat.onnx", "in", "-o", "new", "--ray", "--workers", "2"), 2, "--workers does not go with --ray"),
        (("cat.onnx", "in", "-o", "new", "--ray", "--actors", "3-2"), 2, "'3-2' is not a number of actors"),
        (("cat.onnx", "in", "-o", "new", "--part-images", "0"), 2, "--part-images"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    work: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = run("batch", *arguments)
    assert done.code == code, done
    assert words in done.err
    assert "Traceback" not in done.err
    assert batches.files(work / "new") == {}


def test_ray_takes_what_follows_only_if_it_looks_like_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from yoloship.cli.batch import _with_address

    for given, meant in (
        (["--ray", "in"], ["--ray=local", "in"]),
        (["--ray", "auto", "in"], ["--ray=auto", "in"]),
        (["--ray", "10.0.0.5:6379"], ["--ray=10.0.0.5:6379"]),
        (["--ray", "[::1]:6379"], ["--ray=[::1]:6379"]),
        (["--ray", "s3://b/x"], ["--ray=local", "s3://b/x"]),
        (["--ray", "-o", "out"], ["--ray=local", "-o", "out"]),
        (["--", "--ray", "auto"], ["--", "--ray", "auto"]),
        (["--ray=auto"], ["--ray=auto"]),
        (["--ray"], ["--ray=local"]),
    ):
        assert _with_address(given) == meant


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_images_and_results_may_be_in_an_object_store(work: Path) -> None:
    import pyarrow.fs

    with s3_server() as store:
        store.put("days")
        store.put("results")
        for index in range(10):
            store.put(f"days/day/{index:03}.png", batches.picture(index))
        names = ["s3://days/day/003.png", "s3://days/day/gone.png"]
        Path("list.txt").write_text("\n".join(names))
        done = run("batch", "cat.onnx", "s3://days/day/", "list.txt", "-o", "s3://results/found", "--format", "jsonl")
        assert "s3://results/found: 11 images in 1 part; 9 cat" in done.err, done
        filesystem = pyarrow.fs.FileSystem.from_uri("s3://results")[0]
        with filesystem.open_input_file("results/found/part-00000.jsonl") as file:
            rows = [json.loads(line) for line in file.read().splitlines()]
        assert [row["input"] for row in rows] == [*(f"s3://days/day/{index:03}.png" for index in range(10)), names[1]]
        assert rows[10]["error"] == "s3://days/day/gone.png: does not exist"
        again = run("batch", "cat.onnx", "s3://days/day", "list.txt", "-o", "s3://results/found", "--format", "jsonl",
                    "--resume")  # fmt: skip
        assert "nothing left to do: 11 images done before (s3://results/found)" in again.err
        assert "does not exist" in run("batch", "cat.onnx", "s3://days/day", "-o", "s3://nobody/x").error


def test_the_help_has_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    text = run("batch", "--help").out
    assert "--ray [ADDRESS]" in text
    assert "yoloship batch best.pt photos/ -o found" in text
    assert os.environ.get("RAY_ADDRESS") is None or "local" in text
