from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.plugins import install
from yoloship._util.tables import Table
from yoloship.errors import DependencyError, InputError

if TYPE_CHECKING:
    from pathlib import Path

GROUP = "yoloship.things_of_tests"
OURS = {"json": "json:JSONDecoder", "path": "pathlib:PurePath"}


def table() -> Table[object]:
    return Table(GROUP, "thing", OURS)


def test_an_entry_is_imported_when_it_is_asked_for() -> None:
    from json import JSONDecoder

    assert table().load("json") is JSONDecoder
    assert dict(table()) == OURS


def test_a_package_adds_an_entry_behind_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path / "a", GROUP, {"mine": "acme_mine:Mine"}, modules={"acme_mine": "class Mine: pass"})
    assert list(table()) == ["json", "path", "mine"]
    assert table().load("mine").__name__ == "Mine"
    assert table()["mine"] == "acme_mine:Mine"
    assert "mine" in table()
    assert len(table()) == 3


def test_no_package_replaces_an_entry_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from json import JSONDecoder

    install(monkeypatch, tmp_path / "a", GROUP, {"json": "acme_json:Evil"}, modules={"acme_json": "class Evil: pass"})
    assert table().others() == []
    assert table().load("json") is JSONDecoder
    assert table()["json"] == OURS["json"]
    assert list(table()) == ["json", "path"]


def test_two_packages_that_add_one_name_are_refused_by_both_classes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for package in ("acme", "best"):
        install(monkeypatch, tmp_path / package, GROUP, {"mine": f"{package}_mine:Mine"}, package=package)
    with pytest.raises(DependencyError, match="two installed packages add a thing of this name") as caught:
        table().load("mine")
    assert "acme_mine:Mine" in str(caught.value)
    assert "best_mine:Mine" in str(caught.value)


def test_an_unknown_name_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(InputError, match=r"jsn: is not a known thing: expected json, path; did you mean 'json'\?"):
        table().load("jsn")


@pytest.mark.parametrize(
    ("place", "source", "words"),
    [
        ("acme_none:Mine", None, "the thing that acme adds cannot be imported"),
        ("acme_mine:Other", "class Mine: pass", "the thing that acme adds cannot be imported"),
        ("acme_mine:mine", "def mine(): pass", "the thing that acme adds is not a class"),
    ],
)
def test_an_entry_that_cannot_be_used_names_its_package(
    place: str, source: str | None, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(
        monkeypatch, tmp_path / "a", GROUP, {"mine": place}, modules={} if source is None else {"acme_mine": source}
    )
    with pytest.raises(DependencyError, match=words):
        table().load("mine")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('at import')", "cannot be imported: RuntimeError: at import"),
        ("class Mine: pass", r"is not a subclass of yoloship\.sinks\.sink\.Sink"),
        (
            "from yoloship.sinks import Sink\nclass Mine(Sink): option = ('--mine',)",
            "does not define help, close, open, write: expected acme_mine:Mine",
        ),
    ],
)
def test_a_class_that_does_not_fit_is_refused_when_it_is_loaded_and_not_when_it_is_used(
    source: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path / "a", GROUP, {"mine": "acme_mine:Mine"}, modules={"acme_mine": source})
    sinks: Table[object] = Table(GROUP, "thing", OURS, base="yoloship.sinks.sink:Sink")
    with pytest.raises(DependencyError, match=f"mine: the thing that acme adds {words}"):
        sinks.load("mine")


def test_two_packages_of_one_name_trouble_nobody_who_does_not_use_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for package in ("acme", "best"):
        install(monkeypatch, tmp_path / package, GROUP, {"mine": f"{package}_mine:Mine"}, package=package)
    assert table().others() == ["mine"]
    assert "other" not in table()
