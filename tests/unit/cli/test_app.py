"""How the program ends: exit codes, streams that take nothing, signals, memory."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.models import finds_a_cat
from helpers.networks import float_network
from yoloship.cli import app
from yoloship.cli.app import Terminated
from yoloship.cli.info import info
from yoloship.cli.output import print_err
from yoloship.errors import InputError, SessionError

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (InputError("is bad", subject="x.pt"), 1, "error: x.pt: is bad"),
        (MemoryError(), 1, "error: not enough memory; use a smaller --imgsz, smaller images or a smaller model"),
        (
            SessionError("the runtime refuses it: std::bad_alloc", subject="x.onnx"),
            1,
            "error: x.onnx: not enough memory; use",
        ),
        (RuntimeError("can't start new thread"), 1, "error: not enough memory; use a smaller"),
        (ImportError("cv2.so: failed to map segment from shared object"), 1, "error: not enough memory; use a"),
        (OSError(errno.EMFILE, "Too many open files", "a.jpg"), 1, "error: a.jpg: Too many open files"),
        (
            OSError(errno.EIO, "Input/output error", "a\x1b[2J\n.jpg"),
            1,
            "error: a\\x1b[2J\\x0a.jpg: Input/output error",
        ),
        (OSError("something"), 1, "error: something"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Terminated(15), 143, "terminated"),
    ],
)
def test_every_failure_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException, code: int, line: str
) -> None:
    def fail(**_: object) -> NoReturn:
        raise failure

    monkeypatch.setattr(info, "callback", fail)
    ran = run("info", "x")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(line)
    assert ran.err.count("\n") == 1


def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> NoReturn:
        raise RuntimeError("a bug")

    monkeypatch.setattr(info, "callback", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("info", "x")


@pytest.mark.parametrize(
    ("words", "meant"),
    [("detct", "'detect'"), ("Export", "'export'"), ("zzz", "The commands are demo, predict")],
)
def test_an_unknown_command_names_the_one_that_was_meant(words: str, meant: str) -> None:
    ran = run(words, "x")
    assert ran.code == 2
    assert f"No such command {words!r}" in ran.err
    assert meant in ran.err


def test_an_unknown_option_names_the_one_that_was_meant() -> None:
    ran = run("detect", "m.pt", "a.jpg", "--imgs", "640", "--cnof", "0.2")
    assert ran.code == 2
    assert "No such option" in ran.err
    assert "--conf" in ran.err or "--imgsz" in ran.err


def test_no_command_at_all_shows_the_help_as_wrong_usage() -> None:
    ran = run()
    assert (ran.code, ran.out) == (2, "")
    assert "Commands:" in ran.err


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.onnx"
    path.write_bytes(float_network().SerializeToString())
    return path


@pytest.fixture
def detector(model: Path) -> Path:
    """A foreign model that finds a cat in every image, and two images."""
    path = model.with_name("two.onnx")
    path.write_bytes(finds_a_cat((64, 96), names="['cat', 'dog']").SerializeToString())
    for name in ("a.png", "b.png"):
        cv2.imwrite(name, np.zeros((64, 96, 3), np.uint8))
    return path


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """A command line with redirections; `$Y` is the program."""
    program = f"{sys.executable} -m yoloship"
    environment = {**os.environ, "Y": program}
    return subprocess.run(["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=False)


@posix
@pytest.mark.parametrize("arguments", ["info small.onnx", "detect two.onnx a.png --no-draw --json -"])
def test_a_stdout_that_takes_nothing_is_one_line(detector: Path, arguments: str) -> None:
    closed = shell(f"$Y {arguments} >&-")
    assert (closed.returncode, closed.stderr.splitlines()[-1]) == (1, "error: stdout: cannot be written: it is closed")
    assert "Traceback" not in closed.stderr
    if Path("/dev/full").exists():
        full = shell(f"$Y {arguments} > /dev/full")
        assert full.returncode == 1
        assert full.stderr.splitlines()[-1] == "error: stdout: cannot be written: No space left on device"
        assert "Traceback" not in full.stderr


@posix
@pytest.mark.parametrize(
    "arguments",
    [
        "--version", "--help", "info small.onnx", "inspect small.onnx --json", "doctor --for export", "cache",
        "detect two.onnx a.png --no-draw", "detect two.onnx a.png a.png b.png --no-draw",
        "detect two.onnx a.png --no-draw --json -",
        "bench two.onnx --rounds 1 --runs 1 --seconds 0",
    ],
)  # fmt: skip
@pytest.mark.parametrize("reason", ["it is closed", "No space left on device"])
def test_no_command_takes_it_for_written(
    detector: Path, arguments: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, with the stdout that `main` would have found."""
    if reason == "it is closed":
        stdout: Any = app._ClosedStream()
    else:
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")
        stdout = open("/dev/full", "w", encoding="utf-8")  # noqa: PTH123, SIM115 - closed below
    monkeypatch.setattr(sys, "stdout", stdout)
    code = app.run(arguments.split())
    with suppress(OSError):  # what was not written is still in its buffer
        stdout.close()
    monkeypatch.undo()
    assert (code, capsys.readouterr().err.splitlines()[-1]) == (1, f"error: stdout: cannot be written: {reason}")


@posix
@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"])
def test_stdout_by_its_name_is_one_line_too(detector: Path, redirection: str) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = shell(f"$Y detect two.onnx a.png --no-draw --json /dev/stdout {redirection}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: /dev/stdout: cannot be written: ")
    assert done.stderr.count("\n") == 1


@posix
@pytest.mark.parametrize("arguments", ["--help", "info small.onnx"])
def test_a_reader_that_went_away_ends_it_quietly(model: Path, arguments: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "yoloship", *arguments.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


@posix
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_a_stderr_that_takes_nothing_changes_nothing_else(model: Path, redirection: str) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = shell(f"$Y inspect small.onnx --json {redirection}")
    assert done.returncode == 0
    assert json.loads(done.stdout)["kind"] == "onnx"
    assert shell(f"$Y info no-such-file {redirection}").returncode == 1


@posix
def test_no_file_takes_the_number_of_a_closed_descriptor(tmp_path: Path) -> None:
    program = (
        "import os\nfrom yoloship.cli.app import prepare_process\nprepare_process()\n"
        "raise SystemExit(0 if os.open('x', os.O_CREAT | os.O_WRONLY) > 2 else 9)"
    )
    (tmp_path / "p.py").write_text(program)
    done = shell(f"cd {tmp_path} && {sys.executable} p.py <&- >&- 2>&-")
    assert done.returncode == 0


def test_the_environment_is_set_for_the_program_unless_the_user_did() -> None:
    program = (
        "import os\nfrom yoloship.cli.app import prepare_process\nprepare_process()\n"
        "print(os.environ['OPENBLAS_NUM_THREADS'], os.environ['OPENCV_LOG_LEVEL'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment["OPENCV_LOG_LEVEL"] = "INFO"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1 INFO\n"


@posix
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")])
def test_a_signal_leaves_no_temporary_file(model: Path, number: signal.Signals, word: str) -> None:
    program = (
        "import os, sys, time\n"
        "def wait(descriptor):\n    print('ready', flush=True)\n    time.sleep(100)\n"
        "os.fsync = wait\n"
        "from pathlib import Path\nfrom yoloship._util.writing import write_bytes\n"
        "from yoloship.cli.info import info\n"
        "info.callback = lambda **_: write_bytes(Path('out.bin'), b'x')\n"
        "sys.argv = ['yoloship', 'info', 'small.onnx']\n"
        "from yoloship.cli import main\nmain()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stderr.read() == f"{word}\n"
        assert process.wait() == 128 + number
    assert [path.name for path in model.parent.iterdir()] == ["small.onnx"]


@posix
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("yoloship det", ["plain,detect"]),
        ("yoloship export --prec", ["plain,--precision"]),
        ("yoloship export --precision bf", ["plain,bfloat16"]),
        ("yoloship detect be", ["file,be"]),
    ],
)
def test_a_shell_gets_completions(words: str, offered: list[str]) -> None:
    asked = f"COMP_WORDS='{words}' COMP_CWORD={words.count(' ')} _YOLOSHIP_COMPLETE=bash_complete $Y"
    assert [line for line in shell(asked).stdout.splitlines() if line] == offered


def test_importing_the_program_installs_no_handler_and_changes_no_stream() -> None:
    before = (signal.getsignal(signal.SIGTERM), sys.stdout, sys.stderr, os.environ.get("OPENCV_LOG_LEVEL"))
    assert run("--version").code == 0
    assert (signal.getsignal(signal.SIGTERM), sys.stdout, sys.stderr, os.environ.get("OPENCV_LOG_LEVEL")) == before


def test_opencv_has_the_limits_of_our_reader_in_the_program() -> None:
    from yoloship.cli.app import MAX_IMAGE_PIXELS
    from yoloship.images import DEFAULT_LIMITS

    assert DEFAULT_LIMITS.max_pixels == MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["detect", "https://example.org/best.pt", "a.png"], "https://example.org/best.pt"),
        (["info", "http://example.org/best.onnx"], "http://example.org/best.onnx"),
        (["export", "https://example.org/best.pt"], "https://example.org/best.pt"),
        (["verify", "two.onnx", "two.onnx", "--images", "https://example.org/a.jpg"], "https://example.org/a.jpg"),
    ],
)
def test_an_address_is_refused_as_one(detector: Path, arguments: list[str], address: str) -> None:
    assert run(*arguments).error == (
        f"{address}: is an address, and yoloship reads files; download it first, and give the file"
    )


NUMBERS = {
    "--conf": ("detect", "x.pt", "a.png"),
    "--iou": ("detect", "x.pt", "a.png"),
    "--min-agreement": ("verify", "x.pt", "y.onnx"),
    "--max-map-drop": ("verify", "x.pt", "y.onnx"),
    "--max-drop": ("export", "x.pt"),
    "--seconds": ("bench", "x.pt"),
}


@pytest.mark.parametrize("value", ["nan", "inf", "1e309", "", "abc"])
@pytest.mark.parametrize("option", NUMBERS)
def test_what_is_not_a_number_is_refused_in_plain_words(option: str, value: str) -> None:
    ran = run(*NUMBERS[option], option, value)
    assert ran.code == 2
    assert f"Invalid value for '{option}': " in ran.err.splitlines()[-1]
    assert ran.err.endswith((" is not a valid number.\n", "inf is not in the range 0<=x<=1.\n"))


@pytest.mark.parametrize("value", ["nan", "1.5", "", "abc"])
def test_what_is_not_a_whole_number_is_refused_in_plain_words(value: str) -> None:
    ran = run("bench", "x.pt", "--rounds", value)
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        f"Error: Invalid value for '--rounds': {value!r} is not a valid whole number.",
    )


def test_a_size_that_is_empty_is_not_the_default() -> None:
    assert run("build", "x.pt", "--workspace", "").code == 2


def test_a_line_on_stderr_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_err("one\nerror: two")
    assert capsys.readouterr().err == "one\\x0aerror: two\n"


@pytest.mark.parametrize(
    ("given", "taken"), [(None, "200000000"), ("x", "200000000"), ("9" * 30, "200000000"), ("10", "10")]
)
def test_a_limit_that_opencv_cannot_read_does_not_end_the_process(given: str | None, taken: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OPENCV_IO_MAX_IMAGE_PIXELS"}
    if given is not None:
        environment["OPENCV_IO_MAX_IMAGE_PIXELS"] = given
    code = (
        "import os; from yoloship.cli.app import prepare_process; prepare_process(); "
        "print(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{taken}\n"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--csv", "a.csv", "--csv=b.csv"], "--csv"),
        (["--conf", "0.3", "--conf", "0.3"], "--conf"),
        (["--draw", "--no-draw"], "--draw/--no-draw"),
        (["-o", "a", "--output-dir", "b"], "-o/--output-dir"),
    ],
)
def test_an_option_that_counts_once_cannot_be_given_twice(words: list[str], name: str) -> None:
    """The last value would count, and a file that was asked for would not be written."""
    ran = run("detect", "best.pt", "a.jpg", *words)
    assert (ran.code, ran.err.splitlines()[-1]) == (2, f"Error: {name} is given twice")


def test_what_may_be_repeated_still_may(tmp_path: Path) -> None:
    ran = run("detect", str(tmp_path / "no.pt"), "a.jpg", "-q", "-q", "--classes", "a", "--classes", "b")
    assert ran.code == 1
    assert "twice" not in ran.err
