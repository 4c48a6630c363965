"""Tables that installed packages can add to."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.plugins import install
from yoloship._util.tables import Table
from yoloship.errors import DependencyError, InputError

GROUP = "yoloship.made_up"


@pytest.fixture
def table() -> Table[object]:
    return Table(GROUP, "shape", {"fraction": "fractions:Fraction", "decimal": "decimal:Decimal"})


def test_a_class_is_imported_by_its_name(table: Table[object]) -> None:
    from fractions import Fraction

    assert table.load("fraction") is Fraction
    assert dict(table) == {"fraction": "fractions:Fraction", "decimal": "decimal:Decimal"}


def test_an_unknown_name_is_refused_with_those_that_there_are(table: Table[object]) -> None:
    with pytest.raises(InputError, match="is not a known shape") as raised:
        table.load("fractoin")
    assert (raised.value.expected, raised.value.hint) == ("fraction, decimal", "did you mean 'fraction'?")


def test_an_installed_package_adds_an_entry(
    table: Table[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = "class Circle:\n    pass\n"
    install(monkeypatch, tmp_path, GROUP, {"circle": "acme_shapes:Circle"}, modules={"acme_shapes": source})
    assert "circle" in table
    assert len(table) == 3
    assert list(table) == ["fraction", "decimal", "circle"]
    assert table["circle"] == "acme_shapes:Circle"
    assert table.load("circle").__name__ == "Circle"


def test_no_package_replaces_an_entry_of_ours(
    table: Table[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path, GROUP, {"decimal": "collections:OrderedDict"})
    assert table.load("decimal").__name__ == "Decimal"
    assert list(table) == ["fraction", "decimal"]


def test_two_packages_with_one_name_are_refused(
    table: Table[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path / "a", GROUP, {"circle": "collections:Counter"}, package="acme")
    install(monkeypatch, tmp_path / "b", GROUP, {"circle": "collections:OrderedDict"}, package="bolt")
    with pytest.raises(DependencyError, match="two installed packages add a shape of this name"):
        table.load("circle")


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("acme_missing:Circle", "the shape that acme adds cannot be imported: No module named 'acme_missing'"),
        ("collections:Circle", "the shape that acme adds cannot be imported"),
        ("collections:namedtuple", "the shape that acme adds is not a class"),
    ],
)
def test_a_package_that_is_broken_is_named(
    table: Table[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, problem: str
) -> None:
    install(monkeypatch, tmp_path, GROUP, {"circle": place})
    with pytest.raises(DependencyError, match=problem):
        table.load("circle")
