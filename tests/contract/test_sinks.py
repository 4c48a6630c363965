"""One suite over every sink of the table: what a run and a user may rely on, whatever the format.

Whether a file is valid is not asked of each format anew: a run that is cut short after some images must leave exactly
what a whole run of those images leaves. That a whole run is valid is tested beside each sink.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from yoloship._util.tables import Table
from yoloship.errors import ImageError, InputError, OutputError
from yoloship.results.detections import Detections
from yoloship.sinks import SINKS, Entry, Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

HW = (64, 96)
IMAGE = np.random.default_rng(7).integers(0, 256, (*HW, 3), dtype=np.uint8)
FOUND = Detections(
    np.array([[1.5, 2.25, 30.1, 40], [0, 0, 5, 5]], np.float32),
    np.array([0.9, 0.5], np.float32),
    np.array([1, 0], np.int32),
    ("cat", "dog"),
    HW,
)
INPUTS = tuple(Path(f"{name}.png") for name in "abcdef")


def entry(index: int) -> Entry:
    """Of six images, one fails and one has nothing on it."""
    name = str(INPUTS[index])
    if index == 2:
        return Entry(name, None, ImageError("no such file", subject=name), index=index)
    found = Detections.empty(HW, ("cat", "dog")) if index == 3 else FOUND
    return Entry(name, found, index=index, image=IMAGE)


STREAMING = [kind for kind in map(SINKS.load, SINKS.own) if kind.to_stream(lambda _: None) is not None]


@pytest.fixture(params=list(SINKS.own))
def kind(request: pytest.FixtureRequest) -> type[Sink]:
    return SINKS.load(request.param)


@pytest.fixture
def target(kind: type[Sink], tmp_path: Path) -> Path:
    """Where the sink shall write; the folder holds nothing else."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder if kind.target == "folder" else folder / f"found{kind.suffix}"


def made(kind: type[Sink], target: Path, *, overwrite: bool = False) -> Sink:
    return kind.open(target, overwrite=overwrite, inputs=INPUTS)


def written(target: Path) -> dict[str, bytes]:
    """Everything in the folder of a target, and in folders below it; not the empty locks of runs that were killed."""
    folder = target if target.is_dir() else target.parent
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def names_for(kind: type[Sink], index: int) -> list[str]:
    """The files of a folder sink for one of the images."""
    if kind is not SINKS.load("crops"):
        return [kind.file_names(INPUTS)[index]]
    return [f"dog/{INPUTS[index].stem}-1.jpg", f"cat/{INPUTS[index].stem}-2.jpg"] if index != 3 else []


def whole_run(kind: type[Sink], folder: Path, count: int, name: str) -> dict[str, bytes]:
    folder.mkdir()
    target = folder if kind.target == "folder" else folder / name
    with made(kind, target) as sink:
        for index in range(count):
            sink.write(entry(index))
    return written(target)


RESUMING = [kind for kind in map(SINKS.load, SINKS.own) if kind.resumes]


@pytest.mark.parametrize("logged", range(len(INPUTS) + 1))
@pytest.mark.parametrize("resuming", RESUMING)
def test_a_run_that_is_stopped_anywhere_and_continued_leaves_what_a_whole_run_leaves(
    resuming: type[Sink], logged: int, tmp_path: Path
) -> None:
    """Two entries after the last mark are written twice, unless the run ended before. A finished run goes on too."""
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder if resuming.target == "folder" else folder / "found"
    first = resuming.resume(target, 0, inputs=INPUTS)
    mark = first.flush()
    for index in range(min(logged + 2, len(INPUTS))):
        first.write(entry(index))
        mark = first.flush() if index < logged else mark
    first.close() if logged == len(INPUTS) else first.abort()
    with resuming.resume(target, mark, inputs=INPUTS) as second:
        for index in range(logged, len(INPUTS)):
            second.write(entry(index))
    assert second.is_finished
    assert written(target) == whole_run(resuming, tmp_path / "whole", len(INPUTS), target.name)


def test_it_says_how_it_is_asked_for(kind: type[Sink]) -> None:
    assert kind.option
    assert all(name.startswith("-") for name in kind.option)
    assert kind.option[-1].startswith("--")
    assert kind.metavar.isupper()
    assert kind.help.endswith(".")
    assert kind.target in {"file", "folder"}
    assert kind.suffix == "" or kind.suffix.startswith(".")


def test_no_two_have_the_same_option() -> None:
    names = [name for sink in SINKS.own for name in SINKS.load(sink).option]
    assert len(set(names)) == len(names)


def test_the_table_is_read_only_and_lazy() -> None:
    assert isinstance(SINKS, Table)
    assert all(":" in place for place in SINKS.own.values())
    program = (
        "import sys\nfrom yoloship.sinks import SINKS\n"
        "assert 'yoloship.sinks.csv_file' not in sys.modules\nassert 'numpy' not in sys.modules\n"
        "SINKS.load('csv')\nassert 'yoloship.sinks.csv_file' in sys.modules\nassert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_run_leaves_only_what_was_asked_for(kind: type[Sink], target: Path) -> None:
    with made(kind, target) as sink:
        for index in range(len(INPUTS)):
            sink.write(entry(index))
    assert sink.count == len(INPUTS)
    assert sink.is_finished
    indices = () if kind.target == "file" else (0, 1, 3, 4, 5)
    expected = {name for index in indices for name in names_for(kind, index)} or {target.name}
    assert set(written(target)) == expected
    left = target.parent if kind.target == "file" else target
    assert [path for path in left.rglob("*") if path.name.startswith(".")] == []


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("ends_by", [KeyboardInterrupt, SystemExit, MemoryError, InputError])
def test_an_interruption_loses_nothing_and_leaves_a_whole_file(
    kind: type[Sink], target: Path, tmp_path: Path, count: int, ends_by: type[BaseException]
) -> None:
    with pytest.raises(ends_by), made(kind, target) as sink:
        for index in range(count):
            sink.write(entry(index))
        raise ends_by("stop")
    assert sink.is_finished
    assert written(target) == whole_run(kind, tmp_path / "whole", count, target.name)


def test_an_interruption_before_the_first_image_leaves_what_was_there(kind: type[Sink], target: Path) -> None:
    if kind.target == "file":
        target.write_bytes(b"old")
    before = written(target)
    with pytest.raises(KeyboardInterrupt), made(kind, target, overwrite=True):
        raise KeyboardInterrupt
    assert written(target) == before


def test_a_run_without_images_can_be_closed_and_closed_again(kind: type[Sink], target: Path) -> None:
    sink = made(kind, target)
    sink.close()
    sink.close()
    sink.abort()
    assert set(written(target)) == ({target.name} if kind.target == "file" else set())


def test_it_is_atomic_or_whole_file_by_file_as_it_says(kind: type[Sink], target: Path, tmp_path: Path) -> None:
    if kind.target == "file":
        target.write_bytes(b"old")
    with made(kind, target, overwrite=True) as sink:
        for index in (0, 1):
            sink.write(entry(index))
            if kind.target == "file":
                assert target.read_bytes() == b"old", "its name leads to the old file until the new one is whole"
            else:
                assert written(target) == whole_run(kind, tmp_path / f"whole{index}", index + 1, target.name)
    assert b"old" not in written(target).values()


def test_it_refuses_to_overwrite_unless_it_may(kind: type[Sink], target: Path) -> None:
    victim = target if kind.target == "file" else target / names_for(kind, 0)[0]
    victim.parent.mkdir(exist_ok=True)
    victim.write_bytes(b"mine")
    refusal = pytest.raises(OutputError, match="already exists; give another name, or --overwrite")
    with refusal, made(kind, target) as sink:
        sink.write(entry(0))
    name = victim.relative_to(target if kind.target == "folder" else target.parent).as_posix()
    assert written(target) == {name: b"mine"}
    with made(kind, target, overwrite=True) as sink:
        sink.write(entry(0))
    assert written(target)[name] != b"mine"


@pytest.mark.parametrize("inputs", [INPUTS, None], ids=["known", "unknown"])
@pytest.mark.parametrize("kind", [one for one in map(SINKS.load, SINKS.own) if one.target == "folder"])
def test_in_a_folder_it_replaces_no_file_that_the_run_reads(
    kind: type[Sink], tmp_path: Path, inputs: tuple[Path, ...] | None
) -> None:
    target = tmp_path / "out"
    with kind.open(target, inputs=inputs) as sink:
        sink.write(entry(0))
    before = written(target)
    with (
        pytest.raises(OutputError, match="would replace an input"),
        kind.open(target, overwrite=True, inputs=inputs) as sink,
    ):
        sink.protect([target / "none.png", *(target / name for name in before)])
        sink.write(entry(0))
    assert written(target) == before


def test_a_name_that_is_taken_while_it_writes_is_kept(kind: type[Sink], target: Path) -> None:
    sink = made(kind, target)
    sink.write(entry(0))
    victim = target if kind.target == "file" else target / names_for(kind, 1)[0]
    victim.parent.mkdir(exist_ok=True)
    victim.write_bytes(b"theirs")
    with pytest.raises(OutputError, match="already exists"), sink:
        sink.write(entry(1))
    assert victim.read_bytes() == b"theirs"


@contextmanager
def file_limit(size_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: the system itself refuses the rest, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(resource is None, reason="this system has no limit on the size of files")
def test_a_full_disk_is_one_clear_line_and_keeps_what_was_written(
    kind: type[Sink], target: Path, tmp_path: Path
) -> None:
    if not kind.resumes:
        refusal = pytest.raises(OutputError, match="cannot be written: File too large; free some space")
        with refusal, file_limit(100), made(kind, target) as sink:
            sink.write(entry(0))
        assert not sink.is_finished
        assert written(target) == {}, "its index comes last, so nothing of it could be read"
        return
    first = whole_run(kind, tmp_path / "one", 1, target.name)
    size = max(map(len, first.values()))
    many = Detections(
        np.tile(FOUND.boxes_xyxy * 4, (20, 1)),
        np.full(40, 0.5, np.float32),
        np.zeros(40, np.int32),
        ("cat",),
        (192, 288),
    )
    larger = Entry(str(INPUTS[1]), many, index=1, image=np.tile(IMAGE, (3, 3, 1)))
    with pytest.raises(OutputError) as caught, made(kind, target) as sink:
        sink.write(entry(0))
        with file_limit(size + 5):
            sink.write(larger if kind.target == "folder" else entry(1))
    assert "\n" not in str(caught.value)
    assert "cannot be written: File too large; free some space" in str(caught.value)
    assert written(target) == first


def test_one_run_at_a_time_writes_files_of_a_kind_into_a_folder(kind: type[Sink], target: Path, tmp_path: Path) -> None:
    if kind.target == "file":
        with made(kind, target, overwrite=True) as first, made(kind, target, overwrite=True) as second:
            first.write(entry(0))
            for index in (0, 1):
                second.write(entry(index))
        assert written(target) == whole_run(kind, tmp_path / "whole", 1, target.name), "the last one to end, as a whole"
        return
    with made(kind, target, overwrite=True) as first, made(kind, target, overwrite=True) as second:
        first.write(entry(0))
        with pytest.raises(OutputError, match=r"out: is in use by another run; wait for its end"):
            second.write(entry(1))
    with made(kind, target, overwrite=True) as later:
        later.write(entry(1))
    assert written(target) == whole_run(kind, tmp_path / "whole", 2, target.name)


@pytest.mark.parametrize("place", ["missing/found", "file/found"])
def test_a_place_that_takes_nothing_is_one_clear_line(kind: type[Sink], tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    target = tmp_path / place
    if kind.target == "folder" and place.startswith("missing"):
        with made(kind, target) as sink:
            sink.write(entry(0))
        assert target.is_dir(), "such a folder is made"
        return
    with pytest.raises(OutputError, match=r"cannot be (written|created)") as caught, made(kind, target) as sink:
        sink.write(entry(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", STREAMING)
def test_what_goes_to_a_stream_is_what_a_file_holds(kind: type[Sink], tmp_path: Path) -> None:
    sent: list[bytes] = []
    target, stream = tmp_path / "found", kind.to_stream(sent.append)
    assert stream is not None
    with stream, made(kind, target) as sink:
        for index in range(len(INPUTS)):
            sink.write(entry(index))
            stream.write(entry(index))
    assert b"".join(sent) == target.read_bytes()
    assert len(sent) > 2, "each record is passed on as it comes"


@pytest.mark.parametrize("kind", STREAMING)
def test_a_stream_that_breaks_gets_nothing_more(kind: type[Sink]) -> None:
    sent: list[bytes] = []

    def send(data: bytes) -> None:
        sent.append(data)
        if len(sent) == 2:
            raise BrokenPipeError

    stream = kind.to_stream(send)
    assert stream is not None
    with pytest.raises(BrokenPipeError), stream:
        for index in range(len(INPUTS)):
            stream.write(entry(index))
    assert len(sent) == 2
    assert not stream.is_finished


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from test_sinks import SINKS, entry, made
sink = made(SINKS.load(sys.argv[1]), Path(sys.argv[2]))
for index in range(3):
    sink.write(entry(index))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills in another way")
@pytest.mark.timeout(120)
def test_a_killed_process_leaves_its_results_under_another_name(kind: type[Sink], target: Path, tmp_path: Path) -> None:
    (name,) = (name for name in SINKS.own if SINKS.load(name) is kind)
    program = KILLED.format(folder=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", program, name, os.fspath(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    left, whole = written(target), whole_run(kind, tmp_path / "whole", 3, target.name)
    assert not target.is_file()
    if not kind.resumes:
        assert all(name.endswith(".part") for name in left), "what cannot be read does not have the name"
        return
    assert sorted(left.values()) == sorted(whole.values())


def test_entries_are_made_of_what_a_stream_gives() -> None:
    from yoloship.detect.stream import Outcome

    error = ImageError("no such file")
    from_file = Entry.of(Outcome(3, Path("in/a.png"), FOUND, None, IMAGE))
    assert (from_file.name, from_file.index, from_file.error) == (str(Path("in/a.png")), 3, None)
    assert from_file.result is FOUND
    assert from_file.image is IMAGE
    assert Entry.of(Outcome(4, IMAGE, None, error)).name == "image 4"
    assert Entry.of(Outcome(4, IMAGE, None, error), "camera").name == "camera"
    assert Entry.of(Outcome(4, IMAGE, None, error)).error is error
