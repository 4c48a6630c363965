"""What no command ever replaces, whatever its options: one table over commands, options and targets."""

from __future__ import annotations

import os
import socket
import stat
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
import pytest

from helpers.cli import Ran, run
from helpers.models import finds_a_cat
from helpers.shared import GENERATED, require
from yoloship.sinks import SINKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(120)

HW = (64, 96)
QUICK = ("--rounds", "1", "--runs", "1", "--seconds", "0")
INT8 = ("--precision", "int8", "--calibrate", "cal", "--labels", "lab")


@dataclass(frozen=True)
class Output:
    """One option of one command that names an output.

    Attributes:
        arguments: The command line that writes to a path.
        inputs: What the command reads, by the names that `work` gives.
        suffix: What the path must end with.
        is_stream: Whether it may be a stream.
    """

    arguments: Callable[[str], tuple[str, ...]]
    inputs: tuple[str, ...]
    suffix: str = ""
    is_stream: bool = True


DETECT = ("detect", "big.onnx", "a.png", "--names", "names.txt")
BUILD = ("build", "big.onnx", *INT8, "--names", "names.txt")
VERIFY = ("verify", "big.onnx", "two.onnx", "--images", "a.png", "--labels", "lab")
READ = ("big.onnx", "w.data", "a.png")
CALIBRATED = ("cal/c.png", "lab/c.txt")


def labels(option: str) -> Output:
    """A folder of label files."""
    return Output(
        lambda out: (*DETECT, "--no-draw", option, str(Path(out).parent)), (*READ, "names.txt"), "/a.txt", False
    )


OUTPUTS = {
    "detect --json": Output(lambda out: (*DETECT, "--no-draw", "--json", out), (*READ, "names.txt")),
    "detect --jsonl": Output(lambda out: (*DETECT, "--no-draw", "--jsonl", out), (*READ, "names.txt")),
    "detect --parquet": Output(
        lambda out: (*DETECT, "--no-draw", "--parquet", out), (*READ, "names.txt"), is_stream=False
    ),
    "detect --csv": Output(lambda out: (*DETECT, "--no-draw", "--csv", out), (*READ, "names.txt")),
    "detect --coco": Output(lambda out: (*DETECT, "--no-draw", "--coco", out), (*READ, "names.txt")),
    "detect --txt": labels("--txt"),
    "detect --txt-conf": labels("--txt-conf"),
    "detect -o": Output(lambda out: (*DETECT, "-o", str(Path(out).parent)), (*READ, "names.txt"), "/a.png", False),
    "export -o": Output(lambda out: ("export", "best.pt", "-o", out, *INT8), ("best.pt", *CALIBRATED)),
    "build -o": Output(
        lambda out: (*BUILD, "-o", out), ("big.onnx", "w.data", "names.txt", *CALIBRATED), "", is_stream=False
    ),
    "build, its sidecar": Output(
        lambda out: (*BUILD, "-o", out.removesuffix(".json")),
        ("big.onnx", "w.data", "names.txt", *CALIBRATED),
        ".json",
        is_stream=False,
    ),
    "build --timing-cache": Output(
        lambda out: (*BUILD, "-o", "new.engine", "--timing-cache", out),
        ("big.onnx", "w.data", "names.txt", *CALIBRATED),
        "",
        is_stream=False,
    ),
    "bench --json": Output(lambda out: ("bench", "big.onnx", "--source", "a.png", "--json", out, *QUICK), READ),
    "bench --plot": Output(lambda out: ("bench", "big.onnx", "--source", "a.png", "--plot", out, *QUICK), READ, ".svg"),
    "verify --json": Output(lambda out: (*VERIFY, "--json", out), (*READ, "two.onnx", "lab/a.txt")),
    "verify --plot": Output(lambda out: (*VERIFY, "--plot", out), (*READ, "two.onnx", "lab/a.txt"), ".png"),
}


def fits(name: str, victim: str) -> bool:
    """Whether the option can be given the victim's own name."""
    if name == "detect -o":  # annotated images take the names of images
        return victim == "a.png"
    if (name, victim[-5:]) in {
        ("build -o", ".onnx"),
        ("export -o", "st.pt"),
    }:  # of another kind, and refused for it
        return False
    return victim.endswith(OUTPUTS[name].suffix)


def test_every_sink_stands_in_the_table() -> None:
    named_in_the_run = {"detect --crops"}  # tests/contract/test_sinks.py holds it
    assert {f"detect {SINKS.load(name).option[0]}" for name in SINKS.own} <= set(OUTPUTS) | named_in_the_run


REFUSED = [
    (name, victim, way)
    for name, output in OUTPUTS.items()
    for victim in output.inputs
    for way in ("itself", "link", "hard link")
    if way != "itself" or fits(name, victim)
]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one of everything that commands read."""
    monkeypatch.chdir(tmp_path)
    model = finds_a_cat(HW)
    Path("two.onnx").write_bytes(model.SerializeToString())
    onnx.save(model, "big.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    Path("best.pt").write_bytes(b"PK\x03\x04 a training of a week")
    for name in ("a.png", "cal/c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        cv2.imwrite(name, np.full((*HW, 3), 90, np.uint8))
    Path("lab").mkdir()
    for name in ("lab/a.txt", "lab/c.txt"):
        Path(name).write_text("0 0.5 0.5 0.2 0.2\n")
    Path("names.txt").write_text("cat\ndog\n")
    return tmp_path


def everything(folder: Path) -> dict[str, object]:
    """What stands in a folder: types, and what files hold."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        kind = stat.S_IFMT(path.lstat().st_mode)
        found[path.relative_to(folder).as_posix()] = (kind, path.read_bytes() if kind == stat.S_IFREG else None)
    return found


def ask(name: str, target: Path, *options: str) -> Ran:
    return run(*OUTPUTS[name].arguments(str(target)), *options)


def place(name: str) -> Path:
    """Where an output of this option can be put."""
    suffix = OUTPUTS[name].suffix
    path = Path(f"out{suffix}")
    path.parent.mkdir(exist_ok=True)
    return path


@pytest.mark.parametrize(("name", "victim", "way"), REFUSED)
def test_no_output_ever_replaces_an_input(name: str, victim: str, way: str, work: Path) -> None:
    target = place(name)
    if way == "itself":
        target = Path(victim)
    elif way == "link":
        target.symlink_to(Path(victim).resolve())
    else:
        os.link(victim, target)
    before = everything(work)
    ran = ask(name, target, *(() if "--timing-cache" in name else ("--overwrite",)))
    assert "would replace an input" in ran.error
    assert everything(work) == before


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("way", ["itself", "link"])
def test_no_output_ever_replaces_a_training(name: str, way: str, work: Path) -> None:
    """Also not one that the command does not read."""
    target = place(name)
    training = work / "training" if way == "link" else target
    training.write_bytes(b"PK\x03\x04 another training of a week")
    if way == "link":
        target.symlink_to(training)
    before = everything(work)
    ran = ask(name, target, "--overwrite")
    assert ran.error == f"{target}: would replace a checkpoint or another zip archive; give another name"
    assert everything(work) == before


@pytest.mark.parametrize("name", ["last.pt", "last.PTH"])
def test_a_graph_is_not_written_under_the_name_of_a_checkpoint(name: str) -> None:
    ran = run("export", "best.pt", "-o", name)
    assert ran.code == 2
    assert ran.err.endswith(f"{name}: export writes ONNX files, not checkpoints\n")


@pytest.mark.parametrize("name", [name for name in OUTPUTS if "--timing-cache" not in name])
def test_what_exists_is_replaced_only_when_that_was_said(name: str, work: Path) -> None:
    target = place(name)
    target.write_bytes(b"mine")
    before = everything(work)
    assert f"{target}: already exists; give another name, or --overwrite" in ask(name, target).error
    assert everything(work) == before


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("kind", ["folder", "link to a folder", "socket"])
def test_what_is_not_a_file_is_never_replaced(name: str, kind: str, work: Path) -> None:
    target = place(name)
    server = None
    if kind == "folder":
        target.mkdir()
        (target / "mine").touch()
    elif kind == "link to a folder":
        target.symlink_to((work / "lab"), target_is_directory=True)
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(target))
    before = everything(work)
    ran = ask(name, target, "--overwrite")
    assert f"{target}: is a {kind.rpartition(' ')[2]}, not a file" in ran.error
    assert everything(work) == before
    if server is not None:
        server.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", [name for name, output in OUTPUTS.items() if not output.is_stream])
def test_what_has_to_be_a_file_is_not_put_into_a_stream(name: str, work: Path) -> None:
    target = place(name)
    os.mkfifo(target)
    before = everything(work)
    error = ask(name, target, "--overwrite").error
    assert f"is not a regular file, which {'Parquet' if 'parquet' in name else 'this output'} needs" in error
    assert everything(work) == before


@contextmanager
def reading(pipe: Path) -> Iterator[list[bytes]]:
    """What somebody writes to a pipe in the block; nothing, if nobody opens it."""
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    try:
        yield got
    finally:
        with suppress(OSError):  # nobody reads any longer: all is well
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        reader.join()


WRITABLE = [name for name, output in OUTPUTS.items() if output.is_stream and name != "export -o"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", WRITABLE)
def test_a_pipe_is_written_to_and_stays_one(name: str, work: Path) -> None:
    target = place(name)
    os.mkfifo(target)
    with reading(target) as got:
        ran = ask(name, target)
    assert ran.code in {0, 1}  # a verification may fail
    assert got[0], ran
    assert target.is_fifo()


@pytest.mark.parametrize("name", [*WRITABLE, "detect -o"])
def test_a_link_stays_and_its_target_is_written(name: str, work: Path) -> None:
    target = place(name)
    real = Path(f"real{target.suffix}").resolve()
    real.write_bytes(b"old")
    target.symlink_to(real)
    ask(name, target, "--overwrite")
    assert target.is_symlink()
    assert real.read_bytes()[:3] not in {b"old", b""}
    assert not [path for path in work.rglob("*") if path.suffix == ".part"]


def test_an_export_goes_through_a_link_and_into_a_pipe(work: Path) -> None:
    checkpoint = require(GENERATED / "v7-yolov5n.pt")
    Path("best.onnx").symlink_to(work / "real.onnx")
    assert run("export", checkpoint, "-o", "best.onnx").code == 0
    assert Path("best.onnx").is_symlink()
    if not hasattr(os, "mkfifo"):
        return
    os.mkfifo("pipe")
    with reading(Path("pipe")) as got:
        assert run("export", checkpoint, "-o", "pipe").code == 0
    assert got == [Path("real.onnx").read_bytes()]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("name", [name for name in WRITABLE if not OUTPUTS[name].suffix])
def test_a_device_that_takes_nothing_is_one_clear_line(name: str) -> None:
    ran = ask(name, Path("/dev/full"), "--overwrite")
    assert ran.code == 1
    assert "error: /dev/full: cannot be written: No space left on device; free some space\n" in ran.err
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@pytest.mark.parametrize(
    "arguments",
    [
        (*DETECT, "-o", "out", "--json", "out/a.png"),
        ("bench", "two.onnx", "--json", "x.svg", "--plot", "x.svg", *QUICK),
        (*VERIFY, "--json", "x.png", "--plot", "./x.png"),
        (*BUILD, "-o", "x", "--timing-cache", "x.json"),
    ],
)
def test_two_outputs_of_one_command_need_two_names(arguments: tuple[str, ...], work: Path) -> None:
    Path("out").mkdir()
    before = everything(work)
    assert "is used for two outputs; give each its own name" in run(*arguments).error
    assert everything(work) == before


@pytest.mark.parametrize("name", ["scene.png", "found.json", "codes-yolov5n.engine.json"])
def test_a_demonstration_replaces_nothing_but_an_earlier_one(name: str, work: Path) -> None:
    Path(name).write_bytes(b"mine")
    before = everything(work)
    assert f"{name}: already exists" in run("demo", "-o", ".").error
    assert everything(work) == before


def test_a_dataset_is_never_written_into_something_that_exists(work: Path) -> None:
    Path("set").mkdir()
    Path("link").symlink_to("nowhere")
    for name in ("set", "link", "a.png"):
        assert "already exists" in run("demo", "--dataset", name, "--count", "1").error
    assert list(Path("set").iterdir()) == []
