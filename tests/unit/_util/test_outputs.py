"""What a command may write: never one of its inputs, a device or a folder, and each name once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from yoloship._util.outputs import Outputs
from yoloship._util.writing import Place
from yoloship.errors import OutputError


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("best.pt").write_bytes(b"a training of a week")
    return tmp_path


def refusal(outputs: Outputs, path: Path | str) -> str:
    with pytest.raises(OutputError) as caught:
        outputs.claim(Path(path))
    return str(caught.value)


@pytest.mark.parametrize("way", ["itself", "link", "hard link", "link to link", "dots"])
def test_an_input_is_never_replaced_however_it_is_named(work: Path, way: str) -> None:
    name = {"itself": "best.pt", "dots": "sub/../best.pt"}.get(way, "other.json")
    Path("sub").mkdir()
    if way == "link":
        Path(name).symlink_to("best.pt")
    elif way == "hard link":
        os.link("best.pt", name)
    elif way == "link to link":
        Path("middle").symlink_to(work / "best.pt")
        Path(name).symlink_to("middle")
    outputs = Outputs([Path("none.jpg"), Path("best.pt")], overwrite=True)
    assert refusal(outputs, name).startswith(f"{Path(name)}: would replace an input")


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system has no /dev/fd")
def test_an_input_is_not_written_to_through_a_descriptor_either(work: Path) -> None:
    with Path("best.pt").open("ab") as file:
        outputs = Outputs([Path("best.pt")], overwrite=True)
        assert "would replace an input: got best.pt" in refusal(outputs, f"/dev/fd/{file.fileno()}")


def test_inputs_that_take_time_to_find_are_asked_for_only_where_something_exists(work: Path) -> None:
    asked: list[Path] = []

    def more(output: Place) -> list[Path]:
        asked.append(output.path)
        return [Path("weights.data")]

    outputs = Outputs([], overwrite=True, more_inputs=more)
    outputs.claim(Path("new.json"))
    assert not asked
    Path("weights.data").touch()
    assert "would replace an input" in refusal(outputs, "weights.data")
    assert asked == [Path("weights.data")]


def test_what_exists_needs_to_be_allowed(work: Path) -> None:
    Path("a.json").touch()
    assert (
        refusal(Outputs([], overwrite=False), "a.json") == "a.json: already exists; give another name, or --overwrite"
    )
    Outputs([], overwrite=True).claim(Path("a.json"))
    Outputs([], overwrite=False).claim(Path("a.json"), replaces=True)


def test_folders_are_never_replaced_and_have_to_exist(work: Path) -> None:
    outputs = Outputs([], overwrite=True)
    assert "is a folder, not a file" in refusal(outputs, ".")
    assert refusal(outputs, "no/a.json") == "no: folder does not exist; make it first"
    Path("link").symlink_to("no/b.json")
    assert refusal(outputs, "link") == "no: folder does not exist; make it first"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_streams_need_no_permission_and_can_be_declined(work: Path) -> None:
    os.mkfifo("pipe")
    outputs = Outputs([], overwrite=False)
    outputs.claim(Path("pipe"))
    outputs.claim(Path("/dev/null"))
    outputs.claim(Path("/dev/null"))
    with pytest.raises(OutputError, match="is not a regular file, which this output needs"):
        Outputs([], overwrite=True).claim(Path("pipe"), streams=False)


def test_two_outputs_have_two_names(work: Path) -> None:
    outputs = Outputs([], overwrite=True)
    outputs.claim(Path("a.json"))
    assert refusal(outputs, "./A.JSON") == "A.JSON: is used for two outputs; give each its own name"
    Path("sub").mkdir()
    Path("same").symlink_to("sub")
    outputs.claim(Path("sub/x"))
    assert "two outputs" in refusal(outputs, "same/x")


def test_many_names_of_one_folder_are_settled_at_once(work: Path) -> None:
    outputs = Outputs([Path("best.pt")], overwrite=True)
    outputs.claim_inside(Path("new"), [f"{index}.jpg" for index in range(100)])
    outputs.claim_inside(Path(), ["1.jpg", "2.jpg"])
    with pytest.raises(OutputError, match=r"best\.pt: would replace an input"):
        outputs.claim_inside(Path(), ["best.pt"])
    with pytest.raises(OutputError, match=r"best\.pt: is a file, not a folder"):
        outputs.claim_inside(Path("best.pt"), ["1.jpg"])
    Path("2.png").touch()
    with pytest.raises(OutputError, match=r"2\.png: already exists"):
        Outputs([], overwrite=False).claim_inside(Path(), ["1.png", "2.png"])
    with pytest.raises(OutputError, match="two outputs"):
        outputs.claim(Path("1.jpg"))


@pytest.mark.skipif(os.name != "posix", reason="this system locks files in another way")
def test_what_killed_processes_left_is_removed_from_the_folders_of_outputs(work: Path) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
        part = Path(folder, ".0123456789ab.part")
        part.touch()
        os.utime(part, (1_000_000_000, 1_000_000_000))
    outputs = Outputs([], overwrite=False)
    outputs.claim(Path("one/found.json"))
    outputs.claim_inside(Path("two"), ["a.jpg"])
    assert list(Path("one").iterdir()) == list(Path("two").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_is_said_before_any_work(work: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    assert "no permission to write in its folder" in refusal(Outputs([], overwrite=True), "locked/a.json")


def test_a_name_that_is_too_long_is_said_before_any_work(work: Path) -> None:
    assert "File name too long; give a shorter name" in refusal(Outputs([], overwrite=True), "x" * 300)
