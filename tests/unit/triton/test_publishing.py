"""Models of a repository appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from yoloship.errors import OutputError
from yoloship.triton import publishing
from yoloship.triton.publishing import building, check_places, publish


def model(folder: Path, text: str = "new") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(text)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_models_get_their_names_and_nothing_else_is_left(tmp_path: Path) -> None:
    with building(tmp_path / "repository") as part:
        model(part / "a")
        assert names(tmp_path) == [part.name]
        publish(part, tmp_path / "repository", ["a"])
    assert names(tmp_path) == ["repository"]
    assert names(tmp_path / "repository") == ["a"]


def test_a_model_that_is_replaced_goes_whole_and_others_stay(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (model(repository / "a", "old") / "left.txt").write_text("of the old one")
    model(repository / "b", "other")
    with building(repository) as part:
        model(part / "a")
        publish(part, repository, ["a"])
    assert names(repository / "a") == ["config.pbtxt"]
    assert (repository / "a/config.pbtxt").read_text() == "new"
    assert (repository / "b/config.pbtxt").read_text() == "other"
    assert names(tmp_path) == ["repository"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    model(repository / "a", "old")
    with pytest.raises(OutputError, match=r"repository"), building(repository) as part:
        (part / "a").write_text("a file, which cannot be renamed over nothing: its folder is missing")
        publish(part, repository, ["missing"])
    assert names(tmp_path) == ["repository"]
    assert (repository / "a/config.pbtxt").read_text() == "old"


def test_a_model_whose_successor_cannot_take_its_place_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    model(repository / "a", "old")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "a" and self.parent.name.endswith(".part"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="No space left on device"), building(repository) as part:
        model(part / "a")
        publish(part, repository, ["a"])
    assert (repository / "a/config.pbtxt").read_text() == "old"


def test_a_name_that_is_taken_needs_overwrite(tmp_path: Path) -> None:
    model(tmp_path / "r/a")
    with pytest.raises(OutputError, match=r"r/a: already exists; --overwrite replaces this model"):
        check_places(tmp_path / "r", ["a"], [], overwrite=False)
    check_places(tmp_path / "r", ["a"], [], overwrite=True)


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_not_a_model_is_never_replaced(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "r/a"
    place.parent.mkdir()
    if kind == "folder":
        place.mkdir()
    elif kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(model(tmp_path / "elsewhere"))
    with pytest.raises(OutputError, match=r"r/a: is not the folder of a model, so it is not replaced"):
        check_places(tmp_path / "r", ["a"], [], overwrite=True)


def test_a_model_that_is_read_is_never_replaced(tmp_path: Path) -> None:
    folder = model(tmp_path / "r/a")
    (folder / "1").mkdir()
    file = folder / "1/model.onnx"
    file.write_bytes(b"x")
    (tmp_path / "link.onnx").symlink_to(file)
    with pytest.raises(OutputError, match=r"r/a: would replace an input: got .*link.onnx"):
        check_places(tmp_path / "r", ["a"], [tmp_path / "link.onnx"], overwrite=True)


def test_a_repository_needs_a_folder_around_it_and_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder does not exist; make it first"):
        check_places(tmp_path / "no/r", ["a"], [], overwrite=False)
    (tmp_path / "r").write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_places(tmp_path / "r", ["a"], [], overwrite=False)


def test_what_a_killed_run_left_is_removed_a_day_later(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".r.0123456789ab.part", ".r.0123456789ac.part", ".x.part"))
    for folder in (old, new, other):
        folder.mkdir()
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    with building(tmp_path / "r"):
        pass
    assert names(tmp_path) == [new.name, other.name]


def test_the_folders_can_be_read_by_a_server_of_another_user(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with building(tmp_path / "r") as part:
            model(part / "a")
            publish(part, tmp_path / "r", ["a"])
    finally:
        os.umask(before)
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "r/a").stat().st_mode & 0o777 == 0o755


def test_the_name_of_a_configuration_is_tritons() -> None:
    assert publishing.CONFIG == "config.pbtxt"
